#include "gateway/gateway_testing.hpp"
#include "net/unix_socket.hpp"

// What gateway and control plane say to each other: docs/gateway-protocol.md.
namespace stargate::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class GatewayLink : public WithGateway {
protected:
    /// A control plane that says hello, and what it hears.
    std::unique_ptr<Plane> other(const std::string& incarnation, std::uint64_t term) {
        auto plane = connect();
        plane->say(TakeOffice{incarnation, term});
        return plane;
    }
    static bool is_refused(const Plane& plane) { return !plane.all<Refused>().empty() && !plane.closed.empty(); }
    /// What was said last of the service.
    [[nodiscard]] ServiceDemand demand() const {
        const auto told = plane_->all<Demand>();
        return told.empty() || told.back().services.empty() ? ServiceDemand{} : told.back().services.front();
    }
};

TEST_F(GatewayLink, SaysWhoItIsAndWhatItHas) {
    tell(chat({}));
    const auto first = plane_->all<Introduction>().at(0);
    EXPECT_EQ(first.boot, gateway_->boot());
    EXPECT_EQ(first.pid, ::getpid());
    EXPECT_EQ(first.listen, gateway_->address());
    EXPECT_EQ(first.version, 0U);
    plane_.reset();
    plane_ = connect();
    ASSERT_TRUE(until([&] { return !plane_->reports.empty(); }));
    const auto second = plane_->all<Introduction>().at(0);
    EXPECT_EQ(second.incarnation, "store");
    EXPECT_EQ(second.term, 1U);
    EXPECT_EQ(second.version, 1U);
}

TEST_F(GatewayLink, OneThatDrainsTakesNoMoreLinks) {
    tell(chat({}));
    EXPECT_TRUE(net::connect_to(folder_ / "gateway.sock"));
    gateway_->drain([] {});
    EXPECT_FALSE(net::connect_to(folder_ / "gateway.sock"));
    EXPECT_EQ(plane_->closed, "");  // whom it knows it goes on obeying
    tell(chat({}));
}

TEST_F(GatewayLink, WhoTookOfficeLaterIsObeyed) {
    tell(chat({}));
    const auto lower = other("store", 0);
    ASSERT_TRUE(until([&] { return is_refused(*lower); }));
    EXPECT_EQ(plane_->closed, "");
    const auto same = other("store", 1);
    ASSERT_TRUE(until([&] { return !plane_->closed.empty(); })) << "it has come back over a new link";
    const auto higher = other("store", 2);
    ASSERT_TRUE(until([&] { return !same->closed.empty(); }));
    higher->say(Change{version_ + 1, {}, {"chat"}, {}, {}});
    ASSERT_TRUE(until([&] { return !higher->all<Have>().empty(); }));
    EXPECT_EQ(higher->all<Have>().back().version, 0U) << "a new term begins with a table";
    EXPECT_EQ(higher->all<Refused>().size(), 1U);
    EXPECT_EQ(higher->closed, "");
    EXPECT_EQ(ask("", "key", "/v1/models/chat", "GET").status, 200) << "what there is serves on";
    higher->say(WholeTable{1, {}, {}});
    ASSERT_TRUE(until([&] { return higher->all<Have>().back().version == 1; }));
    const auto late = other("store", 1);
    ASSERT_TRUE(until([&] { return is_refused(*late); }));
}

TEST_F(GatewayLink, AnotherStoreIsRefusedWhileTheFirstOnesWorkIsThere) {
    tell(chat({}));
    const auto another = other("another", 9);
    ASSERT_TRUE(until([&] { return is_refused(*another); }));
    EXPECT_EQ(plane_->closed, "");
    tell_all({});
    const auto again = other("another", 1);
    ASSERT_TRUE(until([&] { return !plane_->closed.empty(); }));
    again->say(WholeTable{1, {}, {}});
    ASSERT_TRUE(until([&] { return !again->all<Have>().empty(); }));
}

TEST_F(GatewayLink, WhoDoesNotKeepToItIsLetGo) {
    for (const auto* line : {"nonsense", R"({"type":"table","version":1})", R"({"type":"hello","term":"x"})"}) {
        const auto plane = connect();
        plane->link->send(line);
        ASSERT_TRUE(until([&] { return is_refused(*plane); })) << line;
    }
    take_office();
    plane_->link->send(R"({"type":"of a newer side"})");
    tell(chat({}));
    plane_->link->send("{");
    ASSERT_TRUE(until([&] { return is_refused(*plane_); }));
    EXPECT_EQ(ask("", "key", "/v1/models/chat", "GET").status, 200);
}

TEST_F(GatewayLink, ChangesAreInForceWhenTheyAreHad) {
    tell(chat({engine()}));
    plane_->say(Change{version_ + 2, {}, {"chat"}, {}, {}});
    ASSERT_TRUE(until([&] { return !plane_->all<Refused>().empty(); }));
    EXPECT_EQ(ask(small).status, 200);
    plane_->say(Change{version_ + 1, {}, {}, {{"k3", "lab", digest_of("third")}}, {"k1"}});
    ASSERT_TRUE(until([&] { return has(version_ + 1); }));
    EXPECT_EQ(ask(small).status, 401);
    EXPECT_EQ(ask(small, "third").status, 200);
    plane_->say(Change{version_ + 2, {}, {"chat"}, {}, {}});
    ASSERT_TRUE(until([&] { return has(version_ + 2); }));
    EXPECT_EQ(ask(small, "third").status, 404);
}

TEST_F(GatewayLink, AReplicaIsWithdrawnWhenItsRequestsHaveEnded) {
    tell(chat({engine({.tokens_per_s = 100}), engine()}));
    const auto asked = begin(R"({"model":"chat","max_tokens":10,"stream":true,"messages":[]})");
    ASSERT_TRUE(until([&] { return engines_[0]->in_flight() == 1; }));
    plane_->say(Withdraw{version_ + 1, 1, 5000});
    ASSERT_TRUE(until([&] { return !plane_->all<Draining>().empty(); }));
    EXPECT_EQ(plane_->all<Draining>()[0], (Draining{1, 1}));
    EXPECT_TRUE(plane_->all<Drained>().empty());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(ask(small).status, 200);
    EXPECT_LE(engines_[0]->in_flight(), 1U) << "nothing new goes there";
    ASSERT_TRUE(until([&] { return !plane_->all<Drained>().empty(); }));
    EXPECT_TRUE(until([&] { return asked.answer->body.ends_with("[DONE]\n\n"); }));
    EXPECT_EQ(plane_->all<Drained>()[0], Drained{1});
    plane_->say(Withdraw{version_ + 2, 2, 5000});
    ASSERT_TRUE(until([&] { return plane_->all<Drained>().size() == 2; })) << "at once: it had none";
    EXPECT_EQ(plane_->all<Draining>()[1], (Draining{2, 0}));
}

TEST_F(GatewayLink, WhatIsLeftAtTheDeadlineIsCut) {
    tell(chat({engine({.tokens_per_s = 100})}));
    const auto asked = begin(endless);
    ASSERT_TRUE(until([&] { return !asked.answer->body.empty(); }));
    plane_->say(Withdraw{version_ + 1, 1, 100});
    ASSERT_TRUE(until([&] { return !plane_->all<Drained>().empty(); }));
    ASSERT_TRUE(until([&] { return asked.answer->has_ended; }));
    EXPECT_NE(asked.answer->body.find("stream_interrupted"), std::string::npos);
    EXPECT_EQ(asked.answer->body.find("[DONE]"), std::string::npos);
    EXPECT_TRUE(until([&] { return engines_[0]->in_flight() == 0; }));
}

TEST_F(GatewayLink, WhatHasNotBegunAtTheDeadlineGoesElsewhere) {
    tell(chat({engine({.fault = serving::MockFault::hang}), engine()}));
    const auto asked = begin(small);
    pass(milliseconds{50});
    ASSERT_FALSE(asked.answer->is_over());
    plane_->say(Withdraw{version_ + 1, 1, 10});
    ASSERT_TRUE(until([&] { return asked.answer->is_over(); }));
    EXPECT_EQ(asked.answer->status, 200);
}

TEST_F(GatewayLink, AReplicaThatServesAgainIsNotCut) {
    tell(chat({engine({.tokens_per_s = 100})}));
    const auto asked = begin(R"({"model":"chat","max_tokens":30,"stream":true,"messages":[]})");
    ASSERT_TRUE(until([&] { return !asked.answer->body.empty(); }));
    plane_->say(Withdraw{version_ + 1, 1, 100});
    plane_->say(Change{version_ + 2, {chat({engines_[0]->port()})}, {}, {}, {}});
    ASSERT_TRUE(until([&] { return asked.answer->has_ended; }));
    EXPECT_TRUE(asked.answer->body.ends_with("[DONE]\n\n"));
    EXPECT_TRUE(plane_->all<Drained>().empty());
}

TEST_F(GatewayLink, DemandIsToldAtOnceAndNotTooOften) {
    auto service = chat({engine({.tokens_per_s = 50})});
    service.max_concurrency = 1;
    service.slo_ms = 100;
    tell(service);
    ASSERT_TRUE(until([&] { return !plane_->all<Demand>().empty(); }));
    pass(milliseconds{50});
    const auto before_us = net::Loop::now_us();
    const auto first = begin(endless);
    const auto second = begin(small);
    ASSERT_TRUE(until([&] { return demand().queued == 1; }));
    EXPECT_LT(net::Loop::now_us() - before_us, 60'000);
    EXPECT_EQ(demand().in_flight, 1);
    EXPECT_GE(demand().queued_tokens, 3);
    EXPECT_GT(demand().in_flight_tokens, 90'000);
    EXPECT_EQ(demand().arrived, 2U);
    EXPECT_TRUE(demand().over_limit);
    const auto count = plane_->all<Demand>().size();
    for (int i = 0; i < 100; ++i) {
        const auto gone = begin(small);
        pass(milliseconds{1});
        gone.call->cancel();
    }
    EXPECT_LT(plane_->all<Demand>().size() - count, 15U);
    first.call->cancel();
    ASSERT_TRUE(until([&] { return second.answer->is_over(); }));
    ASSERT_TRUE(until([&] { return demand().in_flight == 0 && demand().queued == 0; }));
    EXPECT_FALSE(demand().over_limit);
    const auto told = plane_->all<Demand>();
    for (std::size_t i = 1; i < told.size(); ++i) EXPECT_EQ(told[i].seq, told[i - 1].seq + 1);
}

TEST_F(GatewayLink, TheFirstAnswerOfAReplicaIsToldAtOnceAndOnce) {
    tell(chat({engine({.tokens_per_s = 100})}));
    const auto asked = begin(R"({"model":"chat","max_tokens":50,"stream":true,"messages":[]})");
    ASSERT_TRUE(until([&] { return !plane_->all<FirstAnswer>().empty(); }));
    EXPECT_FALSE(asked.answer->has_ended) << "while it comes";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(ask(small).status, 200);
    EXPECT_EQ(plane_->all<FirstAnswer>(), (std::vector<FirstAnswer>{{1, 0}}));
    auto woken = chat({engines_[0]->port()});
    woken.replicas[0].telling = 2;
    tell(woken);
    EXPECT_EQ(ask(small).status, 200);
    EXPECT_EQ(ask(small).status, 200);
    ASSERT_TRUE(until([&] { return plane_->all<FirstAnswer>().size() == 2; }));
    EXPECT_EQ(plane_->all<FirstAnswer>()[1], (FirstAnswer{1, 2}));
}

TEST_F(GatewayLink, AFirstAnswerThatNobodyHeardIsToldToTheNext) {
    tell(chat({engine()}));
    plane_.reset();
    EXPECT_EQ(ask(small).status, 200);
    take_office(2);
    ASSERT_TRUE(until([&] { return !plane_->all<FirstAnswer>().empty(); }));
    EXPECT_EQ(plane_->all<FirstAnswer>(), (std::vector<FirstAnswer>{{1, 0}}));
}

TEST_F(GatewayLink, WhatIsNoAnswerIsNoFirstOne) {
    tell(chat({engine({.fault = serving::MockFault::html})}));
    EXPECT_EQ(ask(small).status, 502);
    pass(milliseconds{50});
    EXPECT_TRUE(plane_->all<FirstAnswer>().empty());
}

TEST_F(GatewayLink, SilenceIsBrokenEverySecond) {
    tell(chat({}));
    const auto asked = begin(small);
    ASSERT_TRUE(until([&] { return demand().queued == 1; }));
    EXPECT_TRUE(demand().over_limit) << "nobody serves";
    const auto seq = plane_->all<Demand>().back().seq;
    ASSERT_TRUE(until([&] { return plane_->all<Demand>().back().seq > seq + 1; }));
    EXPECT_GT(demand().oldest_ms, 500);
}

TEST_F(GatewayLink, StreamsOutliveTheControlPlane) {
    tell(chat({engine({.tokens_per_s = 200})}));
    const auto asked = begin(R"({"model":"chat","max_tokens":40,"stream":true,"messages":[]})");
    ASSERT_TRUE(until([&] { return !asked.answer->body.empty(); }));
    plane_.reset();
    ASSERT_TRUE(until([&] { return asked.answer->has_ended; }));
    EXPECT_TRUE(asked.answer->body.ends_with("[DONE]\n\n"));
    EXPECT_EQ(ask(small).status, 200);
}

}  // namespace
}  // namespace stargate::gateway
