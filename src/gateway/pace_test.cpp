#include "gateway/pace.hpp"

#include <gtest/gtest.h>

#include "gateway/gateway_testing.hpp"
#include "gateway/service.hpp"

// How many tokens a second a full replica gives, and how many are wanted.
namespace stargate::gateway {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t second_us = 1'000'000;
constexpr std::int64_t hour_us = 3600 * second_us;

TEST(FullTime, RunsWhileAllPlacesAreTaken) {
    FullTime full;
    EXPECT_EQ(full.total_us(500), 0);
    full.set(true, 1000);
    full.set(true, 1400);
    EXPECT_EQ(full.total_us(1500), 500);
    full.set(false, 2000);
    full.set(false, 2500);
    EXPECT_EQ(full.total_us(9000), 1000);
    full.set(true, 9000);
    EXPECT_EQ(full.total_us(9001), 1001);
}

TEST(Pace, IsKnownAfterAsManyAnswersAsThereArePlacesAndASecond) {
    Pace pace{4};
    for (int i = 0; i < 3; ++i) pace.note(100, 4 * second_us, 0);
    EXPECT_EQ(pace.tokens_per_s(0), 0) << "three answers";
    pace.note(100, 4 * second_us, 0);
    EXPECT_NEAR(static_cast<double>(pace.tokens_per_s(0)), 100, 1);
    Pace young{4};
    for (int i = 0; i < 6; ++i) young.note(20, second_us / 2, 0);
    EXPECT_EQ(young.tokens_per_s(0), 0) << "0.75 s";
    for (int i = 0; i < 3; ++i) young.note(20, second_us / 2, 0);
    EXPECT_NEAR(static_cast<double>(young.tokens_per_s(0)), 160, 1);
}

TEST(Pace, OfLessThanOneTokenASecondIsNotKnown) {
    Pace pace{1};
    pace.note(9, 10 * second_us, 0);
    EXPECT_EQ(pace.tokens_per_s(0), 0);
}

TEST(Pace, FollowsWhatAFullReplicaHasDoneOfLate) {
    Pace pace{2};
    for (int i = 0; i < 100; ++i) pace.note(100, 2 * second_us, 0);
    EXPECT_NEAR(static_cast<double>(pace.tokens_per_s(0)), 100, 1);
    for (int i = 0; i < 30; ++i) pace.note(50, 2 * second_us, hour_us / 2);
    EXPECT_NEAR(static_cast<double>(pace.tokens_per_s(hour_us / 2)), 68, 2) << "however long nobody was full between";
    for (int i = 0; i < 100; ++i) pace.note(50, 2 * second_us, hour_us / 2);
    EXPECT_NEAR(static_cast<double>(pace.tokens_per_s(hour_us / 2)), 50, 2);
}

TEST(Pace, IsForgottenWhenNothingHasBeenSeenForAnHour) {
    Pace pace{1};
    pace.note(500, second_us, 0);
    EXPECT_EQ(pace.tokens_per_s(hour_us), 500);
    EXPECT_EQ(pace.tokens_per_s(hour_us + 1), 0);
    pace.note(100, second_us, hour_us + 1);
    EXPECT_NEAR(static_cast<double>(pace.tokens_per_s(hour_us + 1)), 100, 1);
}

/// A request that does what a test says, without a server.
struct Asking : Errand {
    std::unique_ptr<Load> load;
    void start(std::unique_ptr<Load> place) override { load = std::move(place); }
    void refuse(const Refusal& /*refusal*/) override {}
    void cut(const std::string& /*why*/) override {}
    void gives(int deltas) const {
        for (int i = 0; i < deltas; ++i) load->progress();
    }
};

class ServicePace : public WithGateway {
protected:
    void SetUp() override {
        WithGateway::SetUp();
        entry_ = chat({1});
        entry_.max_concurrency = 2;
        replica_->entry = entry_.replicas.front();
        service_->update(entry_, {replica_});
    }
    std::shared_ptr<Asking> begins() {
        auto asking = std::make_shared<Asking>();
        asking->since_us = net::Loop::now_us();
        asking->patience = std::chrono::minutes{1};
        service_->submit(asking);
        EXPECT_NE(asking->load, nullptr);
        return asking;
    }
    static void ends(Asking& asking, std::int64_t tokens) {
        asking.load->finished(tokens);
        asking.load.reset();
    }
    [[nodiscard]] double pace() const { return static_cast<double>(service_->demand().replica_tokens_per_s); }

    ServiceEntry entry_;
    std::shared_ptr<Replica> replica_ = std::make_shared<Replica>();
    std::shared_ptr<Service> service_ = std::make_shared<Service>(loop_, ServiceEvents{});
};

TEST_F(ServicePace, OfStreamsIsWhatCameWhileTheReplicaWasFull) {
    const auto first = begins();
    first->gives(1000);  // alone
    const auto second = begins();
    const auto full_us = net::Loop::now_us();
    pass(milliseconds{1100});
    first->gives(100);
    second->gives(100);
    const auto expected = 400 / (static_cast<double>(net::Loop::now_us() - full_us) / 1e6);
    ends(*first, 2200);  // each delta has two tokens
    EXPECT_EQ(pace(), 0) << "one answer is not enough";
    ends(*second, 200);
    EXPECT_NEAR(pace(), expected, expected / 10);
    const auto third = begins();
    third->gives(1000);
    ends(*third, 1000);
    EXPECT_NEAR(pace(), expected, expected / 10) << "who is alone says nothing";
}

TEST_F(ServicePace, OfAnswersInOnePieceIsTheirPartOfTheTime) {
    const auto first = begins();
    pass(milliseconds{550});
    const auto second = begins();
    const auto full_us = net::Loop::now_us();
    pass(milliseconds{1100});
    const auto expected = 400 / (static_cast<double>(net::Loop::now_us() - full_us) / 1e6);
    ends(*first, 300);
    ends(*second, 200);
    EXPECT_NEAR(pace(), expected, expected / 10);
}

TEST_F(ServicePace, OfAnotherModelOrWithOtherPlacesIsMeasuredAnew) {
    const auto measure = [&] {
        const auto first = begins();
        const auto second = begins();
        pass(milliseconds{1050});
        ends(*first, 200);
        ends(*second, 200);
    };
    measure();
    EXPECT_GT(pace(), 300);
    service_->update(entry_, {replica_});
    EXPECT_GT(pace(), 300) << "nothing has changed";
    const auto first = begins();
    const auto second = begins();
    pass(milliseconds{1050});
    entry_.model = "another";
    service_->update(entry_, {replica_});
    EXPECT_EQ(pace(), 0);
    ends(*first, 200);
    ends(*second, 200);
    EXPECT_EQ(pace(), 0) << "they are the old one's";
    measure();
    EXPECT_GT(pace(), 300);
    entry_.max_concurrency = 3;
    service_->update(entry_, {replica_});
    EXPECT_EQ(pace(), 0);
    measure();
    EXPECT_EQ(pace(), 0) << "two are not full";
}

class GatewayPace : public WithGateway {
protected:
    [[nodiscard]] ServiceDemand demand() const {
        const auto told = plane_->all<Demand>();
        return told.empty() || told.back().services.empty() ? ServiceDemand{} : told.back().services.front();
    }
    /// Two requests at once for two places of a replica that gives each 200 tokens a second: the pace that is told
    /// then.
    std::int64_t pace_of(const std::string& request) {
        auto service = chat({engine({.tokens_per_s = 200})});
        service.max_concurrency = 2;
        tell(service);
        const auto first = begin(request);
        const auto second = begin(request);
        EXPECT_TRUE(until([&] { return first.answer->is_over() && second.answer->is_over(); }));
        EXPECT_TRUE(until([&] { return demand().replica_tokens_per_s > 0; })) << "it is told";
        return demand().replica_tokens_per_s;
    }
};

TEST_F(GatewayPace, OfStreamsIsTold) {
    const auto pace = pace_of(R"({"model":"chat","max_tokens":250,"stream":true,"messages":[]})");
    EXPECT_GT(pace, 250);
    EXPECT_LT(pace, 450);
    const auto metrics = ask("", "", "/metrics", "GET").body;
    EXPECT_NE(metrics.find("stargate_gateway_replica_tokens_per_second{service=\"chat\"} " + std::to_string(pace)),
              std::string::npos)
        << metrics;
}

TEST_F(GatewayPace, OfAnswersInOnePieceIsTold) {
    const auto pace = pace_of(R"({"model":"chat","max_tokens":250,"messages":[]})");
    EXPECT_GT(pace, 250);
    EXPECT_LT(pace, 450);
}

TEST_F(GatewayPace, WhatAClientAllowsAndDoesNotUseUpIsNotWanted) {
    tell(chat({engine()}));
    const auto since_us = net::Loop::now_us();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(small).status, 200);
    // Over so short a time the rate is that of the time since the first.
    const auto seconds = [&] { return std::max(static_cast<double>(net::Loop::now_us() - since_us) / 1e6, 0.1); };
    const auto wanted = [&] { return static_cast<double>(demand().wanted_tokens_per_s) * seconds(); };
    ASSERT_TRUE(until([&] { return demand().arrived == 20 && demand().in_flight == 0; }));
    EXPECT_NEAR(wanted(), 60, 30) << "three tokens each";
    const auto asked = begin(endless);
    ASSERT_TRUE(until([&] { return demand().in_flight == 1; }));
    EXPECT_LT(wanted(), 400) << "as many as are usual";
    asked.call->cancel();
    ASSERT_TRUE(until([&] { return demand().in_flight == 0; }));
}

TEST_F(GatewayPace, AnAnswerThatWasLongerThanExpectedIsPutRight) {
    tell(chat({engine({.tokens_per_s = 2000})}));
    const auto since_us = net::Loop::now_us();
    EXPECT_EQ(ask(R"({"model":"chat","max_tokens":1000,"messages":[]})").status, 200);
    ASSERT_TRUE(until([&] { return demand().arrived == 1 && demand().in_flight == 0; }));
    const auto seconds = static_cast<double>(net::Loop::now_us() - since_us) / 1e6;
    EXPECT_NEAR(static_cast<double>(demand().wanted_tokens_per_s) * seconds, 1000, 200);
}

}  // namespace
}  // namespace stargate::gateway
