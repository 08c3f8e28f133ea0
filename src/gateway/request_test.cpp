#include "gateway/request.hpp"

#include <gtest/gtest.h>

#include "gateway/json_scan.hpp"

namespace stargate::gateway {
namespace {

CompletionRequest good(std::string_view body) {
    auto read = read_completion(body);
    if (const auto* refusal = std::get_if<Refusal>(&read)) ADD_FAILURE() << body << ": " << refusal->message;
    return std::holds_alternative<Refusal>(read) ? CompletionRequest{} : std::get<CompletionRequest>(std::move(read));
}
std::string upstream(std::string_view body) { return upstream_body(good(body), body, "up\"m"); }

TEST(Request, OnlyTheModelIsReplacedAndAllElsePassesByteForByte) {
    EXPECT_EQ(
        upstream("{ \"x\" : 1e5,\t\"model\":\"m\" , \"y\":[ {\"model\":\"deep\"} ],\"\\u0061\":\"\\u00e9\\/\"}\n"),
        "{ \"x\" : 1e5,\t\"model\":\"up\\\"m\" , \"y\":[ {\"model\":\"deep\"} ],\"\\u0061\":\"\\u00e9\\/\"}\n");
    EXPECT_EQ(upstream(R"({"a":"\"model\":\"no\"","model":"m"})"), R"({"a":"\"model\":\"no\"","model":"up\"m"})");
    EXPECT_EQ(upstream(R"({"mod\u0065l":"m","s":"\\"})"), R"({"mod\u0065l":"up\"m","s":"\\"})");
}

/// Python's json writes and reads halves of a pair alone; what they mean is for the replica to say.
TEST(Request, HalvesOfSurrogatePairsPassByteForByte) {
    for (const std::string text : {R"(\ud83d)", R"(x\uDE00)", R"(\uD83D\ud83d\uDE00)", R"(\uD83Dx)", R"(\\\ud800)",
                                   R"(\ud800\n)", R"(\uDFff")"}) {
        const auto value = text.back() == '"' ? text.substr(0, text.size() - 1) : text;
        const auto body = R"({"model":"m","messages":[{"content":")" + value + R"("}]})";
        EXPECT_EQ(upstream(body), R"({"model":"up\"m","messages":[{"content":")" + value + R"("}]})");
    }
    for (const auto* body :
         {R"({"model":"m","x":"\ud8"})", R"({"model":"m","x":"\ud8zz"})", R"({"model":"m","x":\ud800})",
          R"({"model":"m","x":"\ud800})", R"({"model":"m","x":"\u"})", R"({"model":"m","x":"\)"}) {
        EXPECT_TRUE(std::holds_alternative<Refusal>(read_completion(body))) << body;
    }
    const auto read = read_completion(R"({"model":"\ud800","messages":[]})");
    ASSERT_TRUE(std::holds_alternative<Refusal>(read)) << "no service has such a name";
    EXPECT_EQ(std::get<Refusal>(read).param, "model");
}

TEST(Request, WhatIsNoJsonIsToldWithTheByteWhereItEnds) {
    const auto read = read_completion(R"({"model":"m",,"messages":[]})");
    EXPECT_EQ(std::get<Refusal>(read).message, "the body is no JSON, or deeper than 128 levels, from byte 13 of 28 on");
}

TEST(Request, AStreamsUsageIsAlwaysAskedFor) {
    for (const auto& [body, expected] : {
             std::pair{R"({"model":"m","stream":true})",
                       R"({"model":"up\"m","stream":true,"stream_options":{"include_usage":true}})"},
             std::pair{R"({"stream_options":null,"model":"m","stream":true})",
                       R"({"stream_options":{"include_usage":true},"model":"up\"m","stream":true})"},
             std::pair{R"({"model":"m","stream":true,"stream_options":{ }})",
                       R"({"model":"up\"m","stream":true,"stream_options":{"include_usage":true }})"},
             std::pair{R"({"model":"m","stream":true,"stream_options":{"a":1}})",
                       R"({"model":"up\"m","stream":true,"stream_options":{"include_usage":true,"a":1}})"},
             std::pair{R"({"model":"m","stream":true,"stream_options":{"include_usage":false}})",
                       R"({"model":"up\"m","stream":true,"stream_options":{"include_usage":true}})"},
             std::pair{R"({"model":"m","stream":true,"stream_options":{"include_usage":null,"a":1}})",
                       R"({"model":"up\"m","stream":true,"stream_options":{"include_usage":true,"a":1}})"},
         }) {
        EXPECT_EQ(upstream(body), expected);
        EXPECT_FALSE(good(body).asks_usage) << body;
    }
    const auto* asked = R"({"model":"m","stream":true,"stream_options":{"include_usage":true}})";
    EXPECT_TRUE(good(asked).asks_usage);
    EXPECT_EQ(upstream(R"({"model":"m","stream":false,"stream_options":7})"),
              R"({"model":"up\"m","stream":false,"stream_options":7})");
}

TEST(Request, WhatWeActUponIsRead) {
    const auto request = good(
        R"({"model":"a\/b","messages":[{"role":"user","content":"0123456789"}],"max_tokens":9,"max_completion_tokens":7,)"
        R"("service_tier":"flex","stream":null})");
    EXPECT_EQ(request.model, "a/b");
    EXPECT_FALSE(request.streams);
    EXPECT_EQ(request.limit, 7);
    EXPECT_EQ(request.service_tier, "flex");
    EXPECT_EQ(request.prompt_tokens, 10);  // 41 bytes of messages
    EXPECT_EQ(good(R"({"model":"m","max_tokens":-5,"prompt":""})").limit, std::nullopt);
    EXPECT_EQ(good(R"({"model":"m","max_tokens":1e99,"prompt":""})").limit, std::nullopt);
}

TEST(Request, WhatIsWrongIsRefusedWithTheMemberThatIsMeant) {
    for (const auto& [body, code, param] : std::vector<std::array<std::string, 3>>{
             {"", "invalid_json", ""},
             {"nonsense", "invalid_json", ""},
             {R"({"model":"m"} x)", "invalid_json", ""},
             {R"({"model":"m",})", "invalid_json", ""},
             {R"(["model"])", "invalid_json", ""},
             {"{\"model\":\"\xFF\"}", "invalid_json", ""},
             {"{\"model\":\"\xED\xA0\x80\"}", "invalid_json", ""},
             {R"({"model":"m","x":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}", "invalid_json", ""},
             {R"({"messages":[]})", "missing_required_parameter", "model"},
             {R"({"model":null})", "missing_required_parameter", "model"},
             {R"({"model":7})", "invalid_type", "model"},
             {R"({"model":"m","model":"n"})", "duplicate_parameter", "model"},
             {R"({"model":"m","mod\u0065l":"n"})", "duplicate_parameter", "model"},
             {R"({"model":"m","stream":true,"stream":false})", "duplicate_parameter", "stream"},
             {R"({"model":"m","max_tokens":1,"max_tokens":2})", "duplicate_parameter", "max_tokens"},
             {R"({"model":"m","stream":"yes"})", "invalid_type", "stream"},
             {R"({"model":"m","stream":true,"stream_options":[]})", "invalid_type", "stream_options"},
             {R"({"model":"m","stream":true,"stream_options":{"include_usage":1}})", "invalid_type", "stream_options"},
             {R"({"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}})",
              "duplicate_parameter", "stream_options"},
         }) {
        const auto read = read_completion(body);
        const auto* refusal = std::get_if<Refusal>(&read);
        ASSERT_NE(refusal, nullptr) << body.substr(0, 100);
        EXPECT_EQ(refusal->status, 400);
        EXPECT_EQ(refusal->code, code) << body.substr(0, 100);
        EXPECT_EQ(refusal->param, param) << body.substr(0, 100);
        EXPECT_TRUE(refusal->is_final);
    }
}

TEST(JsonScan, FindsMembersWhereTheyAre) {
    const std::string_view object = " { \"a\" : [1,{\"b\":\"]}\"}] , \"b\":{}, \"c\" :-1.5e3,\"d\":\"\\\\\\\"\" } ";
    EXPECT_EQ(member_of(object, "a"), R"([1,{"b":"]}"}])");
    EXPECT_EQ(member_of(object, "b"), "{}");
    EXPECT_EQ(member_of(object, "c"), "-1.5e3");
    EXPECT_EQ(member_of(object, "d"), R"("\\\"")");
    EXPECT_EQ(member_of(object, "e"), std::nullopt);
    EXPECT_EQ(member_of("{}", "a"), std::nullopt);
    EXPECT_EQ(member_of("[]", "a"), std::nullopt);
    EXPECT_TRUE(is_empty_json_list("[ \n]"));
    EXPECT_FALSE(is_empty_json_list("[0]"));
}

}  // namespace
}  // namespace stargate::gateway
