#!/usr/bin/python3
"""OpenAI's API over the newest checkpoint of the training beside it, for one replica of a service.

It is an ordinary HTTP server that listens on the port it is given. What makes it fit for standby are three routes, as
vLLM has them: /health, /sleep, which lets go of the model, and /wake_up, which loads the newest checkpoint again.
"""

import argparse
import codecs
import gc
import http.server
import json
import os
import socketserver
import sys
import threading
import time

os.environ.setdefault("WORLD_SIZE", "1")
import torch  # noqa: E402

from train import CONTEXT, TinyGpt, checkpoints_in  # noqa: E402

TEMPERATURE = 0.8
MOST_TOKENS = 512


class Model:
    """The model, while it is awake. Requests take turns at each token, so all of them go on."""

    def __init__(self, folder):
        self.folder = folder
        self.turn = threading.Lock()
        self.gpt = None
        self.name = ""  # of the checkpoint that answers

    def wake(self):
        for path in checkpoints_in(self.folder):
            try:
                state = torch.load(path)
                gpt = TinyGpt()
                gpt.load_state_dict(state["model"])
            except Exception as error:  # torch names no type for a broken file
                print(f"{path} is not valid, trying the one before it: {error}", flush=True)
                continue
            with self.turn:
                self.gpt, self.name = gpt.eval(), os.path.basename(path)
            print(f"serving {self.name}", flush=True)
            return True
        return False

    def sleep(self):
        with self.turn:
            self.gpt = None
        gc.collect()

    def next_byte(self, context, chance, temperature):
        """The byte after `context`; None where the model has gone to sleep."""
        with self.turn, torch.no_grad():
            if self.gpt is None:
                return None
            seen = context[-CONTEXT:]
            window = torch.zeros(1, CONTEXT, dtype=torch.long)
            window[0, : len(seen)] = torch.tensor(list(seen))
            logits = self.gpt(window)[0, len(seen) - 1]
            if temperature <= 0:
                return int(logits.argmax())
            return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=chance))


def prompt_of(body):
    """What is to be gone on with: the text of all messages, or the prompt."""
    if "messages" in body:
        texts = []
        for message in body["messages"]:
            content = message["content"]
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            texts.append(content or "")
        text = "\n".join(texts)
    else:
        text = body["prompt"]
        text = text if isinstance(text, str) else "\n".join(text)
    return text.encode() or b"\n"


class Answer:
    """One answer in the making, and its form on the wire."""

    def __init__(self, body, is_chat):
        self.prompt = prompt_of(body)
        self.is_chat = is_chat
        self.model = str(body.get("model", "tiny-gpt"))
        most = body.get("max_completion_tokens") or body.get("max_tokens") or 64
        self.tokens = max(1, min(int(most), MOST_TOKENS))
        temperature = body.get("temperature")
        self.temperature = TEMPERATURE if temperature is None else float(temperature)
        self.chance = torch.Generator().manual_seed(int(body.get("seed") or 0))
        self.wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.id = f"{'chatcmpl' if is_chat else 'cmpl'}-{os.getpid()}-{time.monotonic_ns()}"
        self.made = 0

    def texts(self, model):
        """The answer's text, a token at a time; a token is a byte, so some are empty."""
        context = bytearray(self.prompt)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for _ in range(self.tokens):
            byte = model.next_byte(context, self.chance, self.temperature)
            if byte is None:
                return
            context.append(byte)
            self.made += 1
            yield decoder.decode(bytes([byte]))

    def usage(self):
        return {"prompt_tokens": len(self.prompt), "completion_tokens": self.made,
                "total_tokens": len(self.prompt) + self.made}

    def head(self, kind):
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.model}

    def whole(self, text):
        choice = {"index": 0, "finish_reason": "length", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self.head(kind) | {"choices": [choice], "usage": self.usage()}

    def frame(self, text, reason=None):
        choice = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice |= {"delta": {"content": text} if text else {}} if self.is_chat else {"text": text}
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return self.head(kind) | {"choices": [choice]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = None  # of the server

    def log_message(self, *_):
        pass

    def reply(self, status, body, **fields):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def complain(self, status, message, **fields):
        self.reply(status, {"error": {"message": message, "type": "invalid_request_error" if status < 500 else
                                      "service_unavailable_error", "param": None, "code": None}}, **fields)

    def do_GET(self):
        if self.path == "/health":
            return self.reply(200 if self.model.gpt else 503, {})
        if self.path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [{"id": "tiny-gpt", "object": "model", "created": 0,
                                                                "owned_by": self.model.name}]})
        self.complain(404, "there is no such route")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route = self.path.split("?")[0]
        if route == "/sleep":
            self.model.sleep()
            return self.reply(200, {})
        if route == "/wake_up":
            return self.reply(200 if self.model.wake() else 503, {})
        if route not in ("/v1/chat/completions", "/v1/completions"):
            return self.complain(404, "there is no such route")
        if self.model.gpt is None:
            return self.complain(503, "this replica sleeps", x_stargate_asleep="1")
        try:
            asked = json.loads(body)
            answer = Answer(asked, route.endswith("chat/completions"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self.complain(400, f"this is no request that can be answered: {error}")
        if asked.get("stream"):
            return self.stream(answer)
        return self.reply(200, answer.whole("".join(answer.texts(self.model))))

    def stream(self, answer):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in answer.texts(self.model):
            self.send_frame(json.dumps(answer.frame(text)))
        if answer.made < answer.tokens:
            self.close_connection = True  # it was put to sleep over this: what came is not whole
            return
        self.send_frame(json.dumps(answer.frame("", "length")))
        if answer.wants_usage:
            self.send_frame(json.dumps(answer.frame("") | {"choices": [], "usage": answer.usage()}))
        self.send_frame("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def send_frame(self, data):
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a client that has gone


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", default="checkpoints", help="where the training writes its checkpoints")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    parser.add_argument("--wait", type=float, default=600, help="seconds to wait for the first checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    Handler.model = Model(args.dir)
    server = Server(("127.0.0.1", args.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    until = time.monotonic() + args.wait
    while not Handler.model.wake():
        if time.monotonic() > until:
            sys.exit(f"no checkpoint came to {args.dir}: start the training first")
        time.sleep(0.5)
    threading.Event().wait()


if __name__ == "__main__":
    main()
