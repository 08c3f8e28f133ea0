#include "engine/local/wire.hpp"

#include <gtest/gtest.h>

#include <set>

#include <random>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/messages.hpp"

namespace stargate::local {
namespace {

Spec full_spec() {
    Spec spec;
    spec.attempt = 1ULL << 60;
    spec.name = "tiny-gpt";
    spec.argv = {"python3", "train.py", ""};
    spec.environment = {{"A", "1"}, {"B", std::string(100'000, 'b')}};
    spec.mounts = {{"/data", "/mnt", true}};
    spec.account = {.uid = 4'000'000'000U, .gid = 5, .groups = {1, 2, 3}, .name = "ada", .home = "/h", .shell = "/s"};
    spec.confinement = Confinement::strict;
    spec.first.gpus = ~0ULL;
    spec.first.first_rank = -1;
    spec.first.by.incarnation.fill(0xab);
    return spec;
}

TEST(Wire, AMessageComesBackAsItWas) {
    const auto bytes = encode(Order{full_spec()});
    const auto order = decode<Order>(bytes);
    ASSERT_TRUE(order);
    const auto& spec = std::get<Spec>(*order);
    EXPECT_EQ(encode(Order{spec}), bytes);
    EXPECT_EQ(spec.attempt, 1ULL << 60);
    EXPECT_EQ(spec.account.uid, 4'000'000'000U);
    EXPECT_EQ(spec.first.first_rank, -1);
    EXPECT_EQ(spec.environment.back().second.size(), 100'000U);
    EXPECT_TRUE(spec.mounts.front().read_only);
}

TEST(Wire, NothingShorterOrLongerIsTakenForAMessage) {
    auto spec = full_spec();
    spec.environment.clear();
    const auto bytes = encode(Order{spec});
    // What an older version's message ends before: a flag, and before that three numbers.
    const std::set<std::size_t> appended{1, 1 + 8, 1 + 2 * 8, 1 + 3 * 8};
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        const bool is_older = appended.contains(bytes.size() - length);
        EXPECT_EQ(decode<Order>(bytes.substr(0, length)).has_value(), is_older) << length;
    }
    EXPECT_FALSE(decode<Order>(bytes + "x"));
}

TEST(Wire, WhatIsOrderedOfARunningShimIsNeverLonger) {
    // It may be of an older version, which takes nothing that goes on behind what it knows.
    constexpr std::size_t kind = 1;
    constexpr std::size_t speaker = 16 + 8;
    constexpr std::size_t word = 4 + 6;  // "cancel"
    End end;
    end.cause = cancel_cause;
    EXPECT_EQ(encode(Order{end}).size(), kind + speaker + 4 + word + 4 + 4 + 8);
    EXPECT_EQ(encode(Order{local::Run{}}).size(), kind + speaker + 4 + 8 + 20);
    EXPECT_EQ(encode(Order{Ask{}}).size(), kind + speaker);
    EXPECT_EQ(encode(Order{Dismiss{}}).size(), kind + speaker);
}

TEST(Wire, RandomAndDamagedBytesAreReadWithoutHarm) {
    std::mt19937_64 random{7741};
    const auto message = encode(Order{full_spec()});
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes(random() % 200, '\0');
        for (auto& byte : bytes) byte = static_cast<char>(random());
        if (!bytes.empty()) bytes[0] = static_cast<char>(random() % 6);  // a kind that exists
        (void)decode<Order>(bytes);
        (void)decode<Answer>(bytes);
        (void)unseal(bytes);
        FrameReader reader;
        reader.append(bytes);
        while (reader.next()) {}
    }
    for (int round = 0; round < 2'000; ++round) {
        auto damaged = message.substr(0, 600);
        for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
        (void)decode<Order>(damaged);
    }
}

TEST(Wire, FramesComeOutWholeHoweverTheyArrive) {
    const auto stream = frame("one") + frame("") + frame(std::string(70'000, 'x'));
    FrameReader reader;
    std::vector<std::string> payloads;
    for (std::size_t at = 0; at < stream.size(); at += 7) {
        reader.append(stream.substr(at, 7));
        while (auto payload = reader.next()) payloads.push_back(std::move(*payload));
    }
    EXPECT_EQ(payloads, (std::vector<std::string>{"one", "", std::string(70'000, 'x')}));
    EXPECT_FALSE(reader.is_broken());
}

TEST(Wire, AFrameThatIsTooLongBreaksTheStream) {
    FrameReader reader;
    reader.append(std::string("\xff\xff\xff\xff", 4));
    EXPECT_FALSE(reader.next());
    EXPECT_TRUE(reader.is_broken());
}

TEST(Wire, ATornRecordIsNoRecord) {
    const auto file = to_file(ExitRecord{.obeyed = {}, .ended = {.generation = 3, .detail = "why"}});
    ASSERT_TRUE(unseal(file));
    for (std::size_t length = 0; length < file.size(); ++length) EXPECT_FALSE(unseal(file.substr(0, length)));
    for (std::size_t at = 0; at < file.size(); ++at) {
        auto flipped = file;
        flipped[at] = static_cast<char>(flipped[at] ^ 1);
        EXPECT_FALSE(unseal(flipped)) << at;
    }
}

}  // namespace
}  // namespace stargate::local
