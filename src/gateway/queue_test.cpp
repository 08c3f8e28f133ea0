#include <gtest/gtest.h>

#include "gateway/fair_queue.hpp"
#include "gateway/rate.hpp"
#include "gateway/table.hpp"

namespace stargate::gateway {
namespace {

struct Asking : Errand {
    void start(std::unique_ptr<Load> /*load*/) override {}
    void refuse(const Refusal& /*refusal*/) override {}
    void cut(const std::string& /*why*/) override {}
};

std::shared_ptr<Asking> asking(const std::string& tenant, std::int64_t tokens, std::int64_t bytes = 1) {
    auto errand = std::make_shared<Asking>();
    errand->tenant = tenant;
    errand->tokens = tokens;
    errand->bytes = bytes;
    return errand;
}

std::string order_of(FairQueue& queue) {
    std::string order;
    for (const auto& errand : queue.take_all()) order += errand->tenant + std::to_string(errand->tokens) + " ";
    return order;
}

TEST(FairQueue, OneTenantIsServedInOrder) {
    FairQueue queue;
    for (const int tokens : {3, 1, 2}) queue.push(asking("a", tokens));
    queue.push_front(asking("a", 9));
    EXPECT_EQ(order_of(queue), "a9 a3 a1 a2 ");
    EXPECT_EQ(queue.size(), 0);
    EXPECT_EQ(queue.tokens(), 0);
    EXPECT_EQ(queue.bytes(), 0);
}

TEST(FairQueue, TenantsGetEqualTokensNotEqualTurns) {
    FairQueue queue;
    for (int i = 0; i < 3; ++i) queue.push(asking("big", 100));
    for (int i = 0; i < 6; ++i) queue.push(asking("small", 50));
    EXPECT_EQ(order_of(queue), "big100 small50 small50 big100 small50 small50 big100 small50 small50 ");
}

TEST(FairQueue, WhoComesLateHasSavedUpNothing) {
    FairQueue queue;
    for (int i = 0; i < 10; ++i) queue.push(asking("old", 10));
    for (int i = 0; i < 5; ++i) queue.pop();
    for (int i = 0; i < 3; ++i) queue.push(asking("new", 10));
    EXPECT_EQ(order_of(queue), "new10 old10 new10 old10 new10 old10 old10 old10 ");
}

TEST(FairQueue, WhoHasMostMakesRoomForWhoHasLess) {
    FairQueue queue;
    const FairQueue::Bounds bounds{4, 100};
    for (int i = 1; i <= 4; ++i) queue.push(asking("a", i));
    std::vector<std::shared_ptr<Errand>> out;
    EXPECT_FALSE(queue.make_room(*asking("a", 5), bounds, out));
    EXPECT_TRUE(out.empty());
    ASSERT_TRUE(queue.make_room(*asking("b", 1), bounds, out));
    ASSERT_EQ(out.size(), 1U);
    EXPECT_EQ(out[0]->tokens, 4) << "the last that came";
    queue.push(asking("b", 1));
    ASSERT_TRUE(queue.make_room(*asking("b", 2), bounds, out));
    queue.push(asking("b", 2));
    EXPECT_FALSE(queue.make_room(*asking("b", 3), bounds, out)) << "two each";
}

TEST(FairQueue, BytesAreBoundedToo) {
    FairQueue queue;
    const FairQueue::Bounds bounds{100, 100};
    std::vector<std::shared_ptr<Errand>> out;
    EXPECT_FALSE(queue.make_room(*asking("a", 1, 101), bounds, out));
    queue.push(asking("a", 1, 60));
    queue.push(asking("a", 2, 40));
    ASSERT_TRUE(queue.make_room(*asking("b", 3, 40), bounds, out));
    EXPECT_EQ(out.size(), 1U);
    EXPECT_EQ(queue.bytes(), 60);
    EXPECT_FALSE(queue.make_room(*asking("b", 3, 60), bounds, out));
}

TEST(FairQueue, WhoLeavesIsForgotten) {
    FairQueue queue;
    const auto gone = asking("a", 1);
    queue.push(gone);
    queue.push(asking("a", 2));
    EXPECT_TRUE(queue.remove(gone.get()));
    EXPECT_FALSE(queue.remove(gone.get()));
    EXPECT_EQ(order_of(queue), "a2 ");
}

TEST(Rate, IsWhatHappensASecond) {
    Rate rate;
    EXPECT_EQ(rate.per_second(0), 0);
    for (std::int64_t now = 0; now < 60'000'000; now += 100'000) rate.note(now);
    EXPECT_NEAR(rate.per_second(60'000'000), 10, 0.5);
    EXPECT_LT(rate.per_second(100'000'000), 1);
    Rate young;
    for (std::int64_t now = 0; now < 1'000'000; now += 100'000) young.note(now);
    EXPECT_NEAR(young.per_second(1'000'000), 10, 2);
}

TEST(Table, AKeySeesItsTenantsItsAncestorsAndEverybodysServices) {
    EXPECT_TRUE(may_use("lab/nlp", "lab/nlp"));
    EXPECT_TRUE(may_use("lab/nlp", "lab"));
    EXPECT_TRUE(may_use("lab/nlp", "default"));
    EXPECT_FALSE(may_use("lab", "lab/nlp"));
    EXPECT_FALSE(may_use("lab/nlp", "la"));
    EXPECT_FALSE(may_use("laboratory", "lab"));
    EXPECT_FALSE(may_use("lab/nlp", "lab/vision"));
    EXPECT_FALSE(may_use("default", "lab"));
}

ServiceEntry named(const std::string& name) {
    ServiceEntry service;
    service.name = name;
    service.replicas = {{7, "h", 1, ReplicaState::serving}};
    return service;
}

TEST(Table, ChangesFollowOneAfterTheOther) {
    Table table;
    table.take(WholeTable{5, {named("a"), named("b")}, {{"k", "t", digest_of("secret")}}});
    EXPECT_FALSE(table.take(Change{5, {}, {"a"}, {}, {}}));
    EXPECT_FALSE(table.take(Change{7, {}, {"a"}, {}, {}}));
    EXPECT_EQ(table.services().size(), 2U);
    ASSERT_TRUE(table.take(Change{6, {named("c")}, {"a"}, {}, {"k", "unknown"}}));
    EXPECT_EQ(table.services().count("a"), 0U);
    EXPECT_EQ(table.services().count("c"), 1U);
    EXPECT_EQ(table.key_of("secret"), nullptr);
    EXPECT_FALSE(table.take(Withdraw{6, 7, 0}));
    ASSERT_TRUE(table.take(Withdraw{7, 7, 0}));
    EXPECT_TRUE(table.services().find("c")->second.replicas.empty());
    table.take(WholeTable{2, {}, {}});
    EXPECT_TRUE(table.is_empty());
    EXPECT_EQ(table.version(), 2U);
}

TEST(Table, AKeyThatIsChangedIsNoLongerWhatItWas) {
    Table table;
    table.take(WholeTable{1, {}, {{"k", "t", digest_of("old")}}});
    ASSERT_NE(table.key_of("old"), nullptr);
    ASSERT_TRUE(table.take(Change{2, {}, {}, {{"k", "u", digest_of("new")}}, {}}));
    EXPECT_EQ(table.key_of("old"), nullptr);
    ASSERT_NE(table.key_of("new"), nullptr);
    EXPECT_EQ(table.key_of("new")->tenant, "u");
    EXPECT_EQ(table.key_of(""), nullptr);
}

}  // namespace
}  // namespace stargate::gateway
