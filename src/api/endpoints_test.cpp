#include "api/endpoints.hpp"

#include <gtest/gtest.h>

#include "api/fake_control.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/scratch_folder.hpp"

namespace stargate::api {
namespace {

TEST(Endpoint, IsAHostAndAPort) {
    EXPECT_EQ(*read_endpoint("http://127.0.0.1:8000"), (Endpoint{"127.0.0.1", 8000}));
    EXPECT_EQ(*read_endpoint("http://gpu-7.lab.example:65535/"), (Endpoint{"gpu-7.lab.example", 65535}));
    EXPECT_EQ(*read_endpoint("http://LocalHost:1"), (Endpoint{"localhost", 1}));
    EXPECT_EQ(*read_endpoint("http://[0:0:0:0:0:0:0:1]:8000"), (Endpoint{"::1", 8000}));
}

TEST(Endpoint, IsWrittenAsItIsRead) {
    for (const auto* url : {"http://127.0.0.1:8000", "http://localhost:80", "http://[::1]:8000"}) {
        EXPECT_EQ(url_of(*read_endpoint(url)), url);
    }
}

TEST(Endpoint, WhatIsNoneIsRefusedWithARemedy) {
    for (const auto* text : {"",
                             "8000",
                             "localhost:8000",
                             "http://",
                             "http://:8000",
                             "http://localhost",
                             "http://localhost:",
                             "http://localhost:0",
                             "http://localhost:65536",
                             "http://localhost:80x",
                             "http://localhost:+80",
                             "http://user@localhost:80",
                             "http://a b:80",
                             "http://300.1.1.1:80",
                             "http://1:80",
                             "http://-a:80",
                             "http://a..b:80",
                             "http://::1:80",
                             "http://[::1:80",
                             "http://[localhost]:80",
                             "http://[fe80::1%eth0]:80",
                             "http://localhost:80/v1",
                             "http://localhost:80?x",
                             "http://localhost:80//",
                             "https://localhost:443",
                             "unix:/x",
                             "HTTP://localhost:80"}) {
        const auto endpoint = read_endpoint(text);
        ASSERT_FALSE(endpoint) << text;
        EXPECT_NE(endpoint.error().detail.find("; "), std::string::npos) << endpoint.error().detail;
    }
    EXPECT_FALSE(read_endpoint("http://" + std::string(200, 'a') + ":80"));
}

TEST(Endpoint, OfAServiceItIsSaidWhichServe) {
    Service service;
    service.spec.endpoints = {{"a", 1}, {"b", 2}};
    EXPECT_EQ(endpoints_in_words(service, {}),
              "requests wait until an endpoint answers; http://a:1: it has not been asked yet; http://b:2: it has not "
              "been asked yet");
    const auto look = [](JobId) { return std::vector<EndpointSight>{{true, ""}, {false, "Connection refused"}}; };
    EXPECT_EQ(endpoints_in_words(service, look), "requests go to 1 of its 2 endpoints; http://b:2: Connection refused");
    std::string json;
    append_endpoints(json, service, look);
    EXPECT_EQ(json, R"([{"url":"http://a:1","serving":true,"detail":""},)"
                    R"({"url":"http://b:2","serving":false,"detail":"Connection refused"}])");
}

/// What the API says of a service of two endpoints, one of which answers.
class ExternalServiceTest : public testing::Test {
protected:
    void SetUp() override {
        auto tokens = Tokens::open(folder_.path());
        ASSERT_TRUE(tokens);
        tokens_ = std::make_unique<Tokens>(std::move(*tokens));
        ApiSetting setting;
        setting.look_at_endpoints = [](JobId) {
            return std::vector<EndpointSight>{{true, ""}, {false, "Connection refused"}};
        };
        setting.look_at_demand = [this](JobId) { return demand_; };
        api_ = std::make_unique<Api>(control_, *tokens_, std::move(setting));
        NewJob added;
        added.input.tenant = "default";
        added.input.spec.name = "gpt";
        added.input.spec.kind = Kind::service;
        added.input.spec.min_gpus = added.input.spec.max_gpus = GpuCount{0};
        added.input.service.emplace().endpoints = {{"a", 1}, {"b", 2}};
        control_.submit(std::move(added),
                        [](const Result<Answer>& answer) { EXPECT_TRUE(answer && answer->accepted()); });
    }
    Json ask(const std::string& method, const std::string& target) {
        Request request;
        request.method = method;
        request.caller.is_operator = true;
        request.target = *Target::parse(target);
        Json json;
        api_->handle(request, [&](const Api::Outcome& outcome) {
            json = parse_json(std::get<Reply>(made(outcome)).body).value_or(Json{});
        });
        return json;
    }

    ScratchFolder folder_;
    FakeControl control_;
    ServiceDemand demand_;
    std::unique_ptr<Tokens> tokens_;
    std::unique_ptr<Api> api_;
};

TEST_F(ExternalServiceTest, TokensASecondAreShownAsFarAsTheyAreKnown) {
    const auto rates = [this] {
        const auto row = ask("GET", "/api/v1/services").items.at(0);
        return std::pair{row["wanted_tokens_per_s"].word(), row["replica_tokens_per_s"].word()};
    };
    using Both = std::pair<std::string, std::string>;
    EXPECT_EQ(rates(), (Both{"", ""})) << "null";
    demand_.is_known = true;
    EXPECT_EQ(rates(), (Both{"0", ""}));
    demand_.wanted_tokens_per_s = 300;
    demand_.replica_tokens_per_s = 450;
    EXPECT_EQ(rates(), (Both{"300", "450"}));
}

TEST_F(ExternalServiceTest, DemandIsAsGatewaysTellIt) {
    demand_.is_known = true;
    demand_.queued = 8;
    demand_.in_flight = 1;
    demand_.over_limit = true;
    const auto service = ask("GET", "/api/v1/services").items.at(0);
    EXPECT_EQ(service["demand"].whole, 2) << "of eight places each";
    EXPECT_TRUE(service["over_limit"].boolean);
}

TEST_F(ExternalServiceTest, EveryFaceSaysThatItRunsAndWhereRequestsGo) {
    const auto service = ask("GET", "/api/v1/services").items.at(0);
    EXPECT_EQ(service["wanted"].whole, 2);
    EXPECT_EQ(service["serving"].whole, 1);
    EXPECT_EQ(service["demand"].kind, Json::Kind::null);
    EXPECT_EQ(service["endpoints"].items.at(1)["detail"].text, "Connection refused");
    const auto job = ask("GET", "/api/v1/jobs/gpt");
    EXPECT_EQ(job["state"].text, "running");
    EXPECT_EQ(job["gpus"].whole, 0);
    EXPECT_EQ(job["launch"].kind, Json::Kind::null);
    EXPECT_EQ(job["endpoints"].items.at(0)["url"].text, "http://a:1");
    const auto why = ask("GET", "/api/v1/jobs/gpt/why");
    EXPECT_EQ(why["state"].text, "running");
    EXPECT_EQ(why["detail"].text, "requests go to 1 of its 2 endpoints; http://b:2: Connection refused");
    EXPECT_EQ(ask("GET", "/api/v1/jobs?state=running").items.size(), 1U);
}

TEST_F(ExternalServiceTest, HeldItIsNotWantedAndWaits) {
    ask("POST", "/api/v1/jobs/gpt/hold");
    EXPECT_EQ(ask("GET", "/api/v1/services").items.at(0)["wanted"].whole, 0);
    const auto why = ask("GET", "/api/v1/jobs/gpt/why");
    EXPECT_EQ(why["state"].text, "waiting");
    ASSERT_EQ(why["reasons"].items.size(), 1U);
    EXPECT_EQ(why["reasons"].items.front()["why"].text, "held");
}

TEST_F(ExternalServiceTest, CancelledItIsNoServiceAnyMore) {
    EXPECT_EQ(ask("POST", "/api/v1/jobs/gpt/cancel")["active"].whole, 0);
    EXPECT_TRUE(ask("GET", "/api/v1/services").items.empty());
    const auto job = ask("GET", "/api/v1/jobs/gpt");
    EXPECT_EQ(job["state"].text, "cancelled");
    EXPECT_EQ(job.find("endpoints"), nullptr);
}

}  // namespace
}  // namespace stargate::api
