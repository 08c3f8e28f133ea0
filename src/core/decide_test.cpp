#include "core/given.hpp"
#include "core/schedule.hpp"

namespace stargate::test {
namespace {

constexpr auto production = PriorityClass::production;
constexpr auto opportunistic = PriorityClass::opportunistic;

TEST(Start, AJobRunsOnTheFreeGpusOfOneNode) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").gpus(4));
    EXPECT_EQ(given.phase("a"), "starting");
    given.runs("a");
    EXPECT_EQ(given.phase("a"), "running");
    EXPECT_EQ(given.used_by("lab"), 4000);
    given.ends("a");
    EXPECT_EQ(given.phase("a"), "succeeded");
    EXPECT_EQ(given.used_by("lab"), 0);
    EXPECT_EQ(given.state().free_gpus(0), 8);
}

TEST(Start, AnExitStatusIsTheJobs) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a")).ends("a", 3);
    EXPECT_EQ(given.phase("a"), "failed");
    EXPECT_EQ(std::get<Finished>(given.row("a").phase).exit_status, 3);
}

TEST(Start, AnEndedJobKeepsWhenItStartedAndWhereItRanLast) {
    auto given = Given{}.node("n1", 4).node("n2", 4);
    given.running(job("a").gpus(8));
    const auto started = given.attempt("a").started;
    given.later(minutes{3}).ends("a");
    const auto& finished = std::get<Finished>(given.row("a").phase);
    EXPECT_EQ(finished.started, started);
    EXPECT_EQ(finished.at - finished.started, minutes{3});
    EXPECT_EQ(finished.nodes, (NodeIds{given.node_id("n1"), given.node_id("n2")}));
    given.waiting(job("b").held()).cancel("b");
    EXPECT_EQ(std::get<Finished>(given.row("b").phase).started, Instant{});
}

TEST(Start, AJobWithoutGpusTakesHostCpusOnly) {
    auto given = Given{}.node("n1", 1, 0, cpus(4));
    given.running(job("gpu")).running(job("host").gpus(0).host(cpus(3)));
    given.waiting(job("more").gpus(0).host(cpus(2)));
    EXPECT_EQ(given.reason("more"), Why::no_cpus);
    given.ends("host");
    EXPECT_EQ(given.phase("more"), "starting");
}

TEST(Start, HostMemoryIsLeasedToo) {
    auto given = Given{}.node("n1", 8, 0, cpus(64), gibibytes(10));
    given.running(job("a").host({}, gibibytes(6))).waiting(job("b").host({}, gibibytes(6)));
    EXPECT_EQ(given.reason("b"), Why::no_memory);
    given.ends("a");
    EXPECT_EQ(given.phase("b"), "starting");
}

TEST(Gang, SpansNodesWhereItMayAndStartsWhole) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.waiting(job("wide").gpus(12));
    EXPECT_EQ(given.attempt("wide").parts.size(), 2U);
    const auto one = given.attempt("wide");
    given.decide_now(RanksRunning{one.id, one.parts[0].node, 1});
    EXPECT_EQ(given.phase("wide"), "starting");
    given.decide_now(RanksRunning{one.id, one.parts[1].node, 1});
    EXPECT_EQ(given.phase("wide"), "running");
}

TEST(Gang, StaysWithinItsDomain) {
    auto given = Given{}.node("n1", 8, 0).node("n2", 8, 1).node("n3", 8, 1);
    given.waiting(job("rack").gpus(16).within(Level::rack));
    for (const auto& part : given.attempt("rack").parts) EXPECT_EQ(given.state().at<Node>(part.node).shape.rack, 1U);
    EXPECT_EQ(given.submit(job("too-big").gpus(17).within(Level::rack)), Why::never_fits);
    EXPECT_EQ(given.submit(job("too-big").gpus(9).within(Level::node)), Why::never_fits);
}

TEST(Gang, ThatIsNotWholeInTimeIsBrokenAndTriedAgain) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.waiting(job("wide").gpus(16));
    const auto one = given.attempt("wide");
    given.decide_now(RanksRunning{one.id, one.parts[0].node, 1});
    given.later(given.state().settings().gang_limit);
    EXPECT_EQ(given.phase("wide"), "stopping");
    given.leaves("wide");
    EXPECT_EQ(given.reason("wide"), Why::backing_off);
    given.later(seconds{1});
    EXPECT_EQ(given.phase("wide"), "starting");
    EXPECT_NE(given.attempt("wide").id, one.id);
}

TEST(Gang, AnEarlyEndOfOnePartDoesNotExcuseTheOthersFromStarting) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.waiting(job("wide").gpus(16));
    const auto one = given.attempt("wide");
    given.decide_now(RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::exited, 0, ""}, false, -1, 0});
    given.later(given.state().settings().gang_limit);
    EXPECT_EQ(given.phase("wide"), "stopping");
    given.leaves("wide");
    EXPECT_EQ(given.phase("wide"), "waiting") << "a part that never ran is no success";
}

TEST(Gang, OneFailedPartEndsTheOthers) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("wide").gpus(16));
    const auto one = given.attempt("wide");
    given.decide_now(RanksEnded{one.id, one.parts[1].node, 1, {ExitKind::exited, 7, ""}, false, -1, 0});
    EXPECT_EQ(given.phase("wide"), "stopping");
    given.leaves("wide");
    EXPECT_EQ(given.phase("wide"), "failed");
    EXPECT_EQ(std::get<Finished>(given.row("wide").phase).exit_status, 7);
}

TEST(Gang, TakesOfEachNodeWhatItsHostHasRoomFor) {
    auto given = Given{}.node("n1", 8, 0, cpus(64), gibibytes(40)).node("n2", 8, 0, cpus(64), gibibytes(40));
    given.waiting(job("wide").gpus(8).host({}, gibibytes(10)));
    ASSERT_EQ(given.phase("wide"), "starting");
    EXPECT_EQ(given.attempt("wide").parts.size(), 2U);
}

TEST(Array, EveryElementIsAJob) {
    auto given = Given{}.node("n1", 2);
    given.waiting(job("sweep").count(3));
    EXPECT_EQ(given.phase("sweep[0]"), "starting");
    EXPECT_EQ(given.phase("sweep[1]"), "starting");
    EXPECT_EQ(given.phase("sweep[2]"), "waiting");
    EXPECT_EQ(given.row("sweep[2]").task, 2);
    given.runs("sweep[0]").ends("sweep[0]");
    EXPECT_EQ(given.phase("sweep[2]"), "starting");
    EXPECT_EQ(given.submit(job("empty").count(0)), Why::bad_array);
    EXPECT_EQ(given.submit(job("huge").count(100'001)), Why::bad_array);
}

TEST(After, WaitsForSuccess) {
    auto given = Given{}.node("n1", 8);
    given.running(job("prepare")).waiting(job("train").after("prepare"));
    EXPECT_EQ(given.reason("train"), Why::dependency);
    given.ends("prepare");
    EXPECT_EQ(given.phase("train"), "starting");
}

TEST(After, IsDroppedWithEverythingBehindItWhenItCannotHappen) {
    auto given = Given{}.node("n1", 8);
    given.running(job("prepare")).waiting(job("train").after("prepare")).waiting(job("test").after("train"));
    given.ends("prepare", 1);
    EXPECT_EQ(given.phase("train"), "cancelled");
    EXPECT_EQ(given.phase("test"), "cancelled");
    EXPECT_EQ(given.submit(job("late").after("prepare")), Why::dependency_failed);
    EXPECT_EQ(given.submit(job("lost").after("nobody")), Why::unknown_dependency);
}

TEST(After, AnArrayIsWaitedForWhole) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("shards").count(2)).waiting(job("merge").after("shards"));
    given.runs("shards[0]").runs("shards[1]").ends("shards[0]");
    EXPECT_EQ(given.phase("merge"), "waiting");
    given.ends("shards[1]");
    EXPECT_EQ(given.phase("merge"), "starting");
}

TEST(After, NamesOneArrayOnceAndNotTooMany) {
    auto given = Given{}.node("n1", 8);
    auto doubled = job("doubled").held();
    auto most = job("most").held();
    for (int i = 0; i < 101; ++i) {
        const auto name = "a" + std::to_string(i);
        given.waiting(job(name).held());
        doubled.submit.after.emplace_back("a7");
        most.submit.after.push_back(name);
    }
    given.waiting(doubled);
    EXPECT_EQ(given.state().spec_of(given.row("doubled")).comes_after.size(), 1U);
    const auto refused = given.decide_now(most.submit);
    EXPECT_EQ(refused.why, (Refusal{Why::too_many_after, 101, 100, 0}));
    most.submit.after.pop_back();
    given.waiting(most);
    EXPECT_EQ(given.state().unmet(given.id("most")), 100);
}

TEST(After, TheFirstThatFailsTakesAllAlongAndNoneTwice) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").count(3).held()).waiting(job("b").count(2).after("a")).waiting(job("c").after("b"));
    given.cancel("b[0]");  // c can never run
    EXPECT_EQ(given.phase("c"), "cancelled");
    given.cancel("a[1]");
    EXPECT_EQ(given.phase("b[1]"), "cancelled");
    const auto facts = given.facts();
    given.cancel("a[0]");
    EXPECT_EQ(given.facts(), facts + 1);
    EXPECT_EQ(given.submit(job("d").after("a")), Why::dependency_failed);
}

TEST(After, AnArrayRemembersAFailureThatHasLeftState) {
    Settings settings;
    settings.max_finished = 1;
    auto given = Given{settings}.node("n1", 8);
    given.waiting(job("shards").count(3)).runs("shards[0]").runs("shards[1]").runs("shards[2]");
    given.ends("shards[0]", 1).later(seconds{1});
    given.ends("shards[1]").later(seconds{1});
    ASSERT_EQ(given.phase("shards[0]"), "gone");
    EXPECT_EQ(given.submit(job("merge").after("shards")), Why::dependency_failed);
}

TEST(Hold, KeepsAJobUntilItIsReleased) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").held());
    EXPECT_EQ(given.reason("a"), Why::held);
    given.hold("a", false);
    EXPECT_EQ(given.phase("a"), "starting");
    EXPECT_EQ(given.hold("a"), Why::wrong_state);
}

TEST(Hold, GivesItsClaimBack) {
    auto given = Given{}.node("n1", 8);
    given.running(job("low").gpus(8).of(opportunistic)).waiting(job("high").gpus(8).of(production));
    EXPECT_EQ(given.reason("high"), Why::claim_pending);
    given.hold("high");
    given.leaves("low");
    EXPECT_EQ(given.phase("low"), "starting");
}

TEST(Quota, HoldsAtEveryLevel) {
    auto given = Given{}.node("n1", 16);
    given.tenant("org", 6).tenant("org/a", 4).tenant("org/b", 4);
    given.running(job("a1").gpus(4).by("org/a")).waiting(job("a2").by("org/a")).waiting(job("b1").gpus(4).by("org/b"));
    EXPECT_EQ(given.reason("a2"), Why::tenant_quota);
    EXPECT_EQ(given.reason("b1"), Why::tenant_quota);
    EXPECT_EQ(given.used_by("org"), 4000);
    EXPECT_EQ(given.submit(job("never").gpus(5).by("org/a")), Why::never_fits);
    EXPECT_EQ(given.submit(job("never").gpus(7).by("org")), Why::never_fits);
    given.ends("a1");
    EXPECT_EQ(given.phase("a2"), "starting");
    EXPECT_EQ(given.phase("b1"), "starting");
    EXPECT_EQ(given.used_by("org"), 5000);
}

TEST(Quota, CountsWhatIsClaimed) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("low").gpus(8).of(opportunistic)).waiting(job("high").gpus(6).of(production).by("small"));
    EXPECT_EQ(given.reason("high"), Why::claim_pending);
    given.node("n2", 8).waiting(job("other").gpus(4).by("small"));
    EXPECT_EQ(given.reason("other"), Why::tenant_quota) << "the claim has a right to the quota";
    given.leaves("low");
    EXPECT_EQ(given.phase("high"), "starting");
}

TEST(Quota, LimitsHowFarAnElasticJobGrows) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 3);
    given.running(job("a").gpus(1, 8).by("small"));
    EXPECT_EQ(given.gpus("a"), 3);
    given.later(seconds{10}).later(seconds{10});
    EXPECT_EQ(given.used_by("small"), 3000);
    given.tenant("small", 5).pass().later(seconds{3});
    given.leaves("a").runs("a");
    EXPECT_EQ(given.gpus("a"), 5);
}

TEST(Share, OneTenantAGpu) {
    auto given = Given{}.node("n1", 1);
    given.tenant("other");
    given.running(job("a").share(400)).running(job("b").share(600));
    EXPECT_EQ(given.used_by("lab"), 1000);
    given.waiting(job("c").share(100));
    EXPECT_EQ(given.reason("c"), Why::no_gpus);
    given.waiting(job("d").share(300).by("other"));
    given.ends("a");
    EXPECT_EQ(given.phase("c"), "starting");
    EXPECT_EQ(given.phase("d"), "waiting") << "the GPU belongs to another tenant's shares";
    given.ends("b").runs("c").ends("c");
    EXPECT_EQ(given.phase("d"), "starting");
}

TEST(Drain, TakesNoNewWorkAndKeepsTheOld) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a"));
    given.ask(Drain{given.node_id("n1"), true});
    given.waiting(job("b"));
    EXPECT_EQ(given.phase("a"), "running");
    EXPECT_EQ(given.phase("b"), "waiting");
    given.ask(Drain{given.node_id("n1"), false});
    EXPECT_EQ(given.phase("b"), "starting");
    EXPECT_EQ(given.ask(Drain{NodeId{77}, true}), Why::not_found);
}

TEST(Node, SilentIsNotFailed) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(8));
    given.ask(NodeSilent{given.node_id("n1")});
    EXPECT_EQ(given.phase("a"), "running");
    EXPECT_EQ(given.state().free_gpus(0), 0);
    given.waiting(job("b"));
    EXPECT_EQ(given.phase("b"), "waiting");
    given.comes_back("n1");
    EXPECT_EQ(given.phase("a"), "running");
}

TEST(Node, DeadMeansItsWorkIsPlacedElsewhere) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("a").gpus(8));
    const auto first = given.node_of("a");
    given.loses(first).later(seconds{1});
    EXPECT_EQ(given.phase("a"), "starting");
    EXPECT_NE(given.node_of("a"), first);
}

TEST(Node, AnotherBootIdProvesItsWorkDead) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(8)).reboots("n1");
    EXPECT_EQ(given.phase("a"), "waiting");
    EXPECT_EQ(given.row("a").failures, 1);
    given.comes_back("n1");
    EXPECT_EQ(given.row("a").failures, 1) << "the same boot id proves nothing";
}

TEST(Node, ComingBackInAnotherRackChangesNothingYet) {
    auto given = Given{}.node("n1", 8, 0).node("n2", 8, 1);
    auto moved = given.state().at<Node>(given.node_id("n1")).shape;
    moved.pod = 9;
    given.ask(NodeUp{moved, "n1-1"});
    EXPECT_EQ(given.state().at<Node>(given.node_id("n1")).shape.pod, 0U);
}

TEST(Report, LateDoubledAndStaleOnesChangeNothing) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(2, 8));
    const auto first = given.attempt("e");
    given.resize("e", 4);
    given.leaves("e").runs("e");
    const auto facts = given.facts();
    const auto node = first.parts[0].node;
    given.decide_now(RanksRunning{first.id, node, 1});
    given.decide_now(RanksEnded{first.id, node, 1, {ExitKind::exited, 1, ""}, true, -1, 0});
    given.decide_now(RanksEnded{first.id, node, 1, {ExitKind::exited, 1, ""}, false, -1, 0});
    given.decide_now(RanksEnded{first.id, node, 7, {ExitKind::exited, 1, ""}, false, -1, 0});
    given.decide_now(RanksRunning{AttemptId{99}, node, 1});
    given.decide_now(AttemptLost{AttemptId{99}, node, ""});
    EXPECT_EQ(given.facts(), facts);
    EXPECT_EQ(given.phase("e"), "running");
    given.ends("e");
    const auto over = given.facts();
    given.decide_now(RanksEnded{first.id, node, 2, {ExitKind::exited, 0, ""}, false, -1, 0});
    EXPECT_EQ(given.facts(), over);
}

TEST(Report, APartEndsOnce) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("wide").gpus(16));
    const auto one = given.attempt("wide");
    const RanksEnded report{one.id, one.parts[0].node, 1, {ExitKind::exited, 0, ""}, false, -1, 0};
    given.decide_now(report);
    const auto facts = given.facts();
    given.decide_now(report);
    EXPECT_EQ(given.facts(), facts);
}

TEST(Report, ProgressNeverFalls) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a"));
    const auto one = given.attempt("a").id;
    given.decide_now(Progress{one, 10});
    given.decide_now(Progress{one, 7});
    EXPECT_EQ(given.row("a").step, 10);
    EXPECT_EQ(given.times("progressed"), 1U);
}

TEST(Backfill, DoesNotDelayTheGangAhead) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(6).limit(minutes{30})).waiting(job("gang").gpus(8));
    EXPECT_EQ(given.state().table<Reservation>().size(), 1U);
    given.waiting(job("long").gpus(2).limit(hours{2}));
    EXPECT_EQ(given.reason("long"), Why::reserved_for_other);
    given.waiting(job("short").gpus(2).limit(minutes{20}));
    EXPECT_EQ(given.phase("short"), "starting") << "it ends before the gang can start";
}

TEST(Backfill, WhatStartsBesideAReservationTakesOfItsSpare) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("a").gpus(8).limit(minutes{30})).running(job("b").gpus(4).limit(minutes{30}));
    given.waiting(job("gang").gpus(13));  // 16 GPUs by then: 3 spare
    given.waiting(job("first").gpus(2).limit(hours{2}));
    EXPECT_EQ(given.phase("first"), "starting");
    given.waiting(job("second").gpus(2).limit(hours{3}));
    EXPECT_EQ(given.reason("second"), Why::reserved_for_other) << "only one GPU is still spare";
}

TEST(Backfill, AReservationEndsByItself) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(6).limit(minutes{30}))
        .waiting(job("gang").gpus(8))
        .waiting(job("long").gpus(2).limit(hours{2}));
    given.hold("gang");
    EXPECT_EQ(given.state().table<Reservation>().size(), 0U);
    EXPECT_EQ(given.phase("long"), "starting");
}

TEST(FairShare, TheTenantThatHoldsLessOfItsShareGoesFirst) {
    auto given = Given{}.node("n1", 4);
    given.tenant("rich").tenant("poor");
    given.running(job("r1").gpus(3).by("rich")).running(job("r0").by("rich"));
    given.waiting(job("r2").by("rich")).waiting(job("p1").by("poor"));
    given.ends("r0");
    EXPECT_EQ(given.phase("p1"), "starting") << "younger, but its tenant holds nothing";
    EXPECT_EQ(given.phase("r2"), "waiting");
}

TEST(FairShare, WeighsWhatIsHeld) {
    auto given = Given{}.node("n1", 4);
    given.tenant("heavy", -1, 4).tenant("light", -1, 1);
    given.running(job("h1").gpus(2).by("heavy")).running(job("l1").by("light")).running(job("last"));
    given.waiting(job("l2").by("light")).waiting(job("h2").by("heavy"));
    given.ends("last");
    EXPECT_EQ(given.phase("h2"), "starting") << "2 of weight 4 is less than 1 of weight 1";
}

TEST(FairShare, HigherClassesGoFirstWhateverIsHeld) {
    auto given = Given{}.node("n1", 1);
    given.tenant("poor");
    given.running(job("now").of(production)).waiting(job("p").by("poor")).waiting(job("c").of(production));
    given.ends("now");
    EXPECT_EQ(given.phase("c"), "starting");
}

TEST(Refusal, IsNeverStored) {
    auto given = Given{}.node("n1", 8);
    given.tenant("plain", -1, 1, 0b0011);
    const auto facts = given.facts();
    EXPECT_EQ(given.submit(job("x").by("nobody")), Why::unknown_tenant);
    EXPECT_EQ(given.submit(job("x").by("plain").of(production)), Why::class_not_allowed);
    EXPECT_EQ(given.submit(job("x").of(PriorityClass::system)), Why::class_not_allowed);
    EXPECT_EQ(given.submit(job("x").gpus(9)), Why::never_fits);
    EXPECT_EQ(given.submit(job("x").host(cpus(65))), Why::no_cpus);
    EXPECT_EQ(given.submit(job("x").host({}, gibibytes(300))), Why::no_memory);
    EXPECT_EQ(given.facts(), facts);
    EXPECT_EQ(given.state().counters().jobs, 0U);
}

TEST(Refusal, OfALowerOrEqualTerm) {
    Given given;
    EXPECT_EQ(given.ask(TakeOffice{1, {}}), Why::wrong_state);
    EXPECT_EQ(given.ask(TakeOffice{2, {}}), Why::none);
    EXPECT_EQ(given.state().counters().term, 2U);
}

TEST(Office, DeadlinesThatNobodyCouldHearStartAfresh) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a"));
    given.wait(given.state().settings().gang_limit / 2);
    given.decide_now(TakeOffice{2, given.state().settings()});
    EXPECT_EQ(given.attempt("a").gang_deadline, given.now() + given.state().settings().gang_limit);
}

TEST(Retire, AfterItsTimeAJobLeavesStateForHistory) {
    Settings settings;
    settings.retention = minutes{1};
    auto given = Given{settings}.node("n1", 8);
    given.running(job("a")).ends("a").later(seconds{59});
    EXPECT_EQ(given.phase("a"), "succeeded");
    given.later(seconds{1});
    EXPECT_EQ(given.phase("a"), "gone");
    EXPECT_EQ(given.state().table<Spec>().size(), 0U);
    EXPECT_EQ(given.state().table<Blocked>().size(), 0U);
}

TEST(Retire, APassTakesNoMoreThanItMayAndSaysThatThereAreMore) {
    Settings settings;
    settings.retention = minutes{1};
    auto given = Given{settings}.node("n1", 8);
    given.waiting(job("a").count(5).held());
    for (const auto* name : {"a[0]", "a[1]", "a[2]", "a[3]", "a[4]"}) given.decide_now(Cancel{given.id(name)});
    EXPECT_FALSE(is_cut_off(given.state(), given.now()));
    given.wait(minutes{1});
    given.pass({false, false, 2});
    EXPECT_EQ(given.times("retired"), 2U);
    EXPECT_EQ(given.state().at<Spec>(given.id("a[0]")).left, 3);
    EXPECT_TRUE(is_cut_off(given.state(), given.now()));
    given.pass({false, true, 2}).pass({false, true, 2});
    EXPECT_EQ(given.times("retired"), 5U);
    EXPECT_FALSE(is_cut_off(given.state(), given.now()));
    EXPECT_EQ(given.state().table<Spec>().size(), 0U);
}

TEST(Retire, WhatAJobCameAfterIsNotPartOfItsHistory) {
    Settings settings;
    settings.max_finished = 0;
    auto given = Given{settings}.node("n1", 8);
    given.waiting(job("a").count(500).held()).waiting(job("b").count(500).after("a"));
    auto& core = given.core();
    (void)decide(core, given.now(), Cancel{given.id("a[0]")});
    (void)decide(core, given.now(), Pass{});
    ASSERT_EQ(core.retired().size(), 501U);
    for (const auto& gone : core.retired()) EXPECT_LT(encoded(gone).size(), 250U);
    const auto rows = given.state().rows().size();
    core.undo_to({});
    EXPECT_EQ(given.state().at<Spec>(given.id("b[0]")).left, 500);
    EXPECT_GT(given.state().rows().size(), rows);
}

TEST(Retire, NoMoreFinishedJobsAreKeptThanSettingsSay) {
    Settings settings;
    settings.max_finished = 2;
    auto given = Given{settings}.node("n1", 8);
    for (const auto* name : {"a", "b", "c"}) {
        given.running(job(name)).ends(name);
        given.later(seconds{1});
    }
    EXPECT_EQ(given.phase("a"), "gone");
    EXPECT_EQ(given.phase("b"), "succeeded");
}

TEST(Explain, SaysEverythingThatBlocksInOrder) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("s").gpus(8).by("small")).waiting(job("x").gpus(8).by("small"));
    const auto reasons = explain(given.state(), given.now(), given.id("x"));
    ASSERT_EQ(reasons.size(), 2U);
    EXPECT_EQ(reasons[0].why, Why::tenant_quota);
    EXPECT_EQ(reasons[1].why, Why::no_gpus);
    EXPECT_EQ(reasons[1].need, 8);
    EXPECT_EQ(reasons[1].have, 0);
    EXPECT_EQ(given.reason("x"), reasons[0].why);
}

TEST(Explain, OfGpusCpusAndMemoryTellsAllThatIsShort) {
    auto given = Given{}.node("n1", 2, 0, cpus(2), gibibytes(4));
    given.running(job("gpus").gpus(2)).running(job("cpus").gpus(0).host(cpus(2), gibibytes(3)));
    given.waiting(job("x").gpus(1).host(cpus(1), gibibytes(2))).waiting(job("y").gpus(0).host(cpus(1), gibibytes(1)));
    const auto whys = [&](const char* name) {
        std::vector<Why> all;
        for (const auto& reason : explain(given.state(), given.now(), given.id(name))) all.push_back(reason.why);
        return all;
    };
    EXPECT_EQ(whys("x"), (std::vector{Why::no_gpus, Why::no_cpus, Why::no_memory}));
    EXPECT_EQ(whys("y"), (std::vector{Why::no_cpus})) << "there is memory for it";
}

TEST(Owed, IsAFunctionOfState) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.waiting(job("wide").gpus(12));
    const auto commands = owed(given.state());
    ASSERT_EQ(commands.size(), 2U);
    const auto& a = std::get<RunRanks>(commands[0]);
    const auto& b = std::get<RunRanks>(commands[1]);
    EXPECT_EQ(a.world_size, 12);
    EXPECT_EQ(b.first_rank, a.ranks);
    EXPECT_TRUE(a.first && b.first);
    const auto copy = State::from_rows(given.state().rows());
    EXPECT_EQ(owed(*copy), commands);
    given.runs("wide");
    EXPECT_TRUE(owed(given.state()).empty());
    given.cancel("wide");
    EXPECT_EQ(owed(given.state()).size(), 2U);
    given.leaves("wide");
    EXPECT_TRUE(owed(given.state()).empty());
}

TEST(Owed, TheEndOfAGenerationThatNeverRan) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(1, 8));
    given.resize("e", 4);
    const auto one = given.attempt("e");
    const auto node = one.parts[0].node;
    // The ranks of generation 1 are gone, and before those of generation 2 are told to run the job is cancelled.
    given.decide_now(RanksEnded{one.id, node, 1, {ExitKind::exited, 0, ""}, true, -1, 0});
    given.cancel("e");
    const auto commands = owed(given.state());
    ASSERT_EQ(commands.size(), 1U);
    const auto& end = std::get<EndRanks>(commands[0]);
    EXPECT_EQ(end.generation, 2U) << "an executor that has generation 1 answers as if generation 2 had ended";
    EXPECT_EQ(end.keep, 0);
    given.decide_now(RanksEnded{one.id, node, 1, {ExitKind::exited, 0, ""}, true, -1, 0});
    EXPECT_EQ(given.phase("e"), "stopping") << "the end of generation 1 was told before";
    given.decide_now(RanksEnded{one.id, node, 2, {ExitKind::killed, 0, ""}, true, -1, 0});
    EXPECT_EQ(given.phase("e"), "cancelled");
    EXPECT_TRUE(owed(given.state()).empty());
}

}  // namespace
}  // namespace stargate::test
