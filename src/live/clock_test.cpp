#include "live/clock.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ctime>
#include <filesystem>

#include "base/file.hpp"

namespace stargate::live {
namespace {

using namespace std::chrono_literals;

class Clock : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "stargate_clock_XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    static Instant time_of(clockid_t clock) {
        timespec at{};
        clock_gettime(clock, &at);
        return Instant{Duration{std::int64_t{at.tv_sec} * 1'000'000 + at.tv_nsec / 1000}};
    }
    /// What the first start on this boot noted, the wall clock having been wrong by so much then.
    void start_with_the_wall_wrong_by(Duration wrong) {
        const auto offset = time_of(CLOCK_REALTIME) + wrong - time_of(CLOCK_BOOTTIME);
        ASSERT_TRUE(write_durably(folder_ + "/clock", fmt::format("{} {}\n", boot_id(), offset.count())));
    }
    std::string folder_;
};

TEST_F(Clock, BeginsWithTheWall) {
    const auto clock = FleetClock::start(folder_, {});
    ASSERT_TRUE(clock);
    EXPECT_LT(std::chrono::abs(clock->now() - time_of(CLOCK_REALTIME)), 1s);
}

TEST_F(Clock, AWallThatJumpsMovesNothing) {
    for (const auto jump : {Duration{24h * 365}, Duration{-24h * 365}}) {
        start_with_the_wall_wrong_by(jump);
        const auto clock = FleetClock::start(folder_, {});
        ASSERT_TRUE(clock);
        EXPECT_LT(std::chrono::abs(clock->now() - (time_of(CLOCK_REALTIME) + jump)), 1s);
    }
}

TEST_F(Clock, NeverGoesBackBehindTheLog) {
    const auto last = time_of(CLOCK_REALTIME) + 1h;
    const auto clock = FleetClock::start(folder_, last);
    ASSERT_TRUE(clock);
    EXPECT_GE(clock->now(), last);
    start_with_the_wall_wrong_by(-24h);
    EXPECT_GE(FleetClock::start(folder_, last)->now(), last);
}

}  // namespace
}  // namespace stargate::live
