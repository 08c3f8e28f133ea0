#include "base/utf8.hpp"

#include <gtest/gtest.h>

#include "base/json_text.hpp"

namespace stargate {
namespace {

TEST(Utf8, TakesWhatRfc3629DoesAndNothingElse) {
    for (const auto* good :
         {"", "abc", "\xC3\xA9", "\xE2\x82\xAC", "\xED\x9F\xBF", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"}) {
        EXPECT_TRUE(is_utf8(good)) << good;
    }
    for (const auto* bad :
         {"\x80", "\xC0\xAF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xFF"}) {
        EXPECT_FALSE(is_utf8(bad)) << bad;
    }
    EXPECT_EQ(first_bad_utf8("ab\xFF"), 2U);
}

TEST(JsonString, IsAlwaysJson) {
    std::string out;
    json_string(out, std::string_view{"a\"\\\n\x01\x7F\xC3\xA9\xFFz", 10});
    EXPECT_EQ(out, "\"a\\\"\\\\\\n\\u0001\\u007f\xC3\xA9\xEF\xBF\xBDz\"");
}

}  // namespace
}  // namespace stargate
