#include "core/given.hpp"

// Work that the store does not know, as after an empty or older store was put beside it.
namespace stargate::test {
namespace {

ForeignFound foreign(const Given& given, const std::string& node, GpuMask gpus, const std::vector<std::uint64_t>& ids) {
    ForeignFound found{given.node_id(node), gpus, {}, gpus == 0 ? 0 : 1};
    for (const auto id : ids) found.attempts.push_back(AttemptId{id});
    return found;
}

TEST(Foreign, ItsGpusAreTakenUntilItLetsGo) {
    auto given = Given{}.node("n1", 4);
    given.ask(foreign(given, "n1", 0b0110, {3, 9}));
    EXPECT_EQ(given.state().free_gpus(0), 2);
    given.waiting(job("wide").gpus(3)).running(job("narrow").gpus(2));
    EXPECT_EQ(given.reason("wide"), Why::no_gpus);
    EXPECT_EQ(given.attempt("narrow").parts.front().gpus, 0b1001U);
    given.ask(foreign(given, "n1", 0b0100, {3, 9}));
    EXPECT_EQ(given.state().free_gpus(0), 1);
    given.ask(foreign(given, "n1", 0, {3, 9}));
    given.ends("narrow");
    EXPECT_EQ(given.phase("wide"), "starting");
}

TEST(Foreign, AJobThatFitsTheMachineWaitsForIt) {
    auto given = Given{}.node("n1", 4);
    given.ask(foreign(given, "n1", 0b1111, {1}));
    EXPECT_EQ(given.submit(job("all").gpus(4)), Why::none);
    EXPECT_EQ(given.reason("all"), Why::no_gpus);
}

TEST(Foreign, ItsIdsAreNeverGivenToOurs) {
    auto given = Given{}.node("n1", 4);
    given.ask(foreign(given, "n1", 0b1, {3, 9}));
    given.running(job("a"));
    EXPECT_EQ(given.attempt("a").id, AttemptId{10});
    given.ask(foreign(given, "n1", 0, {3}));  // a folder was removed: numbers do not go back
    given.running(job("b"));
    EXPECT_EQ(given.attempt("b").id, AttemptId{11});
}

TEST(Foreign, ALeaseKeepsItsWord) {
    auto given = Given{}.node("n1", 4);
    given.running(job("ours").gpus(2));
    given.ask(foreign(given, "n1", 0b0110, {7}));
    EXPECT_EQ(given.state().at<Node>(given.node_id("n1")).foreign, 0b0100U);
    EXPECT_EQ(given.phase("ours"), "running");
}

TEST(Foreign, ItsCpusAndHostMemoryAreTakenToo) {
    auto given = Given{}.node("n1", 4, 0, cpus(8), gibibytes(64));
    auto found = foreign(given, "n1", 0b1, {3});
    found.cpus = cpus(5);
    found.memory = gibibytes(60);
    given.ask(found);
    given.waiting(job("busy").host(cpus(4))).waiting(job("large").host(cpus(1), gibibytes(8)));
    EXPECT_EQ(given.reason("busy"), Why::no_cpus);
    EXPECT_EQ(given.reason("large"), Why::no_memory);
    given.running(job("small").host(cpus(3), gibibytes(4)));
    given.ask(foreign(given, "n1", 0, {3}));
    EXPECT_EQ(given.phase("busy"), "starting");
    EXPECT_EQ(given.phase("large"), "starting");
}

TEST(Foreign, OfAHostItHasWhatIsNotLeased) {
    auto given = Given{}.node("n1", 4, 0, cpus(8), gibibytes(64));
    given.running(job("ours").host(cpus(6), gibibytes(40)));
    auto found = foreign(given, "n1", 0b10, {7});
    found.cpus = cpus(8);
    found.memory = gibibytes(64);
    given.ask(found);
    const auto& node = given.state().at<Node>(given.node_id("n1"));
    EXPECT_EQ(node.cpus_foreign, cpus(2));
    EXPECT_EQ(node.memory_foreign, gibibytes(24));
}

TEST(Foreign, TheSameFoundAgainIsNoFact) {
    auto given = Given{}.node("n1", 4);
    given.ask(foreign(given, "n1", 0b1, {3}));
    const auto before = given.facts();
    given.ask(foreign(given, "n1", 0b1, {3}));
    EXPECT_EQ(given.facts(), before);
    EXPECT_EQ(given.ask(ForeignFound{NodeId{9}, 1, {}, 1}), Why::not_found);
}

TEST(Foreign, AClaimDoesNotWaitForIt) {
    auto given = Given{}.node("n1", 4);
    given.running(job("low").gpus(2).of(PriorityClass::opportunistic));
    given.waiting(job("high").gpus(4).of(PriorityClass::production));
    ASSERT_NE(given.state().find<Claim>(given.id("high")), nullptr);
    given.ask(foreign(given, "n1", 0b1000, {7}));
    EXPECT_EQ(given.state().find<Claim>(given.id("high")), nullptr);
    given.leaves("low");
    EXPECT_EQ(given.reason("high"), Why::no_gpus);
    given.runs("low");  // on what is left, since nothing waits for it any more
    given.ask(foreign(given, "n1", 0, {7}));
    given.later(seconds{10});
    EXPECT_TRUE(given.phase("high") == "starting" || given.state().find<Claim>(given.id("high")) != nullptr);
}

TEST(Foreign, ARestartOfTheMachineEndsIt) {
    auto given = Given{}.node("n1", 4).node("n2", 4);
    given.ask(foreign(given, "n1", 0b11, {7}));
    given.ask(foreign(given, "n2", 0b1, {8}));
    given.reboots("n1").loses("n2");
    EXPECT_EQ(given.state().at<Node>(given.node_id("n1")).foreign, 0U);
    EXPECT_EQ(given.state().at<Node>(given.node_id("n2")).foreign, 0U);
    EXPECT_EQ(given.state().at<Node>(given.node_id("n1")).foreign_attempts.size(), 1U);  // its folder is still there
}

}  // namespace
}  // namespace stargate::test
