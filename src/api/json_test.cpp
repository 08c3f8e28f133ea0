#include "api/json.hpp"

#include <gtest/gtest.h>

namespace stargate::api {
namespace {

TEST(Json, IsReadAsItStands) {
    const auto value =
        parse_json(R"( {"a":[1,-2.5,18446744073709551615,true,null,"\u00e9\n"],"b":{"a":{}},"":""} )").value_or(Json{});
    ASSERT_EQ(value.kind, Json::Kind::object);
    const auto& list = value["a"].items;
    ASSERT_EQ(list.size(), 6U);
    EXPECT_EQ(list[0].whole, 1);
    EXPECT_EQ(list[0].number, 1);
    EXPECT_EQ(list[1].number, -2.5);
    EXPECT_EQ(list[2].number, 18446744073709551615.0);
    EXPECT_TRUE(list[3].boolean);
    EXPECT_EQ(list[4].kind, Json::Kind::null);
    EXPECT_EQ(list[5].text, "\u00e9\n");
    EXPECT_EQ(value["b"]["a"].kind, Json::Kind::object);
    ASSERT_NE(value.find(""), nullptr);
    EXPECT_EQ(value.find("")->kind, Json::Kind::text);
}

TEST(Json, WhatIsNoneIsRefused) {
    const auto nested = [](int levels) {
        const auto count = static_cast<std::size_t>(levels);
        return std::string(count, '[') + std::string(count, ']');
    };
    EXPECT_TRUE(parse_json(nested(32)));
    for (const auto& text : {std::string{}, std::string{"{"}, std::string{"{} {}"}, std::string{"[1,]"},
                             std::string{"\"\xFF\""}, std::string{"nul"}, nested(33)}) {
        const auto value = parse_json(text);
        ASSERT_FALSE(value) << text;
        EXPECT_EQ(value.error().fault, Fault::malformed) << text;
        EXPECT_EQ(value.error().detail.substr(0, 8), "not JSON") << text;
    }
}

TEST(Json, AMemberThatIsThereTwiceIsRefusedByItsPath) {
    const std::pair<const char*, const char*> twice[] = {
        {R"({"gpus":1,"name":"a","gpus":2})", "gpus"},
        {R"({"gpus":1,"gpu\u0073":1})", "gpus"},
        {R"({"env":{"A":"1","B":"2","A":"1"}})", "env.A"},
        {R"({"a":[{"b":{"c":null,"c":null}}]})", "a.b.c"},
    };
    for (const auto& [text, path] : twice) {
        const auto value = parse_json(text);
        ASSERT_FALSE(value) << text;
        EXPECT_EQ(value.error().fault, Fault::conflict) << text;
        EXPECT_EQ(value.error().detail, std::string{path} + ": is there twice in one object; send it once");
    }
    EXPECT_EQ(parse_json(R"({"":1,"":1})").error().fault, Fault::conflict);
    EXPECT_TRUE(parse_json(R"({"a":{"b":1},"b":{"b":1},"c":[{"b":1},{"b":1}],"A":1})"));
}

}  // namespace
}  // namespace stargate::api
