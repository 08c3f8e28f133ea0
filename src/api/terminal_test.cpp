#include "api/server_testing.hpp"

// Typing at the terminals of jobs.
namespace stargate::api {
namespace {

class ApiTerminal : public ServerTest {
protected:
    std::string submit(const std::string& more) {
        const auto reply = wire().ask("POST", "/api/v1/jobs", R"({"argv":["sh"],"folder":"/",)" + more + "}");
        EXPECT_EQ(reply.status, 201) << reply.body;
        return std::to_string(reply.json()["id"].whole);
    }
};

TEST_F(ApiTerminal, IsTypedAtAndHasASize) {
    start();
    const auto id = submit(R"("terminal":true)");
    const auto path = "/api/v1/jobs/" + id;
    EXPECT_EQ(wire().ask("GET", path).json()["kind"].text, "shell");
    EXPECT_EQ(wire().ask("POST", path + "/input", "ls\r").status, 200);
    EXPECT_EQ(wire().ask("GET", path + "/logs").body, "ls\r");  // the echo
    EXPECT_EQ(wire().ask("POST", path + "/window", R"({"rows":40,"columns":132})").status, 200);
    EXPECT_EQ(control_.window, std::pair(40, 132));
    EXPECT_EQ(wire().ask("POST", path + "/input", std::string(16'385, 'x')).status, 413);
    control_.takes_keys = false;
    EXPECT_EQ(wire().ask("POST", path + "/input", "x").code(), "too_much_typed");
    for (const auto* wrong : {R"({"rows":0,"columns":80})", R"({"rows":24})", R"({"rows":"24","columns":80})", "[]"}) {
        EXPECT_EQ(wire().ask("POST", path + "/window", wrong).status, 422) << wrong;
    }
}

TEST_F(ApiTerminal, OthersHaveNone) {
    start();
    const auto id = submit(R"("name":"plain")");
    const auto typed = wire().ask("POST", "/api/v1/jobs/plain/input", "x");
    EXPECT_EQ(typed.status, 409);
    EXPECT_EQ(typed.code(), "no_terminal");
    (void)submit(R"("terminal":true,"held":true,"name":"held")");
    EXPECT_EQ(wire().ask("POST", "/api/v1/jobs/held/input", "x").code(), "wrong_state");
    EXPECT_EQ(wire().ask("POST", "/api/v1/jobs/nobody/input", "x").status, 404);
}

TEST_F(ApiTerminal, WhatDoesNotGoWithOneIsRefused) {
    start();
    for (const auto* more : {R"("terminal":"yes")", R"("terminal":true,"gpus":"1..2")", R"("terminal":true,"count":2)",
                             R"("terminal":true,"ranks":"per_gpu")"}) {
        const auto reply =
            wire().ask("POST", "/api/v1/jobs", std::string{R"({"argv":["sh"],"folder":"/",)"} + more + "}");
        EXPECT_EQ(reply.status, 422) << more << reply.body;
    }
}

}  // namespace
}  // namespace stargate::api
