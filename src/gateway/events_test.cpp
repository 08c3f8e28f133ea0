#include "gateway/events.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace stargate::gateway {
namespace {

std::vector<std::string> cut(const std::string& stream, std::size_t piece) {
    EventCutter cutter;
    std::vector<std::string> events;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
        EXPECT_TRUE(cutter.put(std::string_view{stream}.substr(at, piece),
                               [&](std::string_view event) { events.emplace_back(event); }));
    }
    if (cutter.holds_some()) events.emplace_back("(rest)");
    return events;
}

TEST(Events, AreWholeHoweverTheyCome) {
    const std::vector<std::string> events{"data: {\"a\":1}\n\n", ": ping\r\n\r\n", "event: x\ndata: 1\ndata: 2\n\n",
                                          "data: [DONE]\n\n"};
    std::string stream;
    for (const auto& event : events) stream += event;
    for (std::size_t piece = 1; piece <= stream.size(); ++piece) EXPECT_EQ(cut(stream, piece), events) << piece;
    EXPECT_EQ(cut("data: half\n", 3), std::vector<std::string>{"(rest)"});
}

TEST(Events, StayWhereTheyAreUntilTheNextPiece) {
    std::string stream;
    for (int i = 0; i < 40; ++i)
        stream += "data: {\"choices\":[{\"delta\":{\"content\":\"" + std::to_string(i) + "\"}}]}\n\n";
    for (const std::size_t piece : {1U, 7U, 50U, 51U, 120U, 1000U}) {
        EventCutter cutter;
        std::string all;
        for (std::size_t at = 0; at < stream.size(); at += piece) {
            std::vector<std::string_view> events;
            EXPECT_TRUE(cutter.put(std::string_view{stream}.substr(at, piece),
                                   [&](std::string_view event) { events.push_back(event); }));
            for (const auto event : events) all += event;  // together and only now, as a relay sends them
        }
        EXPECT_EQ(all, stream) << piece;
    }
}

TEST(Events, OneThatNeverEndsBreaksTheStream) {
    EventCutter cutter;
    const std::string piece(1U << 20, 'x');
    bool is_good = true;
    for (int i = 0; i < 6 && is_good; ++i) is_good = cutter.put(piece, [](std::string_view) {});
    EXPECT_FALSE(is_good);
}

TEST(Events, UsageIsFoundAndToldFromWhatOnlyLooksLikeIt) {
    const auto alone =
        look_at(R"(data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}})"
                "\n\n");
    EXPECT_TRUE(alone.is_usage_alone);
    EXPECT_FALSE(alone.is_delta);
    ASSERT_TRUE(alone.usage);
    EXPECT_EQ(alone.usage->prompt_tokens, 5);
    EXPECT_EQ(alone.usage->completion_tokens, 7);
    EXPECT_EQ(usage_of(R"({"usage":{"completion_tokens":9000000000000000000}})")->completion_tokens, 1'000'000'000)
        << "nobody is believed any number";
    const auto beside = look_at("data: {\"choices\": [{\"delta\":{}}], \"usage\" : {\"prompt_tokens\": 5}}\n\n");
    EXPECT_FALSE(beside.is_usage_alone);
    EXPECT_TRUE(beside.is_delta);
    EXPECT_TRUE(beside.usage);
    for (const auto* event : {
             "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n",
             "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":5}\"}}]}\n\n",
             "data: {\"choices\":[],\"x\":{\"usage\":{\"prompt_tokens\":5}}}\n\n",
         }) {
        EXPECT_FALSE(look_at(event).usage) << event;
        EXPECT_FALSE(look_at(event).is_usage_alone) << event;
        EXPECT_TRUE(look_at(event).is_delta) << event;
    }
}

TEST(Events, TheEndAnErrorAndACommentAreKnown) {
    EXPECT_TRUE(look_at("data: [DONE]\n\n").is_done);
    EXPECT_TRUE(look_at("data:[DONE]\r\n\r\n").is_done);
    EXPECT_FALSE(look_at("data: \"[DONE]\"\n\n").is_done);
    EXPECT_TRUE(look_at("data: {\"error\":{\"message\":\"x\"}}\n\n").is_error);
    EXPECT_FALSE(look_at(": ping\n\n").is_delta);
}

}  // namespace
}  // namespace stargate::gateway
