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

TEST(WithoutControls, MovesNoCursor) {
    EXPECT_EQ(without_controls("a\x1B[31m\tb\x7F\n"), "a?[31m?b??");
    EXPECT_EQ(without_controls("a\xC2\x9B"
                               "31m\xC2\xA0\xC3\xA9"),
              "a?31m\xC2\xA0\xC3\xA9");
    EXPECT_EQ(without_controls("a\xC2"), "a?");
    EXPECT_EQ(without_controls("a\x9B"
                               "31m caf\xE9"),
              "a?31m caf?");
}

}  // namespace
}  // namespace stargate
