#include "steward/watch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "serving/mock_engine.hpp"

// Replicas that serve are looked at on.
namespace stargate::steward {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class WatchTest : public ::testing::Test {
protected:
    void serve(serving::MockFault fault = serving::MockFault::none) {
        serving::MockEngineOptions options;
        options.port = port_;
        options.fault = fault;
        options.when_told = [this](std::string_view what) { told_.emplace_back(what); };
        engine_ = std::move(*serving::MockEngine::start(loop_, options));
        port_ = engine_->port();
    }
    void follow() { watch_.follow({{AttemptId{7}, 3, "127.0.0.1", port_}}); }
    [[nodiscard]] bool is_fit() const { return watch_.is_fit(AttemptId{7}); }
    /// Runs the loop until that holds; bounds what no test that passes waits for.
    template <class Condition>
    [[nodiscard]] bool soon(Condition holds) {
        loop_.restart();
        const auto until = net::Loop::now_us() + Duration{seconds{20}}.count();
        std::function<void()> look = [&] {
            if (holds() || net::Loop::now_us() > until) return loop_.stop();
            loop_.after(milliseconds{2}, look);
        };
        look();
        loop_.run();
        return holds();
    }
    void ask(const char* target) {
        const auto asker = std::make_unique<Asker>(loop_, "127.0.0.1", port_);
        int status = 0;
        asker->ask("POST", target, seconds{5}, [&](int told, const std::string&) { status = told; });
        ASSERT_TRUE(soon([&] { return status == 200; }));
    }

    net::Loop loop_;
    std::uint16_t port_ = 0;
    std::vector<std::string> told_;
    std::unique_ptr<serving::MockEngine> engine_;
    std::vector<ReplicaFailed> failed_;
    PortHolder holder_{PortHolder::Who::the_replica, {}};
    int changes_ = 0;
    WatchLimits limits_{milliseconds{5}, milliseconds{5}, milliseconds{50}, seconds{5}, 3, milliseconds{100}};
    Watch watch_{loop_,
                 {[this] { ++changes_; }, [this](ReplicaFailed failed) { failed_.push_back(std::move(failed)); },
                  [this](AttemptId, std::int32_t) { return holder_; }},
                 limits_};
};

TEST_F(WatchTest, OneThatAnswersIsFit) {
    serve();
    follow();
    int looks = 0;
    EXPECT_TRUE(soon([&] { return ++looks > 20; }));
    EXPECT_TRUE(is_fit());
    EXPECT_EQ(changes_, 0);
    EXPECT_TRUE(failed_.empty());
}

TEST_F(WatchTest, OneThatRefusesConnectionsIsUnfitAndIsReportedWhenThatLasts) {
    serve();
    follow();
    engine_.reset();
    EXPECT_TRUE(soon([&] { return !is_fit(); }));
    EXPECT_TRUE(soon([&] { return !failed_.empty(); }));
    EXPECT_EQ(failed_.front(), (ReplicaFailed{AttemptId{7}, 3, "it does not answer GET /health"}));
}

TEST_F(WatchTest, OneThatHangsIsUnfitAndOneThatComesBackIsFit) {
    serve(serving::MockFault::hang);
    follow();
    EXPECT_TRUE(soon([&] { return !is_fit(); }));
    engine_.reset();
    serve();
    EXPECT_TRUE(soon([&] { return is_fit(); }));
    EXPECT_EQ(changes_, 2);
}

TEST_F(WatchTest, OneThatHangsButAnswersClientsIsAlive) {
    serve(serving::MockFault::hang);
    follow();
    int looks = 0;
    EXPECT_TRUE(soon([&] {
        watch_.answered(AttemptId{7});
        return ++looks > 150;
    }));
    EXPECT_TRUE(failed_.empty());
    EXPECT_TRUE(is_fit());
}

TEST_F(WatchTest, OneThatSomebodyElsePutsToSleepIsWoken) {
    serve();
    follow();
    ask("/sleep?level=1");
    EXPECT_TRUE(soon([&] { return !engine_->is_asleep() && is_fit(); }));
    EXPECT_EQ(told_, (std::vector<std::string>{"sleep", "wake_up"}));
    EXPECT_TRUE(failed_.empty());
}

TEST_F(WatchTest, OneThatTellsTheGatewayThatItSleepsIsWoken) {
    serve();
    follow();
    watch_.refused_asleep(AttemptId{7});
    EXPECT_FALSE(is_fit());
    EXPECT_TRUE(soon([&] { return is_fit(); }));
    EXPECT_EQ(told_, (std::vector<std::string>{"wake_up"}));
}

TEST_F(WatchTest, OneWhosePortIsSomebodyElsesIsReportedThoughThatOneAnswers) {
    serve();
    follow();
    holder_ = {PortHolder::Who::somebody_else, "sshd (pid 7) of user 0 listens on port 21001 already"};
    EXPECT_TRUE(soon([&] { return !failed_.empty(); }));
    EXPECT_FALSE(is_fit());
    EXPECT_EQ(failed_.front().detail, holder_.detail);
}

TEST_F(WatchTest, OneThatIsToldToSleepIsLetSleepAlsoWhileStateStillHasItServing) {
    serve();
    follow();
    watch_.told(AttemptId{7}, 4);
    follow();
    ask("/sleep?level=1");
    watch_.refused_asleep(AttemptId{7});
    int turns = 0;
    EXPECT_TRUE(soon([&] { return ++turns > 20; }));
    EXPECT_TRUE(engine_->is_asleep());
    watch_.follow({{AttemptId{7}, 4, "127.0.0.1", port_}});  // it is to serve again
    EXPECT_TRUE(soon([&] { return !engine_->is_asleep(); }));
}

TEST_F(WatchTest, OneThatServesNoMoreIsForgotten) {
    serve();
    follow();
    engine_.reset();
    EXPECT_TRUE(soon([&] { return !is_fit(); }));
    watch_.follow({});
    EXPECT_TRUE(is_fit());
    const auto before = failed_.size();
    int turns = 0;
    EXPECT_TRUE(soon([&] { return ++turns > 20; }));
    EXPECT_EQ(failed_.size(), before);
}

}  // namespace
}  // namespace stargate::steward
