#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "serving/mock_engine.hpp"
#include "steward/fake_server.hpp"
#include "steward/gateway_side.hpp"
#include "steward/replicas.hpp"

// How replicas are told, and what is made of their answers; how a replica is withdrawn from a gateway.
namespace stargate::steward {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ReplicasTest : public ::testing::Test {
protected:
    /// Runs the loop until there is a reply, or for so long.
    std::optional<Report> reply_within(Duration limit) {
        loop_.restart();
        const auto timer = loop_.after(limit, [this] { loop_.stop(); });
        if (replies_.empty()) loop_.run();
        loop_.cancel(timer);
        if (replies_.empty()) return std::nullopt;
        auto reply = replies_.front();
        replies_.pop_front();
        return reply;
    }
    void tell(Telling what) {
        replicas_.tell({AttemptId{7}, NodeId{1}, server_.port(), what, Instant::max(), {}, 3}, "127.0.0.1");
    }

    net::Loop loop_;
    FakeServer server_{loop_};
    std::deque<Report> replies_;
    PortHolder holder_{PortHolder::Who::the_replica, {}};
    Replicas replicas_{loop_,
                       [this](Report reply) {
                           replies_.push_back(std::move(reply));
                           loop_.stop();
                       },
                       [this](AttemptId, std::int32_t) { return holder_; }};
};

TEST_F(ReplicasTest, IsReadyWhenItsHealthIsGood) {
    server_.answers["/health"] = 503;
    tell(Telling::prove);
    EXPECT_FALSE(reply_within(milliseconds{100}));
    EXPECT_GT(server_.asked.size(), 2U);
    server_.answers["/health"] = 200;
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply && std::holds_alternative<ReplicaReady>(*reply));
    EXPECT_EQ(std::get<ReplicaReady>(*reply), (ReplicaReady{AttemptId{7}, 3}));
    EXPECT_TRUE(replicas_.told().empty());
}

TEST_F(ReplicasTest, AnAnswerOfSomebodyElseOnItsPortProvesNothingAndIsReported) {
    server_.answers["/health"] = 200;
    holder_ = {PortHolder::Who::somebody_else, "sshd (pid 7) of user 0 listens on port 21001 already"};
    tell(Telling::prove);
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply);
    EXPECT_EQ(std::get<ReplicaFailed>(*reply), (ReplicaFailed{AttemptId{7}, 3, holder_.detail}));
    EXPECT_TRUE(server_.asked.empty());
    EXPECT_TRUE(replicas_.told().empty());
}

TEST_F(ReplicasTest, WhereNobodyMayLookAnAnswerCounts) {
    server_.answers["/health"] = 200;
    holder_ = {PortHolder::Who::unseen, "no sock_diag here"};
    tell(Telling::prove);
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply && std::holds_alternative<ReplicaReady>(*reply));
}

TEST_F(ReplicasTest, WithoutHealthItsModelsProveIt) {
    server_.answers["/v1/models"] = 200;
    tell(Telling::prove);
    ASSERT_TRUE(reply_within(seconds{5}));
    EXPECT_EQ(server_.asked, (std::vector<std::string>{"GET /health", "GET /v1/models"}));
}

TEST_F(ReplicasTest, WakesAndThenProvesIt) {
    server_.answers["/wake_up"] = 200;
    server_.answers["/health"] = 200;
    tell(Telling::wake);
    ASSERT_TRUE(reply_within(seconds{5}));
    EXPECT_EQ(server_.asked, (std::vector<std::string>{"POST /wake_up", "GET /health"}));
}

TEST_F(ReplicasTest, OneThatDoesNotKnowSleepSaysSo) {
    tell(Telling::sleep);
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply);
    EXPECT_FALSE(std::get<ReplicaAsleep>(*reply).can_sleep);
}

TEST_F(ReplicasTest, IsToldAgainUntilItSleeps) {
    server_.answers["/sleep?level=1"] = 500;
    tell(Telling::sleep);
    EXPECT_FALSE(reply_within(milliseconds{100}));
    server_.answers["/sleep?level=1"] = 200;
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply);
    EXPECT_TRUE(std::get<ReplicaAsleep>(*reply).can_sleep);
}

TEST_F(ReplicasTest, WhatItIsToldLastCounts) {
    server_.hangs = true;
    tell(Telling::prove);
    EXPECT_FALSE(reply_within(milliseconds{50}));
    server_.hangs = false;
    server_.answers["/sleep?level=1"] = 200;
    tell(Telling::sleep);
    const auto reply = reply_within(seconds{5});
    ASSERT_TRUE(reply);
    EXPECT_TRUE(std::holds_alternative<ReplicaAsleep>(*reply));
}

TEST_F(ReplicasTest, OneThatIsForgottenIsAskedNoMore) {
    server_.answers["/health"] = 503;
    tell(Telling::prove);
    EXPECT_FALSE(reply_within(milliseconds{50}));
    replicas_.forget(AttemptId{7});
    server_.asked.clear();
    EXPECT_FALSE(reply_within(milliseconds{50}));
    EXPECT_TRUE(server_.asked.empty());
}

TEST(GatewaySide, WithoutAGatewayAReplicaIsDrainedInAMoment) {
    net::Loop loop;
    GatewaySide side{loop, "/nowhere/gateway.sock", {}, {}};
    side.set_services({});
    side.set_keys({});
    bool drained = false;
    side.withdraw(7, seconds{60}, [&] {
        drained = true;
        loop.stop();
    });
    loop.after(seconds{5}, [&] { loop.stop(); });
    loop.run();
    EXPECT_TRUE(drained);
}

/// A gateway that only the test answers for.
class FakeGateway {
public:
    FakeGateway(net::Loop& loop, const std::string& path)
        : server_{std::move(*net::LineServer::listen(loop, path, [this](std::unique_ptr<net::LineLink> link) {
              link_ = std::move(link);
              link_->begin({[this](std::string_view line) { heard(line); }, [](const std::string&) {}});
              say(gateway::Introduction{"boot-1", 1, "127.0.0.1:1", "", 0, 41});
          }))} {}
    void say(const gateway::Report& report) { link_->send(gateway::to_line(report)); }
    void say_line(std::string_view line) { link_->send(line); }
    void hang_up() { link_.reset(); }

    std::vector<gateway::Order> orders;
    std::function<void()> on_order = [] {};

private:
    void heard(std::string_view line) {
        orders.push_back(std::get<gateway::Order>(*gateway::read_order(line)));
        on_order();
    }
    std::unique_ptr<net::LineLink> link_;
    std::unique_ptr<net::LineServer> server_;
};

class GatewaySideTest : public ::testing::Test {
protected:
    void SetUp() override {
        side_.set_services({{"chat", chat_}});
        side_.set_keys({});
        run_until([&] { return fake_.orders.size() >= 2; });
    }
    void run_until(const std::function<bool()>& holds) {
        fake_.on_order = [&] {
            if (holds()) loop_.stop();
        };
        const auto timer = loop_.after(seconds{5}, [this] {
            loop_.stop();
            ADD_FAILURE() << "waited in vain";
        });
        loop_.restart();
        if (!holds()) loop_.run();
        loop_.cancel(timer);
    }
    template <class Order>
    [[nodiscard]] const Order& order(std::size_t i) const {
        return std::get<Order>(fake_.orders.at(i));
    }

    std::string path_ = ::testing::TempDir() + "steward_gateway_" + std::to_string(::getpid()) + ".sock";
    gateway::ServiceEntry chat_{"chat", "lab", "mock",        0,
                                8,      1000,  mebibytes(64), {{7, "127.0.0.1", 2107, gateway::ReplicaState::serving}}};
    net::Loop loop_;
    FakeGateway fake_{loop_, path_};
    std::vector<std::pair<std::uint64_t, gateway::Demand>> demands_;
    std::vector<gateway::Seen> seen_;
    std::vector<gateway::FirstAnswer> first_;
    GatewaySide side_{loop_,
                      path_,
                      {"ab", 3},
                      {[this](std::uint64_t boot, const gateway::Demand& demand) {
                           demands_.emplace_back(boot, demand);
                           loop_.stop();
                       },
                       [this](const gateway::Seen& seen) {
                           seen_.push_back(seen);
                           loop_.stop();
                       },
                       [this](const gateway::FirstAnswer& answer) {
                           first_.push_back(answer);
                           loop_.stop();
                       }}};
};

TEST_F(GatewaySideTest, TellsWhoItIsAndTheWholeTableFirst) {
    EXPECT_EQ(order<gateway::TakeOffice>(0), (gateway::TakeOffice{"ab", 3}));
    const auto& table = order<gateway::WholeTable>(1);
    EXPECT_EQ(table.version, 42U);  // above what the gateway has
    ASSERT_EQ(table.services.size(), 1U);
    EXPECT_EQ(table.services.front(), chat_);
}

TEST_F(GatewaySideTest, TellsWhatChangedAndNothingElse) {
    side_.set_services({{"chat", chat_}});
    auto other = chat_;
    other.name = "other";
    side_.set_services({{"chat", chat_}, {"other", other}});
    side_.set_services({{"other", other}});
    run_until([&] { return fake_.orders.size() >= 4; });
    EXPECT_EQ(order<gateway::Change>(2), (gateway::Change{43, {other}, {}, {}, {}}));
    EXPECT_EQ(order<gateway::Change>(3), (gateway::Change{44, {}, {"chat"}, {}, {}}));
}

TEST_F(GatewaySideTest, AReplicaIsDrainedWhenTheGatewaySaysSo) {
    bool drained = false;
    side_.withdraw(7, seconds{60}, [&] {
        drained = true;
        loop_.stop();
    });
    run_until([&] { return fake_.orders.size() >= 3; });
    EXPECT_EQ(order<gateway::Withdraw>(2).replica, 7U);
    EXPECT_FALSE(drained);
    auto without = chat_;
    without.replicas.clear();
    side_.set_services({{"chat", without}});  // State says so too: nothing more to tell
    fake_.say(gateway::Draining{7, 1});
    fake_.say(gateway::Drained{7});
    run_until([&] { return drained; });
    EXPECT_EQ(fake_.orders.size(), 3U);
}

TEST_F(GatewaySideTest, AnOlderStateBringsBackNothingThatWasWithdrawn) {
    side_.withdraw(7, seconds{60}, [] {});
    side_.set_services({{"chat", chat_}});  // as it was before
    run_until([&] { return fake_.orders.size() >= 3; });
    EXPECT_EQ(order<gateway::Withdraw>(2).replica, 7U);
    side_.give_back(7);
    side_.set_services({{"chat", chat_}});
    run_until([&] { return fake_.orders.size() >= 4; });
    EXPECT_EQ(order<gateway::Change>(3).services.front(), chat_);
}

TEST_F(GatewaySideTest, NobodyHearsThatOneWasDrainedThatWasGivenBack) {
    bool drained = false;
    side_.withdraw(7, milliseconds{20}, [&] { drained = true; });
    run_until([&] { return fake_.orders.size() >= 3; });
    side_.give_back(7);
    fake_.say(gateway::Drained{7});
    fake_.say(gateway::Demand{1, {}});
    run_until([&] { return !demands_.empty(); });
    EXPECT_FALSE(drained);
}

TEST_F(GatewaySideTest, OneThatDiesInADrainIsSaidToWithdrawAgainWhenItIsBack) {
    bool drained = false;
    side_.withdraw(7, seconds{60}, [&] {
        drained = true;
        loop_.stop();
    });
    run_until([&] { return fake_.orders.size() >= 3; });
    fake_.say(gateway::Draining{7, 1});
    fake_.hang_up();
    run_until([&] { return fake_.orders.size() >= 6; });
    EXPECT_TRUE(order<gateway::WholeTable>(4).services.front().replicas.empty());
    EXPECT_EQ(order<gateway::Withdraw>(5).replica, 7U);
    EXPECT_FALSE(drained) << "what it has, only it knows";
    fake_.say(gateway::Draining{7, 0});
    fake_.say(gateway::Drained{7});
    run_until([&] { return drained; });
}

TEST_F(GatewaySideTest, AKeyThatIsGoneIsRevokedAtOnce) {
    const gateway::KeyEntry first{"k1", "lab", digest_of("one")};
    const gateway::KeyEntry second{"k2", "lab", digest_of("two")};
    side_.set_keys({{"k1", first}, {"k2", second}});
    side_.set_keys({{"k2", second}});
    run_until([&] { return fake_.orders.size() >= 4; });
    EXPECT_EQ(order<gateway::Change>(2), (gateway::Change{43, {}, {}, {first, second}, {}}));
    EXPECT_EQ(order<gateway::Change>(3), (gateway::Change{44, {}, {}, {}, {"k1"}}));
}

TEST_F(GatewaySideTest, WhatANewerGatewaySaysIsPassedOverAndWhatIsNoMessageEndsTheLink) {
    fake_.say_line(R"({"type":"dance"})");
    fake_.say(gateway::Demand{1, {}});
    run_until([&] { return !demands_.empty(); });
    fake_.say_line("dance");
    run_until([&] { return fake_.orders.size() >= 4; });  // it has connected anew
    EXPECT_EQ(order<gateway::TakeOffice>(2).term, 3U);
}

TEST_F(GatewaySideTest, WhatTheGatewaySawOfReplicasIsTold) {
    fake_.say(gateway::Seen{{7}, {8}});
    run_until([&] { return !seen_.empty(); });
    EXPECT_EQ(seen_.front(), (gateway::Seen{{7}, {8}}));
}

TEST_F(GatewaySideTest, AFirstAnswerIsToldWithWhenItWasToldToWake) {
    fake_.say(gateway::FirstAnswer{7, 2});
    run_until([&] { return !first_.empty(); });
    ASSERT_FALSE(first_.empty());
    EXPECT_EQ(first_.front(), (gateway::FirstAnswer{7, 2}));
}

TEST_F(GatewaySideTest, AtItsLimitItIsDrainedWhateverTheGatewaySays) {
    bool drained = false;
    side_.withdraw(7, milliseconds{20}, [&] {
        drained = true;
        loop_.stop();
    });
    run_until([&] { return drained; });
}

TEST_F(GatewaySideTest, AGatewayThatLacksTheTableIsToldAll) {
    fake_.say(gateway::Refused{"version 42 does not follow on 0"});
    fake_.say(gateway::Have{0});
    run_until([&] { return fake_.orders.size() >= 3; });
    EXPECT_EQ(order<gateway::WholeTable>(2).version, 43U);
}

TEST_F(GatewaySideTest, OneThatComesBackIsToldAllAgain) {
    fake_.hang_up();
    run_until([&] { return fake_.orders.size() >= 4; });
    EXPECT_EQ(order<gateway::TakeOffice>(2).term, 3U);
    EXPECT_EQ(order<gateway::WholeTable>(3).services.size(), 1U);
}

TEST_F(GatewaySideTest, DemandComesWithTheLifeOfTheGateway) {
    fake_.say(gateway::Demand{5, {{"chat", 3, 0, 2, 0, 9, 0, 0, true}}});
    run_until([&] { return !demands_.empty(); });
    EXPECT_EQ(demands_.front().first, 1U);
    EXPECT_EQ(demands_.front().second.seq, 5U);
}

}  // namespace
}  // namespace stargate::steward
