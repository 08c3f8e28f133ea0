#include "core/given.hpp"

namespace stargate::test {
namespace {

constexpr auto production = PriorityClass::production;
constexpr auto opportunistic = PriorityClass::opportunistic;

TEST(Preemption, ByClassOnlyWhereDataSaysSo) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(8)).waiting(job("same").gpus(8)).waiting(job("lower").gpus(8).of(opportunistic));
    EXPECT_EQ(given.phase("a"), "running");
    given.waiting(job("higher").gpus(8).of(production));
    EXPECT_EQ(given.phase("a"), "stopping");
    EXPECT_EQ(given.attempt("a").ending->cause, EndCause::preempt);
    given.leaves("a", 100);
    EXPECT_EQ(given.phase("higher"), "starting");
    EXPECT_EQ(given.phase("a"), "waiting");
    EXPECT_EQ(given.row("a").step, 100);
    EXPECT_EQ(given.row("a").failures, 0) << "a preemption is nobody's failure";
}

TEST(Preemption, TakesTheFewestAndOfThoseTheLeastWork) {
    auto given = Given{}.node("n1", 8);
    given.running(job("old").gpus(4)).later(minutes{20});
    given.running(job("young").gpus(4)).later(minutes{1});
    given.waiting(job("high").gpus(4).of(production));
    EXPECT_EQ(given.phase("old"), "running");
    EXPECT_EQ(given.phase("young"), "stopping");
}

TEST(Preemption, HasNoUselessVictim) {
    auto given = Given{}.node("n1", 8);
    given.running(job("large").gpus(6)).later(minutes{1}).running(job("small").gpus(2));
    given.waiting(job("high").gpus(6).of(production));
    EXPECT_EQ(given.phase("large"), "stopping");
    EXPECT_EQ(given.phase("small"), "running") << "its two GPUs were not needed";
}

TEST(Preemption, TouchesNobodyWhenItCannotHelp) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("low").gpus(8).of(opportunistic)).running(job("high").gpus(8).of(production));
    given.waiting(job("wide").gpus(16));
    EXPECT_EQ(given.phase("low"), "running");
    EXPECT_EQ(given.reason("wide"), Why::no_gpus);
}

TEST(Preemption, UsesFreeGpusOfTheDomainFirst) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("low-a").gpus(4)).running(job("low-b").gpus(4).within(Level::node)).later(seconds{1});
    given.waiting(job("wide").gpus(12).of(production));
    const auto stopping = (given.phase("low-a") == "stopping" ? 1 : 0) + (given.phase("low-b") == "stopping" ? 1 : 0);
    EXPECT_LE(stopping, 1);
}

TEST(Elastic, APassThatStartsNothingPutsGrowthOff) {
    auto given = Given{}.node("n1", 4);
    given.running(job("rigid").gpus(2)).running(job("elastic").gpus(1, 4)).ends("rigid");
    ASSERT_NE(given.state().counters().grow_at, Instant{});
    given.wait(given.state().settings().quiet_period);
    given.decide_now(Due{});
    given.decide_now(job("small").gpus(1).submit);
    given.decide_now(Pass{true});
    EXPECT_EQ(given.state().counters().grow_at, Instant{}) << "else its deadline would be found again and again";
    EXPECT_EQ(given.gpus("elastic"), 2);
    EXPECT_EQ(given.state().free_gpus(0), 2);
    given.pass();
    EXPECT_EQ(given.state().free_gpus(0), 1);
    EXPECT_NE(given.state().counters().grow_at, Instant{});
}

TEST(Elastic, ShrinksBeforeAnyoneIsPreempted) {
    auto given = Given{}.node("n1", 8);
    given.running(job("elastic").gpus(2, 4)).running(job("rigid").gpus(4));
    EXPECT_EQ(given.gpus("elastic"), 4);
    given.waiting(job("high").gpus(2).of(production));
    EXPECT_EQ(given.phase("rigid"), "running");
    ASSERT_EQ(given.phase("elastic"), "stopping");
    EXPECT_EQ(given.attempt("elastic").ending->cause, EndCause::resize);
    given.leaves("elastic", 42);
    EXPECT_EQ(given.phase("high"), "starting");
    EXPECT_EQ(given.gpus("elastic"), 2);
    EXPECT_EQ(given.attempt("elastic").generation, 2U);
    EXPECT_EQ(given.row("elastic").step, 42);
    EXPECT_EQ(given.row("elastic").failures, 0);
}

TEST(Elastic, NeverShrinksBelowItsMinimum) {
    auto given = Given{}.node("n1", 8);
    given.running(job("elastic").gpus(4, 8)).waiting(job("same").gpus(5));
    EXPECT_EQ(given.phase("elastic"), "running");
    EXPECT_EQ(given.reason("same"), Why::no_gpus);
    EXPECT_EQ(given.resize("elastic", 3), Why::never_fits);
}

TEST(Elastic, GrowsWhenGpusHaveBeenSpareForAQuietPeriod) {
    auto given = Given{}.node("n1", 8);
    given.running(job("rigid").gpus(4)).running(job("elastic").gpus(2, 8));
    EXPECT_EQ(given.gpus("elastic"), 4);
    given.ends("rigid");
    EXPECT_EQ(given.phase("elastic"), "running");
    given.later(milliseconds{2999});
    EXPECT_EQ(given.phase("elastic"), "running");
    given.later(milliseconds{1});
    EXPECT_EQ(given.phase("elastic"), "stopping");
    given.leaves("elastic").runs("elastic");
    EXPECT_EQ(given.gpus("elastic"), 8);
    given.waiting(job("same").gpus(4));
    EXPECT_EQ(given.phase("elastic"), "running") << "granted by a resize: kept for a quiet period";
    given.later(seconds{3});
    EXPECT_EQ(given.phase("elastic"), "stopping");
}

TEST(Elastic, InPlaceSurvivorsKeepRunning) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(2, 8).in_place());
    given.resize("e", 4);
    const auto commands = owed(given.state(), given.attempt("e"));
    ASSERT_EQ(commands.size(), 1U);
    EXPECT_EQ(std::get<EndRanks>(commands[0]).keep, 4);
    EXPECT_EQ(std::get<EndRanks>(commands[0]).next_world, 4);
    given.leaves("e");
    EXPECT_EQ(given.gpus("e"), 4);
    EXPECT_EQ(given.state().free_gpus(0), 4);
    const auto again = owed(given.state(), given.attempt("e"));
    ASSERT_EQ(again.size(), 1U);
    EXPECT_FALSE(std::get<RunRanks>(again[0]).first);
}

TEST(Elastic, SurvivorsHoldTheirGpusUntilTheyAreGoneToo) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("e").gpus(4, 16).in_place());
    const auto one = given.attempt("e");
    // Thinned on both nodes; the first has done it when the job is cancelled.
    given.decide_now(Resize{given.id("e"), 12});
    const auto before = owed(given.state(), given.attempt("e"));
    ASSERT_EQ(before.size(), 1U);
    const auto& end = std::get<EndRanks>(before[0]);
    given.decide_now(Cancel{given.id("e")});
    given.decide_now(RanksEnded{one.id, end.node, 1, {ExitKind::exited, 0, ""}, true, -1, end.keep});
    EXPECT_EQ(given.phase("e"), "stopping") << "the report is of the thinning, not of the end";
    given.leaves("e");
    EXPECT_EQ(given.phase("e"), "cancelled");
}

TEST(Elastic, OneProcessOverANodesGpusIsRestarted) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(2, 8).in_place().one_rank_a_node());
    given.resize("e", 4);
    EXPECT_EQ(std::get<EndRanks>(owed(given.state(), given.attempt("e")).at(0)).keep, 0);
}

TEST(Resize, APersonsWishGoesAtOnceBothWays) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(1, 8));
    EXPECT_EQ(given.gpus("e"), 8);
    EXPECT_EQ(given.resize("e", 3), Why::none);
    EXPECT_EQ(given.resize("e", 5), Why::wrong_state) << "one at a time";
    given.leaves("e").runs("e");
    EXPECT_EQ(given.gpus("e"), 3);
    given.later(seconds{30});
    EXPECT_EQ(given.phase("e"), "running") << "it stays where the person wants it";
    given.resize("e", 5);
    given.leaves("e").runs("e");
    EXPECT_EQ(given.gpus("e"), 5);
    EXPECT_EQ(given.resize("e", 9), Why::never_fits);
    EXPECT_EQ(given.ask(Resize{JobId{99}, 1}), Why::not_found);
}

TEST(Resize, OfAGangThatStartsWaitsUntilItRuns) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("e").gpus(1, 8));
    EXPECT_EQ(given.resize("e", 2), Why::none);
    EXPECT_EQ(given.phase("e"), "starting");
    given.runs("e");
    EXPECT_EQ(given.phase("e"), "stopping");
    given.leaves("e").runs("e");
    EXPECT_EQ(given.gpus("e"), 2);
}

TEST(Resize, IsRememberedByTheNextAttempt) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(1, 8));
    given.resize("e", 2);
    given.leaves("e").runs("e").reboots("n1").later(seconds{1});
    ASSERT_EQ(given.phase("e"), "starting");
    given.runs("e");
    if (given.phase("e") == "stopping") given.leaves("e").runs("e");
    EXPECT_EQ(given.gpus("e"), 2);
    given.later(seconds{30});
    EXPECT_EQ(given.phase("e"), "running") << "it stays where the person wants it";
}

TEST(Resize, OfARigidJobIsRefused) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(2)).waiting(job("b").gpus(8));
    EXPECT_EQ(given.resize("a", 1), Why::not_elastic);
    EXPECT_EQ(given.resize("b", 1), Why::not_elastic) << "it will not be elastic when it runs either";
}

TEST(Resize, AnInfrastructureFailureMeanwhileIsOne) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("e").gpus(2, 16));
    given.resize("e", 9);
    given.loses("n2").leaves("e");
    EXPECT_EQ(given.phase("e"), "waiting");
    EXPECT_EQ(given.row("e").failures, 1);
}

TEST(Claim, StartsWhenTheLastVictimIsGone) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(4)).running(job("b").gpus(4)).waiting(job("high").gpus(8).of(production));
    given.leaves("a");
    EXPECT_EQ(given.phase("high"), "waiting");
    given.leaves("b");
    EXPECT_EQ(given.phase("high"), "starting");
}

TEST(Claim, KeepsWhatIsLetGoFromOthers) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(4)).running(job("b").gpus(4)).waiting(job("high").gpus(8).of(production));
    given.leaves("a").waiting(job("sneaky").gpus(2).of(production));
    EXPECT_EQ(given.phase("sneaky"), "waiting");
}

TEST(Claim, EndsByItsDeadline) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("a").gpus(8)).waiting(job("pin").gpus(8).of(production));
    ASSERT_EQ(given.phase("pin"), "starting");
    given.runs("pin").waiting(job("high").gpus(8).of(production));
    ASSERT_EQ(given.reason("high"), Why::claim_pending);
    given.later(seconds{5} + given.state().settings().claim_slack);
    EXPECT_EQ(given.state().table<Claim>().size(), 0U);
}

TEST(Claim, OfAGrowingAttemptThatIsLateLeavesItAsItWas) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("rigid").gpus(8)).running(job("e").gpus(4, 16));
    given.ends("rigid").later(seconds{3});
    ASSERT_EQ(given.phase("e"), "stopping");
    ASSERT_EQ(given.state().table<Claim>().size(), 1U);
    given.later(minutes{1});
    EXPECT_EQ(given.state().table<Claim>().size(), 0U);
    given.waiting(job("other").gpus(8)).leaves("e");
    EXPECT_EQ(given.gpus("e"), 8);
    EXPECT_EQ(given.phase("other"), "starting");
}

/// `e` runs on one node and is warned because it grows onto n2, where it has nothing yet.
Given growing_onto_n2() {
    auto given = Given{}.node("n2", 8);
    given.running(job("other").gpus(8)).node("n1", 8);
    given.running(job("e").gpus(4, 16)).ends("other").later(seconds{3});
    EXPECT_EQ(given.phase("e"), "stopping");
    EXPECT_NE(given.state().at<Node>(given.node_id("n2")).claimed, 0U);
    return given;
}

TEST(Claim, OnANodeThatStopsTakingWorkIsDropped) {
    for (const int how : {0, 1, 2}) {
        auto given = growing_onto_n2();
        const auto n2 = given.node_id("n2");
        given.ask(how == 0 ? Input{NodeDead{n2}} : how == 1 ? Input{NodeSilent{n2}} : Input{Drain{n2, true}});
        EXPECT_EQ(given.state().at<Node>(n2).claimed, 0U);
        given.leaves("e").runs("e");
        EXPECT_EQ(given.gpus("e"), 8) << "it goes on as large as it was";
        EXPECT_EQ(given.phase("e"), "running");
        EXPECT_EQ(given.cancel("e"), Why::none);
        given.leaves("e");
        EXPECT_EQ(given.phase("e"), "cancelled");
        EXPECT_EQ(given.used_by("lab"), 0);
    }
}

TEST(Claim, BeyondAQuotaThatWasLoweredIsDropped) {
    auto given = growing_onto_n2();
    given.tenant("lab", 10).pass();
    EXPECT_EQ(given.state().table<Claim>().size(), 0U);
    given.leaves("e").runs("e");
    EXPECT_EQ(given.used_by("lab"), 8000);
}

TEST(Claim, OfAWaitingJobIsDroppedAndPlannedAnewElsewhere) {
    auto given = Given{}.node("n1", 8);
    given.running(job("low").gpus(8).of(opportunistic)).waiting(job("high").gpus(8).of(production));
    ASSERT_EQ(given.reason("high"), Why::claim_pending);
    given.node("n2", 8).ask(Drain{given.node_id("n1"), true});
    EXPECT_EQ(given.node_of("high"), "n2");
}

}  // namespace
}  // namespace stargate::test
