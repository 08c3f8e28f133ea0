#include "api/server_testing.hpp"

/// What is wrong with a request itself, whatever it asks for.
namespace stargate::api {
namespace {

TEST_F(ServerTest, AMemberThatIsThereTwiceIsRefusedOnEveryRoute) {
    start();
    auto w = wire();
    const auto refused = [&](std::string_view method, std::string_view target, std::string_view body) {
        const auto got = w.ask(method, target, body);
        EXPECT_EQ(got.status, 400) << target << got.body;
        EXPECT_EQ(got.code(), "malformed") << target;
        return got.json()["error"]["message"].text;
    };
    EXPECT_EQ(refused("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","gpus":1,"gpus":2})"),
              "gpus: is there twice in one object");
    EXPECT_EQ(refused("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","env":{"A":"1","A":"2"}})"),
              "env.A: is there twice in one object");
    w.ask("POST", "/api/v1/jobs", command);
    for (const auto& [method, target] : {std::pair{"POST", "/api/v1/jobs/a/resize"},
                                         {"POST", "/api/v1/jobs/1/follow"},
                                         {"PUT", "/api/v1/tenants/lab"},
                                         {"POST", "/api/v1/tokens"},
                                         {"POST", "/api/v1/shutdown"}}) {
        EXPECT_EQ(refused(method, target, R"({"name":"a","name":"a"})"), "name: is there twice in one object");
    }
}

TEST_F(ServerTest, WhatARouteDoesNotTakeInItsQueryIsRefused) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    const auto facts = control_.figures().last_fact;
    struct Case {
        std::string method, target, message, remedy;
    };
    const std::string jobs = "/api/v1/jobs";
    const std::string events = "/api/v1/events";
    const std::string number = "give one, or leave it out";
    const std::string flag = "give 1 or true, 0 or false";
    const std::string of_jobs = "it takes limit, active, mine, name, state";
    for (const auto& [method, target, message, remedy] : std::vector<Case>{
             {"GET", jobs + "?limit=abc", "limit: `abc` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=", "limit: `` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=0", "limit: `0` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=-1", "limit: `-1` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=3x", "limit: `3x` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=1.5", "limit: `1.5` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=100001", "limit: `100001` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?limit=99999999999999999999",
              "limit: `99999999999999999999` is no whole number from 1 to 100000", number},
             {"GET", jobs + "?active=yes", "active: `yes` is neither true nor false", flag},
             {"GET", jobs + "?active=", "active: `` is neither true nor false", flag},
             {"GET", jobs + "?state=runing", "state: `runing` is not known (did you mean `running`?)",
              "give one of waiting, starting, running, stopping, unknown, succeeded, failed, cancelled"},
             {"GET", jobs + "?limt=3", "limt: this route takes no such value (did you mean `limit`?)", of_jobs},
             {"GET", jobs + "?limit=1&limit=2", "limit: is given twice", "give it once"},
             {"POST", jobs + "?dry_run=1", "dry_run: this route takes no such value", "it takes follow"},
             {"POST", jobs + "?follow=perhaps", "follow: `perhaps` is neither true nor false", flag},
             {"GET", jobs + "/a?follow=1", "follow: this route takes no such value", "leave it out: it takes none"},
             {"GET", jobs + "/a/logs?attempt=0", "attempt: `0` is no whole number from 1 on", number},
             {"GET", jobs + "/a/logs?frames=2", "frames: `2` is neither true nor false", flag},
             {"POST", jobs + "/a/cancel?force=1", "force: this route takes no such value",
              "leave it out: it takes none"},
             {"POST", jobs + "/a/resize?gpus=-1", "gpus: `-1` is no whole number from 0 to 10000000", number},
             {"GET", events + "?from=x", "from: `x` is no whole number from 0 on", number},
             {"GET", events + "?limit=10001", "limit: `10001` is no whole number from 1 to 10000", number},
             {"GET", events + "?format=xml", "format: `xml` is not known", "give jsonl"},
             {"GET", "/metrics?a%0db", "", ""},
             {"GET", "/api/v1/fleet?all", "all: this route takes no such value", "leave it out: it takes none"},
             {"PUT", "/api/v1/tenants/lab?quota=3", "quota: this route takes no such value",
              "leave it out: it takes none"},
         }) {
        const auto got = w.ask(method, target, method == "POST" ? command : "");
        EXPECT_EQ(got.status, 400) << target << got.body;
        EXPECT_EQ(got.code(), "malformed") << target;
        if (message.empty()) continue;  // the target is none at all
        EXPECT_EQ(got.json()["error"]["message"].text, message);
        EXPECT_EQ(got.json()["error"]["remedy"].text, remedy) << target;
    }
    EXPECT_EQ(control_.figures().last_fact, facts) << "nothing came of any of them";
}

TEST_F(ServerTest, WhatARouteTakesInItsQueryIsTaken) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    for (const auto* target : {"/api/v1/jobs?limit=100000&active=true&name=a&state=starting",
                               "/api/v1/jobs?active&name=", "/api/v1/jobs?active=0",
                               "/api/v1/events?from=0&limit=10000", "/api/v1/events?format=jsonl&limit=1000000000",
                               "/api/v1/jobs/a/logs?follow=0&frames=false&attempt=1&resume=0:1:0"}) {
        EXPECT_EQ(w.ask("GET", target).status, 200) << target;
    }
}

TEST_F(ServerTest, AStreamIsTakenUpOnlyWhereItsTasksAre) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    for (const auto* heard :
         {"0", "0:", "0:done:", "1:done", "0-1:done", "1-0:done", "-1:done", "0-0:1:0", "0:1", "0:1:", "0:1:-1",
          "0:1:x", "0:x:1", "0:1:1:1", "0:1:9999999999999999999", ",", "0:done,x"}) {
        const auto got = w.ask("GET", std::string{"/api/v1/jobs/1/logs?resume="} + heard);
        EXPECT_EQ(got.status, 400) << heard;
        EXPECT_NE(got.body.find("write TASK:ATTEMPT:OFFSET"), std::string::npos) << got.body;
        EXPECT_EQ(w.ask("POST", "/api/v1/jobs/1/follow", std::string{R"({"resume":")"} + heard + R"("})").status, 422);
    }
    for (const auto* heard : {"", "0:done", "0-0:done", "0:1:7", "0:1:7,"}) {
        EXPECT_EQ(w.ask("GET", std::string{"/api/v1/jobs/1/logs?resume="} + heard).status, 200) << heard;
    }
}

}  // namespace
}  // namespace stargate::api
