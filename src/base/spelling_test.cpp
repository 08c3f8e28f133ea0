#include "base/spelling.hpp"

#include <gtest/gtest.h>

namespace stargate {
namespace {

TEST(ShellWord, IsQuotedWhereItMustBe) {
    EXPECT_EQ(shell_word("/var/lib/star-gate_1.0"), "/var/lib/star-gate_1.0");
    EXPECT_EQ(shell_word("/home/ada/my state"), "'/home/ada/my state'");
    EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
    EXPECT_EQ(shell_word("$HOME"), "'$HOME'");
    EXPECT_EQ(shell_word("~ada"), "'~ada'");
    EXPECT_EQ(shell_word("\xC3\xA9t\xC3\xA9"), "'\xC3\xA9t\xC3\xA9'");
    EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace stargate
