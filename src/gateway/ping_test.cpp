#include "gateway/gateway_testing.hpp"

// What whoever asks for a stream hears before there is anything of an answer.
namespace stargate::gateway {
namespace {

using std::chrono::milliseconds;
using ExchangePtr = std::shared_ptr<net::Exchange>;

constexpr std::string_view ping = ": ping\n\n";
constexpr std::string_view events = "data: {\"choices\":[{}]}\n\ndata: [DONE]\n\n";

std::string without_pings(std::string body) {
    for (auto at = body.find(ping); at != std::string::npos; at = body.find(ping)) body.erase(at, ping.size());
    return body;
}

void answer_with_events(const ExchangePtr& exchange) {
    exchange->begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->write(events);
    exchange->end();
}

class GatewayPing : public WithGateway {
protected:
    void SetUp() override {
        setting_.front.relay.quiet = milliseconds{100};  // and looked at every second
        WithGateway::SetUp();
    }
    void TearDown() override {
        servers_.clear();
        WithGateway::TearDown();
    }
    std::uint16_t server(std::function<void(const ExchangePtr&)> serve) {
        net::ServerSetting setting;
        setting.serve = std::move(serve);
        servers_.push_back(std::move(*net::Server::listen(loop_, std::move(setting))));
        return servers_.back()->port();
    }
    /// One that refuses as one that sleeps does, so that requests wait, until it is awake.
    std::uint16_t sleeper() {
        return server([this](const ExchangePtr& exchange) {
            if (is_awake_) return answer_with_events(exchange);
            exchange->respond({503, "application/json", {{"x-stargate-asleep", "1"}}, R"({"error":{}})"});
        });
    }
    bool is_pinged(const Asked& asked, std::size_t times = 1) {
        return until([&] { return asked.answer->body.size() >= times * ping.size(); });
    }
    std::deque<std::unique_ptr<net::Server>> servers_;
    bool is_awake_ = false;
};

TEST_F(GatewayPing, WhoWaitsForAStreamGetsItsHeadAndCommentsAndThenTheSameEvents) {
    tell(chat({sleeper()}));
    const auto stream = begin(streamed);
    ASSERT_TRUE(is_pinged(stream, 2));
    EXPECT_EQ(stream.answer->status, 200);
    EXPECT_EQ(stream.answer->field("Content-Type"), "text/event-stream");
    EXPECT_TRUE(stream.answer->field("x-request-id").starts_with("req_"));
    EXPECT_EQ(without_pings(stream.answer->body), "");
    is_awake_ = true;
    ASSERT_TRUE(until([&] { return stream.answer->is_over(); }));
    EXPECT_TRUE(stream.answer->has_ended);
    EXPECT_EQ(without_pings(stream.answer->body), events);
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(ask(streamed).body, events) << "who need not wait gets no comment";
}

TEST_F(GatewayPing, WhoAsksForAWholeAnswerGetsNone) {
    tell(chat({sleeper()}));
    const auto stream = begin(streamed);
    const auto whole = begin(small);
    ASSERT_TRUE(is_pinged(stream));
    EXPECT_EQ(whole.answer->status, 0);
    EXPECT_EQ(whole.answer->body, "");
}

TEST_F(GatewayPing, ARefusalAfterTheHeadIsAnEventThatSaysWhenToAskAgain) {
    tell(chat({sleeper()}));
    const net::Fields waits{{"x-stainless-timeout", "2"}};
    const auto whole = begin(small, "key", "/v1/chat/completions", "POST", waits);
    const auto answer = ask(streamed, "key", "/v1/chat/completions", "POST", waits);
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.has_ended);
    const auto told = without_pings(answer.body);
    EXPECT_TRUE(told.starts_with("data: {\"error\":{\"message\":\"no replica was free in time; ask again in ")) << told;
    EXPECT_NE(told.find("\"code\":\"server_is_overloaded\""), std::string::npos) << told;
    EXPECT_TRUE(told.ends_with("}}\n\n")) << "and no [DONE]: " << told;
    ASSERT_TRUE(until([&] { return whole.answer->is_over(); }));
    EXPECT_EQ(whole.answer->status, 503);
    EXPECT_NE(whole.answer->field("retry-after-ms"), "");
}

TEST_F(GatewayPing, AReplicaThatFailsAfterTheHeadIsReplacedAsBefore) {
    int failed = 0;
    const auto breaks_off = [&](const ExchangePtr& exchange) {
        ++failed;
        loop_.after(milliseconds{1'500}, [exchange] { exchange->abort(); });
    };
    const auto first = server(breaks_off);
    tell(chat({first}));
    const auto asked = begin(streamed);
    ASSERT_TRUE(is_pinged(asked));
    tell(chat({first, engine()}));
    ASSERT_TRUE(until([&] { return asked.answer->is_over(); }));
    EXPECT_EQ(failed, 1);
    EXPECT_TRUE(without_pings(asked.answer->body).ends_with("data: [DONE]\n\n")) << asked.answer->body;
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(used().completion_tokens, 3U);
    EXPECT_EQ(used().interrupted, 0U);
}

TEST_F(GatewayPing, WhatAReplicaRefusesAfterTheHeadIsOneEvent) {
    tell(chat({server([&](const ExchangePtr& exchange) {
        loop_.after(milliseconds{1'500}, [exchange] {
            exchange->respond({400, "application/json", {}, "{\n \"error\": {\"message\": \"too long\"}\r\n}\n"});
        });
    })}));
    const auto answer = ask(streamed);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(without_pings(answer.body), "data: {  \"error\": {\"message\": \"too long\"}  } \n\n");
    EXPECT_EQ(used().requests, 0U);
}

TEST_F(GatewayPing, WhoGoesAwayWhileItIsPingedWaitsNoMore) {
    tell(chat({sleeper()}));
    const auto asked = begin(streamed);
    ASSERT_TRUE(is_pinged(asked));
    asked.call->cancel();
    pass(milliseconds{50});
    is_awake_ = true;
    EXPECT_EQ(ask(streamed).body, events);
    EXPECT_EQ(used().requests, 1U);
}

}  // namespace
}  // namespace stargate::gateway
