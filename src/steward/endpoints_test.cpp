#include "steward/endpoints.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "net/server.hpp"

// Servers that Stargate did not start: what they are asked, and which of them are taken to serve.
namespace stargate::steward {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A server that answers each path as the test wants, and goes and comes back at the same port.
class Server {
public:
    explicit Server(net::Loop& loop) : loop_{loop} { start(); }
    void start() {
        net::ServerSetting setting;
        setting.port = port_;
        setting.refusal = [](int status, const std::string&) { return net::Reply{status, "text/plain", {}, ""}; };
        setting.serve = [this](const std::shared_ptr<net::Exchange>& exchange) {
            asked.push_back(exchange->head.method + " " + exchange->head.target);
            const auto known = answers.find(exchange->head.target);
            held_.push_back(exchange);
            if (!hangs) exchange->respond({known == answers.end() ? 404 : known->second, "text/plain", {}, ""});
        };
        server_ = std::move(*net::Server::listen(loop_, std::move(setting)));
        port_ = static_cast<std::uint16_t>(server_->port());
    }
    void stop() {
        held_.clear();
        server_.reset();
    }
    [[nodiscard]] Endpoint endpoint() const { return {"127.0.0.1", port_}; }

    std::map<std::string, int> answers{{"/health", 200}};
    std::vector<std::string> asked;
    bool hangs = false;

private:
    net::Loop& loop_;
    std::uint16_t port_ = 0;
    std::vector<std::shared_ptr<net::Exchange>> held_;
    std::unique_ptr<net::Server> server_;
};

class EndpointsTest : public ::testing::Test {
protected:
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
    Server server_{loop_};
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
