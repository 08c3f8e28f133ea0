#include "base/budget.hpp"

#include <gtest/gtest.h>

#include <string>

namespace stargate {
namespace {

TEST(Budget, AnOwnerHasAPartOfTheWhole) {
    Budget<std::string> budget{{.whole = 100, .of_one_user = 60, .for_operators = 10}};
    EXPECT_TRUE(budget.take("lab", 60));
    EXPECT_FALSE(budget.take("lab", 1));
    EXPECT_FALSE(budget.take("shop", 31)) << "the last are for operators";
    EXPECT_TRUE(budget.take("shop", 30));
    EXPECT_TRUE(budget.take("root", 10, Standing::an_operator));
    EXPECT_FALSE(budget.has("root", 1, Standing::an_operator));
    budget.give_back("lab", 60);
    EXPECT_EQ(budget.taken(), 40);
    EXPECT_TRUE(budget.has("lab", 50));
}

}  // namespace
}  // namespace stargate
