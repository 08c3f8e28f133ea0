#include "base/fair_queue.hpp"

#include <gtest/gtest.h>

#include <string>

namespace stargate {
namespace {

TEST(FairQueue, ALongLineWaitsForItself) {
    FairQueue<int, std::string> queue;
    for (const auto* one : {"a1", "a2", "a3"}) queue.push(1, one);
    queue.push(2, "b1");
    std::string order;
    while (!queue.empty()) order += queue.pop() + " ";
    EXPECT_EQ(order, "a1 b1 a2 a3 ");
}

TEST(FairQueue, KnowsHowLongALineIs) {
    FairQueue<int, int> queue;
    queue.push(1, 10);
    queue.push(1, 11);
    EXPECT_EQ(queue.size_of(1), 2U);
    EXPECT_EQ(queue.size_of(2), 0U);
    (void)queue.pop();
    EXPECT_EQ(queue.size_of(1), 1U);
}

}  // namespace
}  // namespace stargate
