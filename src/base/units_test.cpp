#include "base/units.hpp"

#include <gtest/gtest.h>

namespace stargate {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) {
    a + b;
};

static_assert(Addable<Bytes, Bytes>);
static_assert(!Addable<Bytes, Milliwatts>, "units must not mix");
static_assert(!std::is_convertible_v<NodeId, JobId>, "an id of one kind is no id of another");
static_assert(!std::is_convertible_v<int, GpuCount>, "nothing converts by itself");

TEST(Units, AddAndCompareWithinOneUnit) {
    EXPECT_EQ(watts(2) + Milliwatts{500}, Milliwatts{2500});
    EXPECT_LT(GpuCount{7}, GpuCount{8});
    EXPECT_EQ(gibibytes(1), mebibytes(1024));
}

TEST(Ids, ZeroNamesNothing) {
    EXPECT_FALSE(JobId{});
    EXPECT_TRUE(JobId{1});
}

}  // namespace
}  // namespace stargate
