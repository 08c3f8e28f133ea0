#include "live/clock.hpp"

#include <gtest/gtest.h>

#include "base/scratch_folder.hpp"

namespace stargate::live {
namespace {

constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t year = 365 * 86'400 * second;
constexpr std::int64_t noon = 50 * year;  // of the wall, when the tests begin

Instant at(std::int64_t microseconds) { return Instant{Duration{microseconds}}; }

class FleetClockTest : public ::testing::Test {
protected:
    FleetClock start(const FleetClock::Reading& machine, Instant last = {}) {
        auto clock = FleetClock::start(folder_.path(), last, machine);
        EXPECT_TRUE(clock) << clock.error().detail;
        return *clock;
    }
    ScratchFolder folder_;
};

TEST_F(FleetClockTest, BeginsWithTheWall) {
    const auto clock = start({"boot-1", 10 * second, noon});
    EXPECT_EQ(clock.at(10 * second), at(noon));
    EXPECT_EQ(clock.at(11 * second), at(noon + second));
}

TEST_F(FleetClockTest, AWallThatJumpsAYearMovesNothingOnTheSameBoot) {
    start({"boot-1", 10 * second, noon});
    for (const auto jump : {year, -year}) {
        const auto again = start({"boot-1", 70 * second, noon + 60 * second + jump}, at(noon + 59 * second));
        EXPECT_EQ(again.at(70 * second), at(noon + 60 * second));
    }
}

TEST_F(FleetClockTest, AfterAnotherBootTheDowntimeIsAddedOnceFromTheWall) {
    start({"boot-1", 10 * second, noon});
    const auto clock = start({"boot-2", 5 * second, noon + 600 * second}, at(noon + 60 * second));
    EXPECT_EQ(clock.at(5 * second), at(noon + 600 * second));
    const auto again = start({"boot-2", 6 * second, noon + year}, at(noon + 600 * second));
    EXPECT_EQ(again.at(6 * second), at(noon + 601 * second));
}

TEST_F(FleetClockTest, NeverGoesBehindTheLog) {
    start({"boot-1", 10 * second, noon});
    const auto newest = at(noon + 60 * second);
    EXPECT_EQ(start({"boot-2", 5 * second, noon - year}, newest).at(5 * second), newest);
    EXPECT_EQ(start({"boot-2", 5 * second, noon}, newest + Duration{second}).at(5 * second), newest + Duration{second});
}

}  // namespace
}  // namespace stargate::live
