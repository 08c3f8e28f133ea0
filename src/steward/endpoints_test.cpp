#include "steward/endpoints.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "steward/fake_server.hpp"

// Servers that Stargate did not start: what they are asked, and which of them are taken to serve.
namespace stargate::steward {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class EndpointsTest : public ::testing::Test {
protected:
    EndpointsTest() { server_.answers["/health"] = 200; }
    void run_until(const std::function<bool()>& holds) {
        const auto until = net::Loop::now_us() + Duration{seconds{5}}.count();
        while (!holds() && net::Loop::now_us() < until) run_for(milliseconds{5});
        EXPECT_TRUE(holds());
    }
    void run_for(Duration time) {
        loop_.restart();
        loop_.after(time, [this] { loop_.stop(); });
        loop_.run();
    }

    net::Loop loop_;
    FakeServer server_{loop_};
    int changes_ = 0;
    Endpoints endpoints_{loop_, [this] { ++changes_; }, {milliseconds{20}, milliseconds{10}, milliseconds{100}}};
};

TEST_F(EndpointsTest, OneThatAnswersServesAndIsAskedOn) {
    endpoints_.follow({{7, server_.endpoint()}});
    EXPECT_EQ(endpoints_.sight(7), (EndpointSight{false, "it has not been asked yet"}));
    run_until([&] { return endpoints_.sight(7).is_serving; });
    EXPECT_EQ(changes_, 1);
    run_until([&] { return server_.asked.size() >= 3; });
    EXPECT_EQ(changes_, 1);
    for (const auto& asked : server_.asked) EXPECT_EQ(asked, "GET /health");
}

TEST_F(EndpointsTest, OneThatGoesServesNoMoreUntilItIsBack) {
    endpoints_.follow({{7, server_.endpoint()}});
    run_until([&] { return endpoints_.sight(7).is_serving; });
    server_.stop();
    run_until([&] { return !endpoints_.sight(7).is_serving; });
    EXPECT_NE(endpoints_.sight(7).detail.find("refused"), std::string::npos) << endpoints_.sight(7).detail;
    server_.start();
    run_until([&] { return endpoints_.sight(7).is_serving; });
    EXPECT_EQ(endpoints_.sight(7).detail, "");
    EXPECT_EQ(changes_, 3);
}

TEST_F(EndpointsTest, WithoutHealthItsModelsProveIt) {
    server_.answers = {{"/v1/models", 200}};
    endpoints_.follow({{7, server_.endpoint()}});
    run_until([&] { return endpoints_.sight(7).is_serving; });
    EXPECT_EQ(server_.asked, (std::vector<std::string>{"GET /health", "GET /v1/models"}));
}

TEST_F(EndpointsTest, OneThatAnswersBadlyDoesNotServeAndItIsSaidWhy) {
    server_.answers = {{"/health", 503}};
    endpoints_.follow({{7, server_.endpoint()}});
    run_until([&] { return changes_ > 0; });
    EXPECT_EQ(endpoints_.sight(7), (EndpointSight{false, "it answers /health with status 503"}));
    server_.answers = {{"/v1/models", 401}};
    run_until([&] { return changes_ > 1; });
    EXPECT_EQ(endpoints_.sight(7), (EndpointSight{false, "it answers /v1/models with status 401"}));
}

TEST_F(EndpointsTest, OneThatSaysNothingDoesNotServe) {
    server_.hangs = true;
    endpoints_.follow({{7, server_.endpoint()}});
    run_until([&] { return changes_ > 0; });
    EXPECT_EQ(endpoints_.sight(7), (EndpointSight{false, "it says nothing"}));
    server_.hangs = false;
    run_until([&] { return endpoints_.sight(7).is_serving; });
}

TEST_F(EndpointsTest, OneThatIsFollowedNoMoreIsAskedNoMore) {
    endpoints_.follow({{7, server_.endpoint()}, {8, {"127.0.0.1", 1}}});
    run_until([&] { return endpoints_.sight(7).is_serving; });
    endpoints_.follow({});
    server_.asked.clear();
    run_for(milliseconds{100});
    EXPECT_TRUE(server_.asked.empty());
    EXPECT_FALSE(endpoints_.sight(7).is_serving);
}

}  // namespace
}  // namespace stargate::steward
