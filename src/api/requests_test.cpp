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

}  // namespace
}  // namespace stargate::api
