"""Replies of the real control plane against src/api/openapi.json: each member that it has to have, and none beside it."""

import copy
import json
import os
import pwd
import unittest
import urllib.parse

import jsonschema

from machine import Machine
from harness import BINARY, ROOT, wait_until

DOCUMENT = json.loads((ROOT / "src" / "api" / "openapi.json").read_text())


def closed(schema):
    """The same, in which an object may have no member that is not named: the document is complete."""
    schema = copy.deepcopy(schema)

    def close(part):
        if isinstance(part, dict):
            if "properties" in part and "additionalProperties" not in part:
                part["unevaluatedProperties"] = False
            for value in part.values():
                close(value)
        elif isinstance(part, list):
            for value in part:
                close(value)

    close(schema)
    # Of what is put together, the whole is closed, and its parts are not.
    for name, whole in schema["components"]["schemas"].items():
        if "allOf" not in whole:
            continue
        members, required = {}, []
        for part in whole["allOf"]:
            if "$ref" in part:
                part = schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]
            members |= part["properties"]
            required += part["required"]
        schema["components"]["schemas"][name] = {"type": "object", "properties": members, "required": required,
                                                 "unevaluatedProperties": False}
    # What facts have of their own is docs/events.md's, which a unit test compares with the code.
    schema["components"]["schemas"]["Event"].pop("unevaluatedProperties")
    return schema


CLOSED = closed(DOCUMENT)


class Replies(Machine):
    """Every route with what it documents, on a control plane that runs, keeps waiting and serves something."""

    def call(self, method, route, body=None, status=200, query="", **path):
        operation = DOCUMENT["paths"][route][method]
        target = route.format(**{name: urllib.parse.quote(str(value), safe="/") for name, value in path.items()})
        got, reply = self.ask(method.upper(), target + query, body)
        self.assertEqual(got, status, reply)
        documented = operation["responses"].get(str(status), operation["responses"]["default"])
        if "$ref" in documented:
            documented = DOCUMENT["components"]["responses"][documented["$ref"].rsplit("/", 1)[1]]
        schema = documented["content"]["application/json"]["schema"]
        reply = json.loads(reply) if isinstance(reply, bytes) else reply
        jsonschema.Draft202012Validator({**schema, "components": CLOSED["components"]}).validate(reply)
        if body and "application/json" in operation["requestBody"]["content"]:
            sent = operation["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator({**sent, "components": CLOSED["components"]}).validate(body)
        self.called.add((method, route))
        return reply

    def test_replies_are_as_the_document_says(self):
        self.called = set()
        self.stargate.up()
        jobs, job = "/api/v1/jobs", "/api/v1/jobs/{ref}"
        folder = str(self.folder)
        ended = self.call("post", jobs, {"argv": ["true"], "folder": folder, "name": "ended", "count": 2}, 201)
        self.stargate.wait_for("ended[1]", "succeeded")
        failed = self.call("post", jobs, {"argv": ["false"], "folder": folder, "name": "failed"}, 201)
        self.stargate.wait_for("failed", "failed")
        mock = f"kind: service\nname: mock\nrun: exec {BINARY} mock-engine --port $PORT\n"
        self.call("post", jobs, {"yaml": mock, "file": "mock.yaml", "folder": folder}, 201)
        elsewhere = "kind: service\nname: elsewhere\nendpoints: [http://127.0.0.1:9]\n"
        self.call("post", jobs, {"yaml": elsewhere, "file": "e.yaml", "folder": folder}, 201)
        elastic = {"argv": ["sleep", "600"], "folder": folder, "name": "elastic", "gpus": "1..2", "memory": "1MiB"}
        self.call("post", jobs, elastic, 201)
        self.call("post", jobs, {"argv": ["true"], "folder": folder, "name": "big", "gpus": 4, "after": ["elastic"]}, 201)
        self.call("post", jobs, {"argv": ["true"], "folder": folder, "name": "wide", "gpus": 4}, 201)
        self.stargate.wait_for("elastic", "running")
        self.call("post", jobs, {"argv": ["true"], "folder": folder, "gpus": 5}, 422)
        self.call("post", jobs, {"yaml": "kind: x", "file": "x.yaml", "folder": folder}, 422)
        wait_until("the endpoint has been asked", lambda: self.call("get", job, ref="elsewhere")["endpoints"][0]["detail"])

        self.call("get", jobs)
        self.call("get", jobs, query="?active=1&limit=2&state=waiting")
        self.call("get", jobs, query="?nothing=1", status=400)
        for ref in (ended["id"], failed["id"], "mock", "elastic", "big", "wide"):
            self.call("get", job, ref=ref)
        self.call("get", job, ref="nobody", status=404)
        for ref in ("big", "wide", "elastic", ended["id"]):
            self.call("get", job + "/why", ref=ref)
        self.call("post", job + "/hold", ref="wide")
        self.call("post", job + "/release", ref="wide")
        self.call("post", job + "/resize", ref="elastic", query="?gpus=2")
        self.call("post", job + "/resize", {"gpus": 1}, ref="elastic")
        self.call("patch", job, {"priority": "opportunistic", "time": "2h", "gpus": "3..4", "after": []}, ref="wide")
        self.call("patch", job, {"gpus": 4}, ref="wide")
        self.call("patch", job, {"time": "0s"}, ref="wide", status=422)
        self.call("post", jobs, {"argv": ["cat"], "folder": folder, "name": "typed", "gpus": 0, "terminal": True}, 201)
        self.stargate.wait_for("typed", "running")
        self.call("post", job + "/input", "a line\n", ref="typed")
        self.call("post", job + "/input", "a line\n", ref="elastic", status=409)
        self.call("post", job + "/window", {"rows": 40, "columns": 120}, ref="typed")
        self.call("post", job + "/cancel", ref="wide")
        self.call("post", job + "/cancel", ref="wide", status=409)

        node = self.call("get", "/api/v1/fleet")[0]["name"]
        self.call("post", "/api/v1/fleet/{node}/drain", node=node)
        self.call("get", "/api/v1/fleet")
        self.call("post", "/api/v1/fleet/{node}/undrain", node=node)
        change = {"quota": 8, "weight": 2, "priorities": ["research"], "members": [pwd.getpwuid(os.geteuid()).pw_name]}
        self.call("put", "/api/v1/tenants/{path}", change, path="lab/nlp")
        self.call("get", "/api/v1/tenants")
        self.call("get", "/api/v1/services")
        self.call("post", "/api/v1/tokens", {"gateway": True, "tenant": "default", "name": "key"}, 201)
        self.call("post", "/api/v1/tokens", {"name": "ci", "uid": 1000}, 201)
        token = self.call("get", "/api/v1/tokens")[0]["id"]
        self.call("delete", "/api/v1/tokens/{id}", id=token)
        self.call("get", "/api/v1/usage")
        self.call("get", "/api/v1/history")
        self.call("get", "/api/v1/history", query="?since=1&owner=0&tenant=default&limit=2")
        self.call("get", "/api/v1/history", query="?tenant=nobody", status=404)
        self.call("get", "/api/v1/history/usage", query=f"?until={2**62}")
        self.call("get", "/api/v1/events")
        self.call("get", "/api/v1/events/types")
        self.call("get", "/api/v1/whoami")
        self.call("get", "/api/v1/info")
        self.assertEqual(self.call("get", "/openapi.json"), DOCUMENT)
        self.call("post", "/api/v1/shutdown", {"jobs": True}, 202)

        as_json = {(method, route) for route, path in DOCUMENT["paths"].items() for method, operation in path.items()
                   if any("application/json" in each.get("content", {}) for each in operation["responses"].values())}
        self.assertEqual(self.called, as_json)


if __name__ == "__main__":
    unittest.main()
