#include "loop/demand.hpp"

#include <gtest/gtest.h>

// What gateways tell of one service, added up.
namespace stargate {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr JobId chat{7};
constexpr Instant noon{std::chrono::hours{12}};

std::vector<DemandLevel> has(std::int64_t queued, std::int64_t in_flight, bool over_limit = false) {
    return {{chat, queued, in_flight, over_limit}};
}

TEST(Demand, IsUnknownUntilAGatewayHasBeenHeard) {
    DemandMerge merge;
    EXPECT_FALSE(merge.total(chat, noon).is_known);
    EXPECT_TRUE(merge.told("a", 1, 1, {}, noon));
    const auto total = merge.total(chat, noon);
    EXPECT_TRUE(total.is_known) << "it was heard and has nothing";
    EXPECT_EQ(total.queued + total.in_flight, 0);
}

TEST(Demand, OfTwoGatewaysIsTheirSumAndOfOneThatSpeaksTwiceItsLastWord) {
    DemandMerge merge;
    merge.told("a", 1, 1, has(5, 2), noon);
    merge.told("b", 1, 1, has(1, 8, true), noon);
    merge.told("a", 1, 2, has(3, 4), noon);
    merge.told("a", 1, 3, has(3, 4), noon);
    const auto total = merge.total(chat, noon);
    EXPECT_EQ(total.queued, 4);
    EXPECT_EQ(total.in_flight, 12);
    EXPECT_TRUE(total.over_limit);
    EXPECT_EQ(merge.total(JobId{8}, noon).in_flight, 0) << "another service";
}

TEST(Demand, AnOlderOrDoubledWordIsNoNews) {
    DemandMerge merge;
    merge.told("a", 1, 5, has(0, 1), noon);
    EXPECT_FALSE(merge.told("a", 1, 5, has(9, 9), noon));
    EXPECT_FALSE(merge.told("a", 1, 4, has(9, 9), noon + seconds{1}));
    EXPECT_EQ(merge.total(chat, noon).queued, 0);
    EXPECT_EQ(merge.next_silence(noon), noon + seconds{2}) << "and no sign of life";
}

TEST(Demand, AGatewayThatWasStartedAnewStandsForTheOneBefore) {
    DemandMerge merge;
    merge.told("a", 1, 90, has(10, 10), noon);
    EXPECT_TRUE(merge.told("a", 2, 1, has(1, 0), noon));
    EXPECT_EQ(merge.total(chat, noon).queued, 1);
    EXPECT_EQ(merge.total(chat, noon).in_flight, 0);
    EXPECT_FALSE(merge.told("a", 1, 91, has(10, 10), noon)) << "its predecessor's word comes late";
    EXPECT_EQ(merge.total(chat, noon).queued, 1);
    DemandMerge after;  // whoever takes office next may hear them in any order
    after.told("a", 1, 91, has(10, 10), noon);
    EXPECT_TRUE(after.told("a", 2, 2, has(1, 0), noon));
    EXPECT_FALSE(after.told("a", 1, 92, has(10, 10), noon));
    EXPECT_EQ(after.total(chat, noon).queued, 1);
}

TEST(Demand, OfASilentGatewayHoldsForAWhileAndIsThenUnknown) {
    DemandMerge merge;
    merge.told("a", 1, 1, has(2, 2), noon);
    merge.told("b", 1, 1, has(1, 1), noon + seconds{1});
    EXPECT_EQ(merge.total(chat, noon + milliseconds{1999}).queued, 3);
    EXPECT_FALSE(merge.total(chat, noon + seconds{2}).is_known) << "though b still speaks";
    EXPECT_EQ(merge.next_silence(noon + seconds{2}), noon + seconds{3});
    merge.told("a", 1, 2, has(0, 1), noon + seconds{2});
    EXPECT_EQ(merge.total(chat, noon + seconds{2}).in_flight, 2);
    EXPECT_EQ(merge.next_silence(noon + seconds{9}), never);
}

TEST(Demand, OfAGatewayThatWasDroppedNobodyWaitsFor) {
    DemandMerge merge;
    merge.told("a", 1, 1, has(2, 2), noon);
    merge.told("b", 1, 1, has(1, 1), noon + seconds{9});
    merge.drop("a");
    EXPECT_EQ(merge.total(chat, noon + seconds{9}).queued, 1);
    merge.drop("b");
    EXPECT_FALSE(merge.total(chat, noon + seconds{9}).is_known) << "nobody is left who could know";
}

/// Four requests are under way, so many tokens a second wanted, and a replica gives so many.
std::vector<DemandLevel> wants(std::int64_t wanted, std::int64_t replica) {
    return {{chat, 0, 4, false, wanted, replica}};
}

TEST(Demand, InTokensAddsUpAndTheFastestReplicaIsWhatOneGives) {
    DemandMerge merge;
    merge.told("a", 1, 1, wants(300, 0), noon);
    EXPECT_EQ(merge.total(chat, noon).replica_tokens_per_s, 0) << "nobody knows";
    merge.told("b", 1, 1, wants(200, 150), noon);
    merge.told("c", 1, 1, wants(100, 400), noon);
    EXPECT_EQ(merge.total(chat, noon).wanted_tokens_per_s, 600);
    EXPECT_EQ(merge.total(chat, noon).replica_tokens_per_s, 400) << "b sees a part of a replica that c fills, too";
    EXPECT_EQ(merge.total(chat, noon + seconds{2}).replica_tokens_per_s, 0) << "they are silent";
}

TEST(Demand, InTokensIsNoNewsWhereItAsksForAsManyReplicas) {
    DemandMerge merge;
    std::uint64_t seq = 0;
    const auto news_of = [&](std::int64_t wanted, std::int64_t replica) {
        merge.told("a", 1, ++seq, wants(wanted, replica), noon);
        return merge.changed({chat}, noon).size();
    };
    EXPECT_EQ(news_of(300, 0), 1U);
    EXPECT_EQ(news_of(900, 0), 0U) << "nobody knows what a replica gives";
    EXPECT_EQ(news_of(500, 400), 1U);
    for (std::int64_t wanted = 400; wanted < 640; wanted += 10) news_of(wanted + 1, 400 + wanted % 7);
    EXPECT_EQ(news_of(500, 401), 0U);
    EXPECT_EQ(news_of(641, 400), 1U) << "two could carry it no more with room to spare";
    EXPECT_EQ(news_of(700, 400), 0U);
    EXPECT_EQ(news_of(801, 400), 1U);
    EXPECT_EQ(news_of(801, 801), 1U);
}

TEST(Demand, IsGivenOnOnlyWhenItChanges) {
    DemandMerge merge;
    EXPECT_TRUE(merge.changed({chat}, noon).empty()) << "it was unknown before";
    merge.told("a", 1, 1, has(2, 2), noon);
    EXPECT_EQ(merge.changed({chat}, noon).size(), 1U);
    merge.told("a", 1, 2, has(2, 2), noon);
    EXPECT_TRUE(merge.changed({chat}, noon).empty());
    const auto news = merge.changed({chat}, noon + seconds{2});
    ASSERT_EQ(news.size(), 1U);
    EXPECT_FALSE(news.front().is_known);
}

}  // namespace
}  // namespace stargate
