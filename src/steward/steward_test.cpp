#include <gtest/gtest.h>
TEST(Steward, Placeholder) {}
