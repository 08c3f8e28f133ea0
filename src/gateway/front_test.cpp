#include "gateway/gateway_testing.hpp"

// What clients see: docs/gateway.md.
namespace stargate::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class GatewayFront : public WithGateway {};

TEST_F(GatewayFront, AnswersWithAReplicasAnswer) {
    tell(chat({engine()}));
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.field("Content-Type"), "application/json");
    EXPECT_NE(answer.body.find("w0 w1 w2"), std::string::npos) << answer.body;
    EXPECT_TRUE(answer.field("x-request-id").starts_with("req_"));
    EXPECT_EQ(used().requests, 1U);
    EXPECT_EQ(used().completion_tokens, 3U);
    EXPECT_EQ(used().in_flight, 0U);
    const auto text = ask(R"({"model":"chat","max_tokens":2,"prompt":"x"})", "key", "/v1/completions");
    EXPECT_NE(text.body.find(R"("text":"w0 w1")"), std::string::npos) << text.body;
}

TEST_F(GatewayFront, StreamsAndKeepsTheUsageThatNobodyAskedForToItself) {
    tell(chat({engine()}));
    const auto answer = ask(streamed);
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.field("Content-Type").starts_with("text/event-stream"));
    EXPECT_NE(answer.body.find("w2"), std::string::npos);
    EXPECT_TRUE(answer.body.ends_with("data: [DONE]\n\n"));
    EXPECT_EQ(answer.body.find("prompt_tokens"), std::string::npos) << answer.body;
    EXPECT_EQ(used().completion_tokens, 3U);
    EXPECT_EQ(used().interrupted, 0U);
    const auto with_usage =
        ask(R"({"model":"chat","max_tokens":3,"stream":true,"stream_options":{"include_usage":true},"messages":[]})");
    EXPECT_NE(with_usage.body.find(R"("choices":[],"usage":{"prompt_tokens")"), std::string::npos);
    EXPECT_EQ(used().completion_tokens, 6U);
}

TEST_F(GatewayFront, TellsEachTenantItsModels) {
    auto own = chat({});
    auto everybodys = chat({});
    everybodys.name = "org/open model";
    everybodys.tenant = "default";
    tell_all({own, everybodys});
    const auto lab = ask("", "key", "/v1/models", "GET").body;
    EXPECT_NE(lab.find(R"({"id":"chat","object":"model","created":0,"owned_by":"lab"})"), std::string::npos) << lab;
    EXPECT_NE(lab.find("org/open model"), std::string::npos);
    EXPECT_EQ(
        ask("", "other", "/v1/models", "GET").body,
        R"({"object":"list","data":[{"id":"org/open model","object":"model","created":0,"owned_by":"default"}]})");
    EXPECT_EQ(ask("", "other", "/v1/models/org%2Fopen%20model", "GET").status, 200);
    EXPECT_EQ(ask("", "key", "/v1/models/chat", "GET").status, 200);
    EXPECT_EQ(ask("", "other", "/v1/models/chat", "GET").status, 404);
}

TEST_F(GatewayFront, TheSchemeOfAKeyMayBeWrittenInAnyCase) {
    tell(chat({engine()}));
    for (const auto* credentials : {"bearer key", "BEARER key", "Bearer   key"}) {
        EXPECT_EQ(ask(small, "", "/v1/chat/completions", "POST", {{"Authorization", credentials}}).status, 200)
            << credentials;
    }
    EXPECT_EQ(ask(small, "", "/v1/chat/completions", "POST", {{"Authorization", "Bearerkey"}}).status, 401);
}

TEST_F(GatewayFront, RefusesInOpenAIsForm) {
    tell(chat({engine()}));
    struct Case {
        std::string body, key, target, method;
        int status;
        std::string code;
    };
    const std::string path = "/v1/chat/completions";
    for (const auto& [body, key, target, method, status, code] : std::vector<Case>{
             {small, "", path, "POST", 401, "invalid_api_key"},
             {small, "wrong", path, "POST", 401, "invalid_api_key"},
             {"", "", "/v1/models", "GET", 401, "invalid_api_key"},
             {"", "", "/anything", "GET", 401, "invalid_api_key"},
             {"{}", "key", "/v1/embeddings", "POST", 404, "unknown_url"},
             {"", "key", "/", "GET", 404, "unknown_url"},
             {"", "key", path, "GET", 405, "method_not_allowed"},
             {"{}", "key", "/v1/models", "POST", 405, "method_not_allowed"},
             {"{}", "key", "/health", "POST", 405, "method_not_allowed"},
             {"{", "key", path, "POST", 400, "invalid_json"},
             {"{}", "key", path, "POST", 400, "missing_required_parameter"},
             {R"({"model":"none"})", "key", path, "POST", 404, "model_not_found"},
             {small, "other", path, "POST", 404, "model_not_found"},
             {std::string(17U << 20, 'x'), "key", path, "POST", 413, "request_too_large"},
         }) {
        const auto answer = ask(body, key, target, method);
        EXPECT_EQ(answer.status, status) << target << answer.failure;
        EXPECT_EQ(answer.error("code"), '"' + code + '"') << answer.body;
        EXPECT_EQ(answer.error("type"), "\"invalid_request_error\"");
        EXPECT_NE(answer.error("message"), "missing");
        EXPECT_NE(answer.error("param"), "missing");
        EXPECT_EQ(answer.field("x-should-retry"), "false") << target;
        EXPECT_FALSE(answer.field("x-request-id").empty()) << target;
        EXPECT_EQ(answer.field("Allow").empty(), status != 405);
    }
    EXPECT_EQ(ask(small).status, 200);
}

TEST_F(GatewayFront, TellsTheClientsOwnIdBackAndUsesItsOwn) {
    tell(chat({engine()}));
    const auto path = "/v1/chat/completions";
    const auto answer = ask(small, "key", path, "POST", {{"X-Request-Id", "mine-1"}});
    EXPECT_EQ(answer.field("x-client-request-id"), "mine-1");
    EXPECT_TRUE(answer.field("x-request-id").starts_with("req_"));
    const auto bad = ask(small, "key", path, "POST", {{"X-Request-Id", std::string(500, 'x')}});
    EXPECT_EQ(bad.field("x-client-request-id"), "");
    EXPECT_NE(bad.field("x-request-id"), answer.field("x-request-id"));
}

TEST_F(GatewayFront, IsWatchedWithoutAKey) {
    EXPECT_EQ(ask("", "", "/health", "GET").status, 200);
    tell(chat({engine()}));
    ask(streamed);
    ask("{}");
    const auto metrics = ask("", "", "/metrics", "GET").body;
    for (const auto* line : {
             "stargate_gateway_requests_total{service=\"\",status=\"400\"} 1\n",
             "stargate_gateway_requests_total{service=\"chat\",status=\"200\"} 1\n",
             "stargate_gateway_queued{service=\"chat\"} 0\n",
             "stargate_gateway_in_flight{service=\"chat\"} 0\n",
             "stargate_gateway_completion_tokens_total{service=\"chat\"} 3\n",
             "stargate_gateway_ttft_seconds_count{service=\"chat\"} 1\n",
             "stargate_gateway_ttft_seconds_bucket{service=\"chat\",le=\"+Inf\"} 1\n",
             "stargate_gateway_connections 1\n",
         }) {
        EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
    }
}

TEST_F(GatewayFront, GivesWorkToWhoHasLeast) {
    const std::vector<std::uint16_t> ports{engine({.tokens_per_s = 20}), engine({.tokens_per_s = 20})};
    tell(chat(ports));
    std::vector<Asked> asked;
    for (int i = 0; i < 8; ++i) asked.push_back(begin(endless));
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() + engines_[1]->in_flight() == 8; }));
    EXPECT_EQ(engines_[0]->in_flight(), 4U);
    for (const auto& each : asked) each.call->cancel();
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() + engines_[1]->in_flight() == 0; }));
    EXPECT_EQ(engines_[0]->cancelled() + engines_[1]->cancelled(), 8U);
    EXPECT_EQ(used().in_flight, 0U);
}

TEST_F(GatewayFront, WaitsWhereAllPlacesAreTakenAndRefusesBeyondTheQueue) {
    auto service = chat({engine({.tokens_per_s = 200})});
    service.max_concurrency = 1;
    service.queue_requests = 2;
    tell(service);
    std::vector<Asked> asked;
    for (int i = 0; i < 5; ++i) asked.push_back(begin(R"({"model":"chat","max_tokens":20,"messages":[]})"));
    ASSERT_TRUE(until([&] {
        return std::all_of(asked.begin(), asked.end(), [](const auto& each) { return each.answer->is_over(); });
    }));
    int refused = 0;
    for (const auto& each : asked) {
        if (each.answer->status == 200) continue;
        ++refused;
        EXPECT_EQ(each.answer->status, 429);
        EXPECT_EQ(each.answer->error("type"), "\"rate_limit_error\"");
        EXPECT_EQ(each.answer->error("code"), "\"rate_limit_exceeded\"");
        EXPECT_GT(std::stoi(each.answer->field("retry-after-ms")), 0);
        EXPECT_LE(std::stoi(each.answer->field("retry-after-ms")), 60'000);
        EXPECT_GE(std::stoi(each.answer->field("retry-after")), 1);
        EXPECT_EQ(each.answer->field("x-should-retry"), "");
    }
    EXPECT_EQ(refused, 2);
}

TEST_F(GatewayFront, HoldsRequestsUntilSomebodyServes) {
    auto service = chat({engine()});
    service.replicas[0].state = ReplicaState::starting;
    tell(service);
    const auto asked = begin(small);
    pass(milliseconds{50});
    EXPECT_FALSE(asked.answer->is_over());
    tell(chat({engines_[0]->port()}));
    ASSERT_TRUE(until([&] { return asked.answer->is_over(); }));
    EXPECT_EQ(asked.answer->status, 200);
}

TEST_F(GatewayFront, HoldsThemNoLongerThanItsClientWaits) {
    tell(chat({}));
    const auto answer = ask(small, "key", "/v1/chat/completions", "POST", {{"X-Stainless-Timeout", "1"}});
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.error("code"), "\"server_is_overloaded\"");
    EXPECT_EQ(answer.field("retry-after-ms"), "5000");
}

TEST_F(GatewayFront, AnswersWhatWaitsForAServiceThatIsDropped) {
    tell(chat({}));
    const auto asked = begin(small);
    pass(milliseconds{20});
    tell_all({});
    ASSERT_TRUE(until([&] { return asked.answer->is_over(); }));
    EXPECT_EQ(asked.answer->status, 404);
}

TEST_F(GatewayFront, WithoutATableAsksToComeBack) {
    const auto answer = ask(small);
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.error("code"), "\"server_is_overloaded\"");
    EXPECT_NE(answer.field("retry-after-ms"), "");
}

TEST_F(GatewayFront, EndsWhatItHasAndGoes) {
    tell(chat({engine({.tokens_per_s = 100})}));
    const auto asked = begin(R"({"model":"chat","max_tokens":10,"stream":true,"messages":[]})");
    ASSERT_TRUE(until([&] { return !asked.answer->body.empty(); }));
    bool is_over = false;
    gateway_->drain([&] { is_over = true; });
    ASSERT_TRUE(until([&] { return is_over; }));
    EXPECT_TRUE(asked.answer->body.ends_with("data: [DONE]\n\n")) << asked.answer->body;
}

}  // namespace
}  // namespace stargate::gateway
