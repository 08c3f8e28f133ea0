#include "gateway/messages.hpp"

#include <gtest/gtest.h>

namespace stargate::gateway {
namespace {

ServiceEntry chat() {
    ServiceEntry service;
    service.name = "chat \"x\" \xC3\xA9";
    service.tenant = "lab/nlp";
    service.model = "meta/llama";
    service.slo_ms = 500;
    service.max_concurrency = 4;
    service.queue_requests = 10;
    service.queue_bytes = Bytes{1000};
    service.replicas = {{7, "127.0.0.1", 9000, ReplicaState::serving, 2}, {8, "::1", 9001, ReplicaState::starting}};
    return service;
}

TEST(Messages, OrdersComeBackAsTheyWent) {
    for (const Order& order : {
             Order{TakeOffice{"abc", 7}},
             Order{WholeTable{3, {chat()}, {{"k1", "lab", digest_of("secret")}}}},
             Order{Change{4, {chat()}, {"old"}, {{"k1", "lab", digest_of("secret")}}, {"k2"}}},
             Order{Withdraw{5, 7, 2000}},
         }) {
        const auto line = to_line(order);
        EXPECT_EQ(line.find('\n'), std::string::npos);
        const auto read = read_order(line);
        ASSERT_TRUE(read) << line << read.error().detail;
        ASSERT_TRUE(std::holds_alternative<Order>(*read)) << line;
        EXPECT_EQ(std::get<Order>(*read), order) << line;
    }
}

TEST(Messages, ReportsComeBackAsTheyWent) {
    for (const Report& report : {
             Report{Introduction{"boot", 12, "127.0.0.1:7434", "abc", 7, 3, 2}},
             Report{Have{3}},
             Report{Draining{7, 2}},
             Report{Drained{7}},
             Report{Demand{9, {{"chat", 1, 20, 3, 40, 5, 6, 70, true, 800, 900}}}},
             Report{Refused{"why\nnot"}},
             Report{Seen{{7, 8}, {9}}},
             Report{FirstAnswer{7, 2}},
         }) {
        const auto line = to_line(report);
        const auto read = read_report(line);
        ASSERT_TRUE(read) << line << read.error().detail;
        ASSERT_TRUE(std::holds_alternative<Report>(*read)) << line;
        EXPECT_EQ(std::get<Report>(*read), report) << line;
    }
}

TEST(Messages, WhatANewerSideSaysIsPassedOver) {
    const auto type = read_order(R"({"type":"dance","partner":1})");
    ASSERT_TRUE(type);
    EXPECT_TRUE(std::holds_alternative<UnknownType>(*type));
    const auto member = read_order(R"({"type":"hello","incarnation":"a","term":1,"colour":{"red":[1]}})");
    ASSERT_TRUE(member);
    EXPECT_EQ(std::get<Order>(*member), Order(TakeOffice{"a", 1}));
    const auto state = read_order(
        R"({"type":"table","version":1,"services":[{"name":"a","tenant":"t","model":"m","replicas":[{"id":1,"host":"h","port":1,"state":"dreaming"}]}]})");
    ASSERT_TRUE(state);
    EXPECT_EQ(std::get<WholeTable>(std::get<Order>(*state)).services[0].replicas[0].state, ReplicaState::starting);
}

TEST(Messages, AnOlderGatewayTellsNoTokensASecond) {
    const auto read =
        read_report(R"({"type":"demand","seq":1,"services":[{"name":"a","queued":2,"over_limit":true}]})");
    ASSERT_TRUE(read);
    const auto& told = std::get<Demand>(std::get<Report>(*read)).services.front();
    EXPECT_EQ(told.queued, 2);
    EXPECT_EQ(told.wanted_tokens_per_s, 0);
    EXPECT_EQ(told.replica_tokens_per_s, 0);
}

TEST(Messages, HostileLinesAreMalformed) {
    const std::string service = R"({"type":"table","version":1,"services":[{"name":"a","tenant":"t","model":"m")";
    for (const auto& line : std::vector<std::string>{
             "",
             "[]",
             "{}",
             "\"hello\"",
             "{\"type\":1}",
             std::string(10'000, '['),
             "{\"type\":\"hello\",\"incarnation\":\"\xFF\"}",
             R"({"type":"hello","term":1})",
             R"({"type":"hello","incarnation":"a","term":-1})",
             R"({"type":"hello","incarnation":"a","term":1.5})",
             R"({"type":"hello","incarnation":"a","term":1e300})",
             R"({"type":"hello","incarnation":["a"],"term":1})",
             R"({"type":"table","services":{}})",
             R"({"type":"table","services":[1]})",
             R"({"type":"table","services":[{"name":"","tenant":"t","model":"m"}]})",
             R"({"type":"table","services":[{"name":")" + std::string(129, 'n') + R"(","tenant":"t","model":"m"}]})",
             service + R"(,"max_concurrency":0}]})",
             service + R"(,"max_concurrency":99999999999}]})",
             service + R"(,"replicas":[{"id":1,"host":"h","port":65536}]}]})",
             service + R"(,"replicas":[{"id":1,"host":"h","port":0}]}]})",
             service + R"(,"replicas":[{"id":0,"host":"h","port":1}]}]})",
             R"({"type":"change","keys":[{"id":"k","tenant":"t","digest":"12"}]})",
             R"({"type":"change","keys":[{"id":"k","tenant":"t"}]})",
             R"({"type":"change","revoke":"all"})",
             R"({"type":"withdraw","replica":"7"})",
         }) {
        const auto read = read_order(line);
        ASSERT_FALSE(read) << line;
        EXPECT_EQ(read.error().fault, Fault::malformed) << line;
    }
}

}  // namespace
}  // namespace stargate::gateway
