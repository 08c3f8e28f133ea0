#include "api/frame.hpp"
#include "api/server_testing.hpp"

#include <sys/stat.h>

namespace stargate::api {
namespace {

TEST_F(ServerTest, AJobIsSubmittedListedAndShown) {
    start();
    auto w = wire();
    const auto made = w.ask("POST", "/api/v1/jobs", command);
    EXPECT_EQ(made.status, 201) << made.body;
    EXPECT_EQ(made.json()["id"].whole, 1);
    const auto jobs = w.ask("GET", "/api/v1/jobs").json();
    ASSERT_EQ(jobs.items.size(), 1U);
    EXPECT_EQ(jobs.items[0]["name"].text, "a");
    EXPECT_EQ(jobs.items[0]["state"].text, "starting");
    EXPECT_EQ(jobs.items[0]["gpus"].whole, 1);
    const auto shown = w.ask("GET", "/api/v1/jobs/a");
    EXPECT_EQ(shown.json()["launch"]["argv"].items.size(), 1U) << shown.body;
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs/nothing").code(), "not_found");
}

TEST_F(ServerTest, AJobFileIsReadAndItsErrorsComeBack) {
    start();
    auto w = wire();
    const auto bad = w.ask("POST", "/api/v1/jobs",
                           R"({"yaml":"kind: batch\nname: a\nrun: x\ngpu: 1\n","file":"j.yaml","folder":"/"})");
    EXPECT_EQ(bad.status, 422);
    EXPECT_EQ(bad.json()["error"]["message"].text, "j.yaml:4: gpu: no such field (did you mean `gpus`?)");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs", R"({"yaml":"kind: batch\nname: a\nrun: x\n","folder":"/"})").status, 201);
}

TEST_F(ServerTest, WhatCanNeverRunIsRefusedAtOnce) {
    start();
    auto w = wire();
    const auto message = [&](const std::string& body) {
        const auto got = w.ask("POST", "/api/v1/jobs", body);
        EXPECT_EQ(got.status, 422) << got.body;
        return got.json()["error"]["message"].text;
    };
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"/","gpus":99})"), "it needs 99 GPUs, more than there are: 4");
    EXPECT_EQ(message(R"({"argv":["no-such-program"],"folder":"/"})"),
              "command: no-such-program is not found in /usr/local/bin:/usr/bin:/bin");
    EXPECT_EQ(message(R"({"argv":["/etc/passwd"],"folder":"/"})").substr(0, 34), "command: /etc/passwd is no program");
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"/no/such"})").substr(0, 34), "folder: /no/such cannot be entered");
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"x"})").substr(0, 7), "folder:");
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"/","tenant":"lab"})"), "there is no tenant `lab`");
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"/","gpuz":1})"), "gpuz: no such member (did you mean `gpus`?)");
    EXPECT_EQ(message(R"({"argv":["true"],"folder":"/","count":0})"), "count: `0` is no number from 1 to 100000");
    EXPECT_EQ(message(R"({"argv":[],"folder":"/"})"), "argv: no list of words");
    EXPECT_EQ(message(R"({"argv":"true","folder":"/"})"), "argv: no list of words");
    EXPECT_EQ(message(R"({"folder":"/"})"), "argv: is missing");
    EXPECT_EQ(message("{").substr(0, 8), "not JSON");
    EXPECT_EQ(message("[1]"), "body: not a JSON object");
    const auto denied = w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","priority":"system"})");
    EXPECT_EQ(denied.status, 403) << denied.body;
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs").body, "[]\n");
}

TEST_F(ServerTest, AFolderIsEnteredWithTheRightsOfTheAccount) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to take on another account's rights";
    start();
    const auto secret = folder_.path() + "/secret";
    ASSERT_EQ(mkdir(secret.c_str(), 0700), 0);
    auto w = wire();
    const auto got = w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":")" + secret + "\"}");
    EXPECT_EQ(got.status, 422) << got.body;
    EXPECT_NE(got.json()["error"]["message"].text.find("Permission denied"), std::string::npos) << got.body;
}

TEST_F(ServerTest, AnIdempotencyKeyStandsForOneRequest) {
    start();
    auto w = wire();
    const auto first = w.ask("POST", "/api/v1/jobs", command, "Idempotency-Key: k\r\n");
    const auto again = w.ask("POST", "/api/v1/jobs", command, "Idempotency-Key: k\r\n");
    EXPECT_EQ(first.body, again.body);
    const auto other = w.ask("POST", "/api/v1/jobs", R"({"argv":["false"],"folder":"/"})", "Idempotency-Key: k\r\n");
    EXPECT_EQ(other.status, 409);
    EXPECT_EQ(other.code(), "key_conflict");
}

TEST_F(ServerTest, AFullStoreIsToldAs507) {
    start();
    control_.broken = "the disk is full";
    auto w = wire();
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs", command).status, 507);
}

TEST_F(ServerTest, ManyRequestsOnOneConnectionAreAnsweredInOrder) {
    start();
    auto w = wire();
    std::string all;
    for (int i = 0; i < 20; ++i) all += Wire::text("POST", "/api/v1/jobs", command);
    all += Wire::text("GET", "/api/v1/jobs?limit=2") + Wire::text("GET", "/nowhere") + Wire::text("GET", "/healthz");
    w.send(all);
    for (int i = 1; i <= 20; ++i) EXPECT_EQ(w.reply().json()["id"].whole, i);
    EXPECT_EQ(w.reply().json().items.size(), 2U);
    EXPECT_EQ(w.reply().status, 404);
    EXPECT_EQ(w.reply().body, "ok\n");
}

TEST_F(ServerTest, HoldReleaseCancelResizeAndDrain) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"h","held":true})");
    const auto state = [&](const std::string& job) { return w.ask("GET", "/api/v1/jobs/" + job).json(); };
    EXPECT_EQ(state("h")["reason"].text, "held");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/h/release").status, 200);
    EXPECT_EQ(state("h")["state"].text, "starting");
    const auto rigid = w.ask("POST", "/api/v1/jobs/h/resize", R"({"gpus":2})");
    EXPECT_EQ(rigid.status, 422) << rigid.body;
    const auto size = [&](const std::string& body, const std::string& query = "") {
        return w.ask("POST", "/api/v1/jobs/h/resize" + query, body).json()["error"]["message"].text;
    };
    EXPECT_EQ(size("{}"), "gpus: is missing");
    for (const auto* wrong : {R"({"gpus":"2"})", R"({"gpus":[2]})", R"({"gpus":1.5})", R"({"gpus":-1})"}) {
        EXPECT_EQ(size(wrong), "gpus: no whole number from 0 to 10000000") << wrong;
    }
    EXPECT_EQ(size("", "?gpus=x"), "gpus: `x` is no whole number from 0 to 10000000");
    EXPECT_EQ(size("[2]"), "body: not a JSON object");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/h/cancel").status, 200);
    EXPECT_EQ(state("h")["state"].text, "stopping");
    EXPECT_EQ(state("h")["reason"].text, "cancel");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/x/cancel").status, 404);
    EXPECT_EQ(w.ask("POST", "/api/v1/fleet/n1/drain").status, 200);
    EXPECT_EQ(w.ask("GET", "/api/v1/fleet").json().items[0]["state"].text, "draining");
    EXPECT_EQ(w.ask("POST", "/api/v1/fleet/n1/undrain").status, 200);
    EXPECT_EQ(w.ask("POST", "/api/v1/fleet/n9/drain").status, 404);
}

TEST_F(ServerTest, AResizeThatCannotBeSaysWhy) {
    start();
    auto w = wire();
    const auto submit = [&](const std::string& members) {
        const auto reply = w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/",)" + members + "}");
        EXPECT_EQ(reply.status, 201) << reply.body;
    };
    const auto refused = [&](const std::string& job, int status) {
        const auto reply = w.ask("POST", "/api/v1/jobs/" + job + "/resize", R"({"gpus":2})");
        EXPECT_EQ(reply.status, status) << reply.body;
        return reply.json()["error"]["message"].text;
    };
    submit(R"("name":"rigid","gpus":3,"held":true)");
    submit(R"("name":"later","gpus":"1..2","held":true)");
    submit(R"("name":"now","gpus":"1..4")");
    EXPECT_EQ(refused("rigid", 422), "it always runs on 3 GPUs");
    EXPECT_EQ(refused("later", 409), "later waits, and only a job that runs can be resized");
    control_.report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/now/resize", R"({"gpus":2})").status, 200);
    EXPECT_EQ(refused("now", 409), "now is being resized already");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/now/cancel").status, 200);
    EXPECT_EQ(refused("now", 409), "now is on its way out");
}

TEST_F(ServerTest, AnEndedJobShowsWhenItStartedAndWhereAlsoFromTheHistory) {
    control_.runs_at_once = true;
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"done"})");
    const auto shows = [&](const std::string& where) {
        SCOPED_TRACE(where);
        const auto row = w.ask("GET", "/api/v1/jobs/done").json();
        EXPECT_EQ(row["state"].text, "succeeded");
        EXPECT_GT(row["started_at"].whole, 0);
        EXPECT_GE(row["ended_at"].whole, row["started_at"].whole);
        ASSERT_EQ(row["nodes"].items.size(), 1U);
        EXPECT_EQ(row["nodes"].items[0].text, "n1");
    };
    shows("state");
    control_.retire_all();
    shows("history");
}

TEST_F(ServerTest, AnArrayHasARowForEachElementAndIsCancelledWhole) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"s","count":3,"gpus":4})");
    const auto rows = w.ask("GET", "/api/v1/jobs").json();
    ASSERT_EQ(rows.items.size(), 3U);
    EXPECT_EQ(rows.items[0]["name"].text, "s[2]");
    EXPECT_EQ(rows.items[0]["reason"].text, "no_gpus");
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs/s[1]").json()["id"].whole, 2);
    const auto why = w.ask("GET", "/api/v1/jobs/s[1]/why");
    EXPECT_EQ(why.json()["holders"].items[0]["name"].text, "s[0]") << why.body;
    EXPECT_EQ(why.json()["reasons"].items[0]["message"].text, "it needs 4 GPUs, and 0 are free") << why.body;
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/s/cancel").json()["jobs"].items.size(), 3U);
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs?state=cancelled").json().items.size(), 2U);
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs?active=1").json().items.size(), 1U);
}

TEST_F(ServerTest, OneReplicaOfAServiceIsNotCancelledAlone) {
    start();
    auto w = wire();
    const auto made = w.ask("POST", "/api/v1/jobs",
                            R"({"yaml":"kind: service\nname: chat\nreplicas: {min: 1, max: 2}\nrun: x\n",)"
                            R"("file":"chat.yaml","folder":"/"})");
    ASSERT_EQ(made.status, 201) << made.body;
    for (const auto* one : {"chat[0]", "chat[1]", "1", "2"}) {
        const auto refused = w.ask("POST", std::string{"/api/v1/jobs/"} + one + "/cancel");
        EXPECT_EQ(refused.status, 409) << refused.body;
        EXPECT_NE(refused.body.find("stargate cancel chat"), std::string::npos) << refused.body;
    }
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/chat/cancel").json()["jobs"].items.size(), 2U);
}

TEST_F(ServerTest, AServiceAndItsReplicaTellWhyTheLastAttemptFailed) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"yaml":"kind: service\nname: chat\nrun: x\n","file":"chat.yaml","folder":"/"})");
    EXPECT_EQ(w.ask("GET", "/api/v1/services").json().items[0]["trouble"].kind, Json::Kind::null);
    control_.report(RanksEnded{
        AttemptId{1}, NodeId{1}, 1, {ExitKind::refused, 0, "sshd listens on port 21001 already"}, false, -1, 0, false});
    EXPECT_EQ(w.ask("GET", "/api/v1/services").json().items[0]["trouble"].text, "sshd listens on port 21001 already");
    const auto detail = "its last attempt failed: sshd listens on port 21001 already";
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs/chat").json()["detail"].text, detail);
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs/chat/why").json()["detail"].text, detail);
}

TEST_F(ServerTest, AGatewayKeysMembersAreOfTheirKinds) {
    start();
    auto w = wire();
    for (const auto* body :
         {R"({"name":"k","gateway":"yes"})", R"({"name":"k","gateway":1})", R"({"name":"k","gateway":true,"tenant":5})",
          R"({"name":"k","gateway":true,"tenant":{}})"}) {
        const auto refused = w.ask("POST", "/api/v1/tokens", body);
        EXPECT_EQ(refused.status, 422) << refused.body;
        EXPECT_EQ(refused.code(), "malformed") << refused.body;
    }
}

TEST_F(ServerTest, TenantsAreSetByPath) {
    start();
    auto w = wire();
    EXPECT_EQ(w.ask("PUT", "/api/v1/tenants/lab/nlp", R"({"quota":2,"weight":3,"priorities":["research"]})").status,
              200);
    const auto rows = w.ask("GET", "/api/v1/tenants").json();
    ASSERT_EQ(rows.items.size(), 3U);
    EXPECT_EQ(rows.items[2]["name"].text, "lab/nlp");
    EXPECT_EQ(rows.items[2]["quota"].whole, 2);
    EXPECT_EQ(w.ask("PUT", "/api/v1/tenants/a%20b", "{}").status, 422);
    EXPECT_EQ(w.ask("PUT", "/api/v1/tenants/a", R"({"quota":-1})").status, 422);
}

TEST_F(ServerTest, AFollowedRunEndsWithItsExitStatus) {
    control_.runs_at_once = true;
    start();
    auto w = wire();
    w.send(Wire::text("POST", "/api/v1/jobs?follow=1", command));
    const auto head = w.until("\r\n\r\n");
    EXPECT_NE(head.find("application/x-stargate-frames"), std::string::npos) << head;
    const auto chunks = w.until("0\r\n\r\n");
    const auto accepted = chunks.find(R"({"id":1,"count":1,"name":"a"})");
    const auto out = chunks.find("out\n");
    const auto err = chunks.find("err\n");
    const auto end = chunks.find(R"({"state":"succeeded","exit_status":0,"detail":""})");
    EXPECT_LT(accepted, out);
    EXPECT_LT(out, err);
    EXPECT_LT(err, end);
    EXPECT_NE(end, std::string::npos) << chunks;
    const auto logs = w.ask("GET", "/api/v1/jobs/a/logs");  // the connection goes on
    EXPECT_EQ(logs.status, 200);
    EXPECT_EQ(logs.body, "out\nerr\n");
}

TEST_F(ServerTest, LogsAreFollowedAsTheyGrow) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    w.send(Wire::text("GET", "/api/v1/jobs/1/logs?follow=1"));
    w.until("\r\n\r\n");
    control_.report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
    control_.print(AttemptId{1}, "first\n");
    EXPECT_NE(w.until("first\n").find("first"), std::string::npos);
    control_.print(AttemptId{1}, "last\n");
    control_.report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {}, false, -1});
    EXPECT_NE(w.until("0\r\n\r\n").find("last\n"), std::string::npos);
}

TEST_F(ServerTest, EventsComeAsArrayLinesAndServerSent) {
    start();
    auto w = wire();
    const auto before = w.ask("GET", "/api/v1/events").json().items.size();
    EXPECT_GT(before, 0U);
    w.ask("POST", "/api/v1/jobs", command);
    const auto lines = w.ask("GET", "/api/v1/events?format=jsonl&from=" + std::to_string(before + 1));
    EXPECT_EQ(lines.body.substr(0, lines.body.find(",\"at\"")), "{\"seq\":" + std::to_string(before + 1));
    EXPECT_NE(lines.body.find(R"("type":"submitted","cause":"submit")"), std::string::npos) << lines.body;
    auto stream = wire();
    stream.send(Wire::text("GET", "/api/v1/events?from=1", {}, "Accept: text/event-stream\r\n"));
    const auto begun = stream.until("event: submitted\n");
    EXPECT_NE(begun.find("text/event-stream"), std::string::npos);
    EXPECT_EQ(begun.find("no longer in the log"), std::string::npos);
    control_.first_fact = 3;
    auto late = wire();
    late.send(Wire::text("GET", "/api/v1/events?from=1", {}, "Accept: text/event-stream\r\n"));
    EXPECT_NE(late.until("event: ").find(": facts 1 to 2 are no longer in the log\n\n"), std::string::npos);
    EXPECT_NE(w.ask("GET", "/api/v1/info").body.find(R"("first_fact":3,)"), std::string::npos);
    stream.until("event: started\n");
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"later"})");
    EXPECT_NE(stream.until("\"later\"").find("event: submitted"), std::string::npos);
    EXPECT_EQ(w.ask("GET", "/api/v1/events?limit=2").json().items.size(), 2U);
    EXPECT_EQ(w.ask("GET", "/api/v1/events/types").json().items.size(), fact_names.size());
}

TEST_F(ServerTest, MetricsNameStatesAndGpus) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    const auto text = w.ask("GET", "/metrics").body;
    EXPECT_NE(text.find("stargate_jobs{state=\"starting\"} 1\n"), std::string::npos) << text;
    EXPECT_NE(text.find("stargate_gpus{type=\"cpu\",use=\"free\"} 3\n"), std::string::npos);
    EXPECT_NE(text.find("stargate_http_requests_total{status=\"201\"} 1\n"), std::string::npos);
}

TEST_F(ServerTest, OverTcpNothingIsSaidWithoutAToken) {
    ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    start(setting);
    for (const auto* target : {"/api/v1/jobs", "/metrics", "/openapi.json", "/api/v1/events", "/nowhere"}) {
        EXPECT_EQ(tcp().ask("GET", target).status, 401) << target;
        EXPECT_EQ(tcp().ask("GET", target, {}, "Authorization: Bearer sg_wrong\r\n").status, 401) << target;
    }
    EXPECT_EQ(tcp().ask("GET", "/healthz").body, "ok\n");
    for (const auto* target : {"/", "/page.css", "/page.js"}) EXPECT_EQ(tcp().ask("GET", target).status, 200) << target;
    EXPECT_EQ(tcp().ask("POST", "/").status, 401);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, bearer()).status, 200);
    auto small_letters = bearer();
    small_letters.replace(small_letters.find("Bearer"), 6, "bearer");
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, small_letters).status, 200);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, "Authorization: bearer sg_wrong\r\n").status, 401);
    EXPECT_EQ(tcp().ask("POST", "/api/v1/tokens", R"({"name":7})", bearer()).json()["error"]["message"].text,
              "name: no text");
    const auto made = tcp().ask("POST", "/api/v1/tokens", R"({"name":"ci","uid":1234})", bearer());
    EXPECT_EQ(made.status, 201);
    const auto mine = "Authorization: Bearer " + made.json()["token"].text + "\r\n";
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, mine).json()["uid"].whole, 1234);
    ASSERT_EQ(tcp().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"one"})", bearer()).status,
              201);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs?mine=1", {}, bearer()).json().items.size(), 1U);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs", {}, mine).json().items.size(), 1U);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs?mine=1", {}, mine).json().items.size(), 0U);
    EXPECT_EQ(tcp().ask("POST", "/api/v1/tokens", "{}", mine).status, 403);
    EXPECT_EQ(tcp().ask("POST", "/api/v1/shutdown", "{}", mine).status, 403);
    EXPECT_EQ(tcp().ask("PUT", "/api/v1/tenants/x", "{}", mine).status, 403);
    EXPECT_EQ(tcp().ask("POST", "/api/v1/fleet/n1/drain", "", mine).status, 403);
    tcp().ask("POST", "/api/v1/jobs", command, bearer());
    EXPECT_EQ(tcp().ask("POST", "/api/v1/jobs/a/cancel", "", mine).status, 403);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs/a/logs", "", mine).status, 403);
    auto again = Tokens::open(folder_.path());
    EXPECT_TRUE(again->caller_of(made.json()["token"].text));
}

TEST_F(ServerTest, OverTcpOtherSitesPagesAreTurnedAway) {
    ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    start(setting);
    auto w = tcp();
    w.send("GET /healthz HTTP/1.1\r\nHost: evil.example:7433\r\n\r\n");
    EXPECT_EQ(w.reply().status, 403);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs", {}, bearer() + "Origin: http://evil.example\r\n").status, 403);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs", {}, bearer() + "Origin: http://localhost:5173\r\n").status, 200);
}

TEST_F(ServerTest, OtherAddressesAreAStartUpError) {
    start();
    for (const auto* listen : {"0.0.0.0:7433", "10.0.0.1:7433", "[::]:7433"}) {
        ServerSetting setting;
        setting.listen = listen;
        const auto server = Server::start(*api_, control_, setting);
        ASSERT_FALSE(server);
        EXPECT_NE(server.error().detail.find("TLS and a token are needed"), std::string::npos) << server.error().detail;
    }
    for (const auto* listen : {"7433", "127.0.0.1:", "127.0.0.1:99999", "host:1"}) {
        ServerSetting setting;
        setting.listen = listen;
        EXPECT_FALSE(Server::start(*api_, control_, setting)) << listen;
    }
}

TEST_F(ServerTest, APortInUseIsAStartUpError) {
    ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    start(setting);
    setting.listen = "127.0.0.1:" + std::to_string(server_->port());
    const auto second = Server::start(*api_, control_, setting);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().detail.find("choose another port"), std::string::npos) << second.error().detail;
}

TEST_F(ServerTest, TooMuchIsRefusedAndBrokenRequestsEndTheConnection) {
    start();
    EXPECT_EQ(wire().ask("POST", "/api/v1/jobs", std::string((1U << 20) + 1, 'x')).status, 413);
    EXPECT_EQ(wire().ask("GET", "/", {}, "X: " + std::string(40'000, 'x') + "\r\n").status, 431);
    auto broken = wire();
    broken.send("\x01\x02\x03 nonsense\r\n\r\n");
    EXPECT_EQ(broken.reply().status, 400);
    EXPECT_TRUE(broken.is_closed());
    EXPECT_EQ(wire().ask("GET", "/api/v1/jobs/%zz").status, 400);
    EXPECT_EQ(wire().ask("GET", "/a/b/c/d/e/f/g/h/i/j").status, 400);
    EXPECT_EQ(wire().ask("DELETE", "/api/v1/jobs").status, 404);
}

TEST_F(ServerTest, WhereTheEndOfARequestIsInDoubtNothingAfterItIsRead) {
    start();
    for (const std::string fields :
         {"Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
          "Content-Length: 0\r\nContent-Length: 0\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"}) {
        auto smuggler = wire();
        smuggler.send("POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + fields +
                      "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        EXPECT_EQ(smuggler.reply().status, 400) << fields;
        EXPECT_TRUE(smuggler.is_closed()) << fields;
    }
}

TEST_F(ServerTest, SlowClientsAreLetGo) {
    ServerSetting setting;
    setting.head_timeout = std::chrono::milliseconds{100};
    setting.body_timeout = std::chrono::milliseconds{100};
    start(setting);
    auto slow_head = wire();
    slow_head.send("GET / HT");
    auto slow_body = wire();
    slow_body.send("POST /api/v1/jobs HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
    EXPECT_TRUE(slow_head.is_closed());
    EXPECT_TRUE(slow_body.is_closed());
}

TEST_F(ServerTest, ConnectionsOverTheLimitAreTold) {
    ServerSetting setting;
    setting.places.unix_socket = 2;
    start(setting);
    auto a = wire();
    auto b = wire();
    EXPECT_EQ(a.ask("GET", "/healthz").status, 200);
    EXPECT_EQ(b.ask("GET", "/healthz").status, 200);
    auto c = wire();
    const auto got = c.reply();
    EXPECT_EQ(got.status, 503);
    EXPECT_NE(got.head.find("Retry-After: 1"), std::string::npos);
}

TEST_F(ServerTest, GoesDownWhileClientsWait) {
    start();
    auto idle = wire();
    auto following = wire();
    following.send(Wire::text("GET", "/api/v1/events?follow=1"));
    following.until("\r\n\r\n");
    auto w = wire();
    EXPECT_EQ(w.ask("POST", "/api/v1/shutdown", R"({"jobs":true})").status, 202);
    EXPECT_EQ(control_.shut_down_with, RunningWork::ends);
    server_.reset();
    EXPECT_TRUE(idle.is_closed());
    EXPECT_TRUE(following.is_closed());
    EXPECT_FALSE(net::connect_to(folder_.path() + "/stargate.sock"));
}

TEST_F(ServerTest, TheSocketsModeSaysWhoMayConnect) {
    start();
    struct stat found {};
    ASSERT_EQ(stat((folder_.path() + "/stargate.sock").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, geteuid() == 0 ? 0666U : 0600U);
    ASSERT_EQ(stat((folder_.path() + "/token").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, 0600U);
}

TEST(UnixSocket, TakesPathsOfAnyLength) {
    ScratchFolder folder;
    auto deep = folder.path();
    for (int i = 0; i < 4; ++i) {
        deep += "/" + std::string(60, 'x');
        ASSERT_EQ(mkdir(deep.c_str(), 0700), 0);
    }
    const auto listening = net::listen_at(deep + "/stargate.sock", 0600);
    ASSERT_TRUE(listening) << listening.error().detail;
    EXPECT_TRUE(net::connect_to(deep + "/stargate.sock"));
}

}  // namespace
}  // namespace stargate::api
