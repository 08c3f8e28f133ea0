#include "core/given.hpp"

// A machine that came back with less than what is held of it: it is at once what it is, and what is held stays held.
namespace stargate::test {
namespace {

TEST(SmallerNode, NothingIsPlacedOnGpusThatAreGone) {
    auto given = Given{}.node("n1", 4);
    given.running(job("low").gpus(1)).running(job("high").gpus(2));
    EXPECT_EQ(given.attempt("high").parts.front().gpus, 0b0110U);
    given.becomes("n1", 2);
    EXPECT_EQ(given.state().all_gpus(0), 2);
    EXPECT_EQ(given.state().free_gpus(0), 0) << "the fourth was free, and is gone";
    EXPECT_EQ(given.phase("high"), "running");
    EXPECT_EQ(given.submit(job("wide").gpus(3)), Why::never_fits);
    given.waiting(job("next").gpus(2));
    EXPECT_EQ(given.reason("next"), Why::no_gpus);
    given.ends("high");
    EXPECT_EQ(given.state().free_gpus(0), 1) << "one of its two";
    given.ends("low");
    EXPECT_EQ(given.attempt("next").parts.front().gpus, 0b0011U);
    given.runs("next").becomes("n1", 4);
    EXPECT_EQ(given.state().free_gpus(0), 2) << "and back again";
}

TEST(SmallerNode, NobodyIsStoppedForGpusThatAreGone) {
    auto given = Given{}.node("n1", 4);
    given.running(job("here").gpus(2)).running(job("gone").gpus(2).of(PriorityClass::opportunistic));
    given.becomes("n1", 2);
    given.waiting(job("urgent").gpus(2).of(PriorityClass::production));
    EXPECT_EQ(given.phase("gone"), "running") << "it could give nothing";
    EXPECT_EQ(given.phase("urgent"), "waiting");
}

TEST(SmallerNode, AClaimOnWhatIsGoneIsDropped) {
    auto given = Given{}.node("n1", 4);
    given.running(job("victim").gpus(4).of(PriorityClass::opportunistic));
    given.waiting(job("urgent").gpus(4).of(PriorityClass::production));
    ASSERT_EQ(given.phase("victim"), "stopping");
    ASSERT_NE(given.state().find<Claim>(given.id("urgent")), nullptr);
    given.becomes("n1", 2);
    EXPECT_EQ(given.state().find<Claim>(given.id("urgent")), nullptr);
    given.leaves("victim");
    EXPECT_EQ(given.state().free_gpus(0), 2);
    EXPECT_EQ(given.phase("urgent"), "waiting");
}

TEST(SmallerNode, AnElasticJobDoesNotGrowIntoWhatIsGone) {
    Settings settings;
    settings.quiet_period = seconds{3};
    auto given = Given{settings}.node("n1", 4);
    given.running(job("first").gpus(3)).running(job("train").gpus(1, 4));
    EXPECT_EQ(given.attempt("train").parts.front().gpus, 0b1000U);
    given.becomes("n1", 2).ends("first").later(seconds{4}).later(seconds{4});
    ASSERT_EQ(given.phase("train"), "stopping") << "it grows";
    given.leaves("train").runs("train");
    EXPECT_EQ(given.attempt("train").parts.front().gpus, 0b1011U) << "it keeps what it holds";
}

TEST(SmallerNode, ASharedGpuThatIsGoneTakesNoMoreShares) {
    auto given = Given{}.node("n1", 2);
    given.running(job("whole").gpus(1)).running(job("part").share(300));
    given.becomes("n1", 1);
    given.waiting(job("other").share(300));
    EXPECT_EQ(given.phase("other"), "waiting");
    given.ends("whole");
    EXPECT_EQ(given.attempt("other").parts.front().gpus, 0b01U);
}

TEST(SmallerNode, CpusAndMemoryThatAreGoneAreNotGiven) {
    auto given = Given{}.node("n1", 4, 0, cpus(16), gibibytes(64));
    given.running(job("a").host(cpus(8), gibibytes(32))).running(job("b").host(cpus(4), gibibytes(16)));
    given.becomes("n1", 4, cpus(8), gibibytes(32));
    given.waiting(job("busy").host(cpus(2))).waiting(job("large").host(cpus(0), gibibytes(2)));
    EXPECT_EQ(given.reason("busy"), Why::no_cpus);
    EXPECT_EQ(given.reason("large"), Why::no_memory);
    given.ends("a");
    EXPECT_EQ(given.phase("busy"), "starting");
    EXPECT_EQ(given.phase("large"), "starting");
}

TEST(SmallerNode, ForeignWorkHoldsNoMoreThanThereIs) {
    auto given = Given{}.node("n1", 4, 0, cpus(8), gibibytes(8));
    given.running(job("ours").host(cpus(4), gibibytes(4)));
    given.ask(ForeignFound{given.node_id("n1"), 0b1100, {AttemptId{9}}, 1, cpus(4), gibibytes(4)});
    given.becomes("n1", 3, cpus(2), gibibytes(6));
    const auto& node = given.state().at<Node>(given.node_id("n1"));
    EXPECT_EQ(node.foreign, 0b0100U);
    EXPECT_EQ(node.cpus_foreign, cpus(0)) << "ours holds more than there is";
    EXPECT_EQ(node.memory_foreign, gibibytes(2));
}

TEST(SmallerNode, AReservationDoesNotCountOnWhatIsGone) {
    auto given = Given{}.node("n1", 4).node("n2", 2);
    given.running(job("a").gpus(4).limit(minutes{10})).running(job("b").gpus(2).limit(hours{1}));
    given.becomes("n1", 2);
    given.waiting(job("wide").gpus(4));
    const auto* reserved = given.state().find<Reservation>(given.id("wide"));
    ASSERT_NE(reserved, nullptr);
    EXPECT_GT(reserved->at, given.now() + minutes{30}) << "two of a's four GPUs are no more";
}

}  // namespace
}  // namespace stargate::test
