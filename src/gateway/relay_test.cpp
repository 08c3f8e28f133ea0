#include "gateway/gateway_testing.hpp"

// What becomes of requests when replicas fail.
namespace stargate::gateway {
namespace {

using serving::MockFault;
using std::chrono::milliseconds;
using std::chrono::seconds;

class GatewayRelay : public WithGateway {
protected:
    /// A replica that says what a test wants.
    std::uint16_t server(std::function<void(const std::shared_ptr<net::Exchange>&)> serve) {
        net::ServerSetting setting;
        setting.serve = std::move(serve);
        servers_.push_back(std::move(*net::Server::listen(loop_, std::move(setting))));
        return servers_.back()->port();
    }
    std::uint16_t nobodys_port() {
        const auto port = server([](const auto&) {});
        servers_.pop_back();
        return port;
    }
    void TearDown() override {
        servers_.clear();
        WithGateway::TearDown();
    }
    std::deque<std::unique_ptr<net::Server>> servers_;
    bool is_awake_ = false;
};

TEST_F(GatewayRelay, WhoCannotBeReachedIsPassedByAtOnce) {
    tell(chat({nobodys_port(), nobodys_port(), engine()}));
    for (int i = 0; i < 5; ++i) EXPECT_EQ(ask(small).status, 200);
    EXPECT_EQ(used().requests, 5U);
    EXPECT_EQ(used().in_flight, 0U);
}

TEST_F(GatewayRelay, WhereNobodyIsThereTheClientIsTold) {
    tell(chat({nobodys_port(), nobodys_port()}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 502);
    EXPECT_EQ(answer.error("type"), "\"server_error\"");
    EXPECT_EQ(answer.error("code"), "\"bad_gateway\"") << answer.body;
    EXPECT_EQ(answer.error("param"), "null");
    EXPECT_NE(answer.field("retry-after-ms"), "");
    EXPECT_EQ(answer.field("x-should-retry"), "") << "it may be asked again";
    EXPECT_EQ(used().requests, 0U);
}

TEST_F(GatewayRelay, AtMostThreeAreTried) {
    int asked = 0;
    const auto rude = [&](const std::shared_ptr<net::Exchange>& exchange) {
        ++asked;
        exchange->abort();
    };
    tell(chat({server(rude), server(rude), server(rude), server(rude), server(rude)}));
    EXPECT_EQ(ask(small).status, 502);
    EXPECT_EQ(asked, 3);
}

TEST_F(GatewayRelay, ASleeperIsPassedByAndWaitedFor) {
    const auto asleep = [this](const std::shared_ptr<net::Exchange>& exchange) {
        if (is_awake_) return exchange->respond({200, "application/json", {}, R"({"choices":[]})"});
        exchange->respond({503, "application/json", {{"x-stargate-asleep", "1"}}, R"({"error":{}})"});
    };
    const auto sleeper = server(asleep);
    tell(chat({sleeper, engine()}));
    EXPECT_EQ(ask(small).status, 200);
    tell(chat({sleeper}));
    const auto asked = begin(small);
    pass(milliseconds{200});
    EXPECT_FALSE(asked.answer->is_over());
    is_awake_ = true;
    ASSERT_TRUE(until([&] { return asked.answer->is_over(); }));
    EXPECT_EQ(asked.answer->status, 200) << asked.answer->body;
}

TEST_F(GatewayRelay, WhoIsTooBusyIsPassedByAndQuotedWhenAllAre) {
    const auto busy = [](const std::shared_ptr<net::Exchange>& exchange) {
        exchange->respond({503, "application/json", {}, R"({"error":{"message":"full house","code":"full"}})"});
    };
    tell(chat({server(busy), engine()}));
    EXPECT_EQ(ask(small).status, 200);
    tell(chat({server(busy), server(busy)}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.error("code"), "\"full\"");
    EXPECT_NE(answer.field("retry-after-ms"), "");
}

TEST_F(GatewayRelay, WhatIsNoAnswerIsABadGateway) {
    tell(chat({engine({.fault = MockFault::html})}));
    for (const auto* body : {small, streamed}) {
        const auto answer = ask(body);
        EXPECT_EQ(answer.status, 502);
        EXPECT_EQ(answer.error("code"), "\"bad_gateway\"") << answer.body;
    }
    for (const auto& reply :
         {net::Reply{200, "application/json", {}, R"({"choices":[)"}, net::Reply{200, "application/json", {}, "[]"},
          net::Reply{404, "text/plain", {}, "not here"},
          net::Reply{401, "application/json", {}, R"({"error":{"message":"your key?"}})"},
          net::Reply{301, "application/json", {{"Location", "/x"}}, "{}"}}) {
        tell(chat({server([&](const auto& exchange) { exchange->respond(reply); })}));
        EXPECT_EQ(ask(small).status, 502) << reply.body;
    }
}

TEST_F(GatewayRelay, ARefusalOfTheRequestIsTheClientsToRead) {
    tell(chat({server([](const auto& exchange) {
        exchange->respond(
            {422,
             "application/json",
             {{"x-engine", "7"}, {"x-stargate-secret", "1"}, {"Keep-Alive", "9"}, {"x-request-id", "theirs"}},
             R"({"error":{"message":"too long","code":"context_length_exceeded"}})"});
    })}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 422);
    EXPECT_EQ(answer.error("code"), "\"context_length_exceeded\"");
    EXPECT_EQ(answer.field("x-engine"), "7");
    EXPECT_EQ(answer.field("x-stargate-secret"), "");
    EXPECT_EQ(answer.field("Keep-Alive"), "");
    EXPECT_TRUE(answer.field("x-request-id").starts_with("req_"));
    EXPECT_EQ(used().requests, 0U);
}

TEST_F(GatewayRelay, AWholeAnswerThatTellsNoUsageIsEstimated) {
    tell(chat({server([](const auto& exchange) {
        exchange->respond({200, "application/json", {}, R"({"choices":["a text of some length"]})"});
    })}));
    EXPECT_EQ(ask(small).status, 200);
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(used().interrupted_tokens, 6U) << "a fourth of its bytes";
}

TEST_F(GatewayRelay, AStreamThatBreaksEndsWithAnErrorAndWithoutDone) {
    tell(chat({engine({.fault = MockFault::cut})}));
    const auto answer = ask(R"({"model":"chat","max_tokens":6,"stream":true,"messages":[]})");
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.has_ended);
    EXPECT_NE(answer.body.find("w2"), std::string::npos);
    EXPECT_EQ(answer.body.find("[DONE]"), std::string::npos);
    EXPECT_NE(answer.body.find("data: {\"error\":{\"message\":\""), std::string::npos) << answer.body;
    EXPECT_NE(answer.body.find("stream_interrupted"), std::string::npos);
    EXPECT_EQ(used().interrupted, 1U);
    EXPECT_EQ(used().interrupted_tokens, 3U);
    EXPECT_EQ(ask(R"({"model":"chat","max_tokens":6,"messages":[]})").status, 502)
        << "whole, it is not passed on in part";
}

TEST_F(GatewayRelay, AStreamThatEndsWithoutDoneHasBrokenToo) {
    tell(chat({server([](const auto& exchange) {
        exchange->begin(200, {{"Content-Type", "text/event-stream"}});
        exchange->write("data: {\"choices\":[{}]}\n\ndata: {\"choices\":[");
        exchange->end();
    })}));
    const auto answer = ask(streamed);
    EXPECT_TRUE(answer.body.starts_with("data: {\"choices\":[{}]}\n\ndata: {\"error\":")) << answer.body;
}

TEST_F(GatewayRelay, AStreamComesAsItWasSentHoweverItsPiecesFall) {
    std::string stream;
    for (int i = 0; i < 3'000; ++i) {
        stream += "data: {\"choices\":[{\"delta\":{\"content\":\"" + std::to_string(i) + "\"}}]}\n\n";
    }
    stream += "data: [DONE]\n\n";
    for (const std::size_t piece : {stream.size(), std::size_t{1'000}, std::size_t{333}}) {
        tell(chat({server([&](const auto& exchange) {
            exchange->begin(200, {{"Content-Type", "text/event-stream"}});
            for (std::size_t at = 0; at < stream.size(); at += piece) {
                exchange->write(std::string_view{stream}.substr(at, piece));
            }
            exchange->end();
        })}));
        EXPECT_TRUE(ask(streamed).body == stream) << piece;  // 150 KB of them say no more
    }
}

TEST_F(GatewayRelay, WhoGoesAwayIsComputedNoFurther) {
    tell(chat({engine({.tokens_per_s = 100})}));
    const auto asked = begin(endless);
    ASSERT_TRUE(until([&] { return asked.answer->body.size() > 1000; }));
    asked.call->cancel();
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() == 0; }));
    EXPECT_EQ(engines_[0]->cancelled(), 1U);
    EXPECT_EQ(used().interrupted, 1U);
    EXPECT_GT(used().interrupted_tokens, 2U);
    const auto waiting = begin(small);
    waiting.call->cancel();
    EXPECT_EQ(ask(small).status, 200);
}

TEST_F(GatewayRelay, WhoGoesAwayBeforeAnythingHasComeIsComputedNoFurtherEither) {
    auto service = chat({engine({.tokens_per_s = 1})});
    service.max_concurrency = 1;
    tell(service);
    const auto whole = begin(R"({"model":"chat","max_tokens":1000,"messages":[]})");
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() == 1; }));
    const auto waiting = begin(small);
    pass(milliseconds{20});
    waiting.call->cancel();
    pass(milliseconds{20});
    whole.call->cancel();
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() == 0 && used().in_flight == 0; }));
    EXPECT_EQ(engines_[0]->cancelled(), 1U) << "the one that waited never came to it";
}

TEST_F(GatewayRelay, OnceAByteHasGoneNobodyElseIsAsked) {
    int asked = 0;
    const auto breaks_off = [&](const std::shared_ptr<net::Exchange>& exchange) {
        ++asked;
        exchange->begin(200, {{"Content-Type", "text/event-stream"}});
        exchange->write("data: {\"choices\":[{}]}\n\n");
        loop_.after(milliseconds{30}, [exchange] { exchange->abort(); });
    };
    tell(chat({server(breaks_off), server(breaks_off)}));
    const auto answer = ask(streamed);
    EXPECT_TRUE(answer.has_ended);
    EXPECT_NE(answer.body.find("stream_interrupted"), std::string::npos) << answer.body;
    EXPECT_EQ(answer.body.find("[DONE]"), std::string::npos);
    EXPECT_EQ(asked, 1);
}

TEST_F(GatewayRelay, WhatIsTriedAgainIsCountedOnce) {
    int failed = 0;
    const auto breaks_off = [&](const std::shared_ptr<net::Exchange>& exchange) {
        ++failed;
        exchange->begin(200, {{"Content-Type", "text/event-stream"}});  // its head is nothing that a client has seen
        loop_.after(milliseconds{10}, [exchange] { exchange->abort(); });
    };
    tell(chat({server(breaks_off), server(breaks_off), engine()}));
    const auto answer = ask(streamed);
    EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n")) << answer.body;
    EXPECT_GE(failed, 1) << "else nothing is proved";
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(used().completion_tokens, 3U);
    EXPECT_EQ(used().interrupted, 0U);
    EXPECT_EQ(used().in_flight, 0U);
}

TEST_F(GatewayRelay, UsageThatIsToldWithEachEventIsNotAddedUp) {
    tell(chat({server([](const auto& exchange) {
        exchange->begin(200, {{"Content-Type", "text/event-stream"}});
        for (int i = 1; i <= 3; ++i) {
            exchange->write(R"(data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":7,)"
                            R"("completion_tokens":)" +
                            std::to_string(i) + "}}\n\n");
        }
        exchange->write("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n");
        exchange->write("data: [DONE]\n\n");
        exchange->end();
    })}));
    EXPECT_TRUE(ask(streamed).body.ends_with("data: [DONE]\n\n"));
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(used().prompt_tokens, 7U);
    EXPECT_EQ(used().completion_tokens, 3U);
}

TEST_F(GatewayRelay, RetryAfterIsTheTimeInWhichTheQueueEmpties) {
    constexpr auto body = R"({"model":"chat","max_tokens":10,"messages":[]})";
    auto service = chat({engine({.tokens_per_s = 200})});  // twenty requests a second, one after the other
    service.max_concurrency = 1;
    service.queue_requests = 4;
    tell(service);
    std::vector<Asked> asked;
    const auto is_over = [](const Asked& each) { return each.answer->is_over(); };
    const auto fill = [&](int count) {
        while (count-- > 0) asked.push_back(begin(body));
    };
    fill(5);
    ASSERT_TRUE(until([&] { return std::count_if(asked.begin(), asked.end(), is_over) == 3; }));
    fill(5);  // at least one too many
    const auto refused_at = [&] {
        return std::find_if(asked.begin(), asked.end(), [](const auto& each) { return each.answer->status == 429; });
    };
    ASSERT_TRUE(until([&] { return refused_at() != asked.end(); }));
    const auto since_us = net::Loop::now_us();
    const auto told_ms = std::stod(refused_at()->answer->field("retry-after-ms"));
    ASSERT_TRUE(until([&] { return std::all_of(asked.begin(), asked.end(), is_over); }));
    const auto took_ms = static_cast<double>(net::Loop::now_us() - since_us) / 1000;
    EXPECT_GT(told_ms, took_ms / 3);
    EXPECT_LT(told_ms, took_ms * 2.5);
}

TEST_F(GatewayRelay, RetryAfterKnowsHowLongAPlaceIsHeldAlready) {
    auto service = chat({engine({.tokens_per_s = 200})});
    service.max_concurrency = 1;
    service.queue_requests = 1;
    tell(service);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(ask(R"({"model":"chat","max_tokens":2,"messages":[]})").status, 200);
    const auto holds = begin(endless);
    ASSERT_TRUE(until([&] { return !holds.answer->body.empty(); }));
    const auto waits = begin(small);
    pass(milliseconds{400});
    const auto refused = ask(small);
    EXPECT_EQ(refused.status, 429);
    EXPECT_GE(std::stod(refused.field("retry-after-ms")), 400);
    holds.call->cancel();
    ASSERT_TRUE(until([&] { return waits.answer->is_over(); }));
    pass(milliseconds{100});
}

TEST_F(GatewayRelay, ABusyReplicasOwnRetryAfterIsPassedOn) {
    tell(chat({server([](const auto& exchange) {
        exchange->respond({503, "application/json", {{"Retry-After", "9"}}, "{}"});
    })}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 503);
    EXPECT_GE(std::stod(answer.field("retry-after-ms")), 9'000);
}

TEST_F(GatewayRelay, ASlowReaderHoldsItsReplicaBackAndFillsNoMemory) {
    std::shared_ptr<net::Exchange> flood;
    tell(chat({server([&](const auto& exchange) { flood = exchange; })}));
    const auto asked = begin(endless);
    ASSERT_TRUE(until([&] { return flood != nullptr; }));
    flood->begin(200, {{"Content-Type", "text/event-stream"}});
    asked.call->pause();
    const std::string event = "data: {\"x\":\"" + std::string(100'000, 'x') + "\"}\n\n";
    std::size_t written = 0;
    for (int i = 0; i < 300; ++i) {
        flood->write(event);
        written += event.size();
    }
    pass(milliseconds{300});
    EXPECT_GT(flood->waiting(), written / 2) << "the gateway has stopped reading";
    asked.call->resume();
    ASSERT_TRUE(until([&] { return asked.answer->body.size() >= written; }));
    EXPECT_EQ(asked.answer->body.size(), written);
    flood->write("data: [DONE]\n\n");
    flood->end();
    ASSERT_TRUE(until([&] { return asked.answer->has_ended; }));
    EXPECT_TRUE(asked.answer->body.ends_with("[DONE]\n\n"));
}

TEST_F(GatewayRelay, SilenceHasALimit) {
    setting_.front.relay.silence = milliseconds{300};
    TearDown();
    loop_.restart();
    start();
    tell(chat({engine({.fault = MockFault::hang})}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 502);
}

TEST_F(GatewayRelay, TheReplicaSeesItsOwnModelsNameAndOurId) {
    std::shared_ptr<net::Exchange> seen;
    tell(chat({server([&](const auto& exchange) {
        seen = exchange;
        exchange->respond({200, "application/json", {}, "{}"});
    })}));
    const auto answer = ask(R"({"model":"chat","odd":[1,2.50]})", "key", "/v1/chat/completions", "POST",
                            {{"traceparent", "00-1-2-03"}, {"Cookie", "a=b"}});
    ASSERT_NE(seen, nullptr);
    EXPECT_EQ(seen->body, R"({"model":"mock","odd":[1,2.50]})");
    EXPECT_EQ(net::field(seen->head.fields, "x-request-id"), answer.field("x-request-id"));
    EXPECT_EQ(net::field(seen->head.fields, "traceparent"), "00-1-2-03");
    EXPECT_EQ(net::field(seen->head.fields, "Authorization"), "");
    EXPECT_EQ(net::field(seen->head.fields, "Cookie"), "");
}

}  // namespace
}  // namespace stargate::gateway
