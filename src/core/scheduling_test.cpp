#include "core/given.hpp"
#include "core/policy/queue.hpp"
#include "core/schedule.hpp"

// Who starts, who waits and why, where quotas, hosts, silent nodes and reservations meet.
namespace stargate::test {
namespace {

constexpr auto production = PriorityClass::production;
constexpr auto opportunistic = PriorityClass::opportunistic;

TEST(QuotaTakenBack, FromTheTenantsOwnElasticSurplus) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("train").gpus(1, 8).by("small"));
    ASSERT_EQ(given.gpus("train"), 8);
    given.waiting(job("urgent").gpus(2).of(production).by("small"));
    EXPECT_EQ(given.reason("urgent"), Why::claim_pending);
    given.leaves("train");
    EXPECT_EQ(given.phase("urgent"), "starting");
    EXPECT_EQ(given.gpus("train"), 6);
    EXPECT_EQ(given.used_by("small"), 8000);
}

TEST(QuotaTakenBack, WhereFreeGpusAreElsewhere) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.tenant("small", 8);
    given.running(job("train").gpus(1, 8).by("small"));
    given.waiting(job("urgent").gpus(2).of(production).by("small"));
    EXPECT_EQ(given.phase("train"), "stopping");
    EXPECT_EQ(given.phase("urgent"), "waiting") << "its GPUs are free, its quota is not yet";
    given.leaves("train");
    EXPECT_EQ(given.phase("urgent"), "starting");
    EXPECT_NE(given.node_of("urgent"), given.node_of("train"));
    EXPECT_LE(given.used_by("small"), 8000);
}

TEST(QuotaTakenBack, ByPreemptingOnlyTheTenantsOwnWork) {
    auto given = Given{}.node("n1", 16);
    given.tenant("small", 8);
    given.running(job("other").gpus(8).of(opportunistic)).running(job("own").gpus(8).of(opportunistic).by("small"));
    given.waiting(job("urgent").gpus(4).of(production).by("small"));
    EXPECT_EQ(given.phase("other"), "running") << "it is not what holds the quota";
    EXPECT_EQ(given.phase("own"), "stopping");
    given.leaves("own");
    EXPECT_EQ(given.phase("urgent"), "starting");
}

TEST(QuotaTakenBack, NeverFromEqualsOrWhereItWouldNotDo) {
    auto given = Given{}.node("n1", 16);
    given.tenant("small", 8);
    given.running(job("rigid").gpus(6).by("small")).running(job("low").gpus(2).of(opportunistic).by("small"));
    given.waiting(job("same").gpus(4).by("small"));
    EXPECT_EQ(given.phase("low"), "running") << "its two GPUs would not do";
    EXPECT_EQ(given.reason("same"), Why::tenant_quota);
}

TEST(QuotaTakenBack, AClaimThatTheQuotaNoLongerHoldsIsDropped) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("low").gpus(8).of(opportunistic)).waiting(job("urgent").gpus(4).of(production).by("small"));
    given.tenant("small", 2).leaves("low");
    EXPECT_EQ(given.phase("urgent"), "waiting");
    EXPECT_EQ(given.state().table<Claim>().size(), 0U);
}

TEST(QuotaTakenBack, InOneRestartForAllThatWait) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("train").gpus(1, 8).by("small")).waiting(job("urgent").count(3).of(production).by("small"));
    given.leaves("train");
    EXPECT_EQ(given.gpus("train"), 5);
    EXPECT_EQ(given.phase("urgent[2]"), "starting");
    EXPECT_EQ(given.times("resized"), 1U);
}

TEST(Silent, WorkOnASilentNodeIsNoVictimAndDoesNotGrow) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("wide").gpus(16).of(opportunistic));
    given.ask(NodeSilent{given.node_id("n2")});
    given.waiting(job("urgent").gpus(4).of(production));
    EXPECT_EQ(given.phase("wide"), "running") << "its lease is freed as a whole: nobody would gain";

    auto other = Given{}.node("n1", 8).node("n2", 8);
    other.running(job("rigid").gpus(4)).running(job("e").gpus(2, 16));
    other.ask(NodeSilent{other.node_id("n2")});
    other.ends("rigid").later(seconds{10});
    EXPECT_EQ(other.phase("e"), "running");
}

TEST(HostTakenBack, CpusAreAReasonToPreempt) {
    auto given = Given{}.node("n1", 8);
    given.running(job("hog").host(cpus(64)).of(opportunistic));
    given.waiting(job("urgent").host(cpus(8)).of(production));
    EXPECT_EQ(given.phase("hog"), "stopping");
    given.leaves("hog");
    EXPECT_EQ(given.phase("urgent"), "starting");
}

TEST(HostTakenBack, FromAndForWorkWithoutGpus) {
    auto given = Given{}.node("n1", 8, 0, cpus(8));
    given.running(job("host-only").gpus(0).host(cpus(8)).of(opportunistic));
    given.waiting(job("urgent").gpus(0).host(cpus(4)).of(production));
    EXPECT_EQ(given.phase("host-only"), "stopping");
    given.leaves("host-only").runs("urgent");
    EXPECT_EQ(given.phase("urgent"), "running");
    EXPECT_EQ(given.phase("host-only"), "waiting");
}

TEST(HostTakenBack, FromSharesAndForThem) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a").share(300).of(opportunistic)).running(job("b").share(300).of(opportunistic));
    given.waiting(job("urgent").of(production));
    EXPECT_EQ(given.phase("a"), "stopping");
    EXPECT_EQ(given.phase("b"), "stopping") << "a GPU is free when the last of its shares is";
    given.leaves("a");
    EXPECT_EQ(given.phase("urgent"), "waiting");
    given.leaves("b");
    EXPECT_EQ(given.phase("urgent"), "starting");
    auto other = Given{}.node("n1", 1);
    other.running(job("low").of(opportunistic)).waiting(job("part").share(200).of(production)).leaves("low");
    EXPECT_EQ(other.phase("part"), "starting");
    EXPECT_EQ(other.used_by("lab"), 200);
}

TEST(HostTakenBack, AGangSpreadsAsFarAsHostsHaveRoom) {
    auto given = Given{}.node("n1", 8, 0, cpus(64), gibibytes(40)).node("n2", 8, 0, cpus(64), gibibytes(40));
    given.running(job("low").gpus(16).of(opportunistic));
    given.waiting(job("wide").gpus(8).host({}, gibibytes(10)).of(production)).leaves("low");
    ASSERT_EQ(given.phase("wide"), "starting");
    EXPECT_EQ(given.attempt("wide").parts.size(), 2U);
}

TEST(Leaving, NobodyIsAVictimWhereEnoughEndsAnyway) {
    auto given = Given{}.node("n1", 8);
    given.running(job("gone").gpus(4).of(opportunistic)).running(job("stays").gpus(4).of(opportunistic));
    given.cancel("gone");
    given.waiting(job("urgent").gpus(4).of(production));
    EXPECT_EQ(given.phase("stays"), "running");
    EXPECT_EQ(given.reason("urgent"), Why::claim_pending);
    given.leaves("gone");
    EXPECT_EQ(given.phase("urgent"), "starting");
}

TEST(Leaving, ElasticWorkShrinksOnceForAllThatWait) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(1, 8)).waiting(job("single").count(4).of(production));
    given.leaves("e");
    for (const auto* name : {"single[0]", "single[1]", "single[2]", "single[3]"})
        EXPECT_EQ(given.phase(name), "starting") << name;
    EXPECT_EQ(given.gpus("e"), 4);
    EXPECT_EQ(given.times("resized"), 1U);
}

TEST(Place, TriesTheNextRackWhereTheBestFitHasFullHosts) {
    auto given =
        Given{}.node("a1", 8, 0, cpus(8)).node("a2", 8, 0, cpus(8)).node("b1", 8, 1).node("b2", 8, 1).node("b3", 8, 1);
    given.waiting(job("wide").gpus(16).host(cpus(4)).within(Level::rack));
    EXPECT_EQ(given.phase("wide"), "starting") << "rack 0 fits best by GPUs, but its hosts are too small";
}

TEST(Place, AFullHostDoesNotStopAGangFromSpreading) {
    auto given = Given{}.node("n1", 8, 0, cpus(16)).node("n2", 4, 0, cpus(16)).node("n3", 4, 0, cpus(16));
    given.running(job("host").gpus(0).host(cpus(16)).within(Level::node));
    given.waiting(job("gang").gpus(8).host(cpus(2)));
    EXPECT_EQ(given.phase("gang"), "starting");
}

TEST(Place, ADownFleetSaysSo) {
    auto given = Given{}.node("n1", 8);
    given.ask(Drain{given.node_id("n1"), true});
    given.waiting(job("a").gpus(4)).waiting(job("b").gpus(0).host(cpus(1)));
    EXPECT_EQ(given.reason("a"), Why::node_down);
    EXPECT_EQ(given.reason("b"), Why::node_down);
    given.ask(Drain{given.node_id("n1"), false});
    EXPECT_EQ(given.phase("a"), "starting");
}

TEST(ElasticStart, TakesTheLargestSizeThatHostsHaveRoomFor) {
    auto given = Given{}.node("n1", 8, 0, cpus(6)).node("n2", 8, 0, cpus(8));
    given.running(job("e").gpus(1, 16).host(cpus(2)));
    EXPECT_EQ(given.gpus("e"), 7);
    auto one = Given{}.node("n1", 8, 0, cpus(6)).node("n2", 8, 0, cpus(8));
    one.running(job("e").gpus(1, 16).host(cpus(2)).within(Level::node));
    EXPECT_EQ(one.gpus("e"), 4);
}

TEST(ElasticStart, IsNoLargerThanAPersonWantedIt) {
    auto given = Given{}.node("n1", 8);
    given.running(job("e").gpus(1, 8));
    given.resize("e", 3);
    given.leaves("e").runs("e").reboots("n1").later(seconds{1});
    ASSERT_EQ(given.phase("e"), "starting");
    EXPECT_EQ(given.gpus("e"), 3);
}

TEST(ElasticGrowth, TakesWhatTheHostHasRoomFor) {
    auto given = Given{}.node("n1", 8, 0, cpus(12));
    given.running(job("rigid").gpus(4).host(cpus(2))).running(job("e").gpus(2, 8).host(cpus(2)));
    ASSERT_EQ(given.gpus("e"), 2);
    given.running(job("host").gpus(0)).ends("rigid").later(seconds{3});
    given.leaves("e").runs("e");
    EXPECT_EQ(given.gpus("e"), 6) << "not all eight: twelve CPUs are there";
}

TEST(Reservation, EndsWhenSomethingElseBlocksItsJob) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8);
    given.running(job("a").gpus(6).limit(minutes{30})).waiting(job("gang").gpus(8).by("small"));
    ASSERT_EQ(given.state().table<Reservation>().size(), 1U);
    given.tenant("small", 4).pass();
    EXPECT_EQ(given.reason("gang"), Why::tenant_quota);
    EXPECT_EQ(given.state().table<Reservation>().size(), 0U);
}

TEST(Reservation, ThatWentBecauseItsJobStartedLetsThoseInWhoHadTriedBefore) {
    auto given = Given{}.node("n1", 8);
    given.tenant("a").tenant("b");
    given.running(job("first").gpus(4).by("a").limit(hours{1}));
    given.waiting(job("gang").gpus(8).by("a")).waiting(job("long").by("b").limit(hours{48}));
    EXPECT_EQ(given.phase("long"), "waiting");
    EXPECT_EQ(given.reason("long"), Why::reserved_for_other);
    given.node("n2", 8).pass();  // "b" holds less, so its job tries before the gang
    EXPECT_EQ(given.phase("gang"), "starting");
    EXPECT_EQ(given.phase("long"), "starting");
}

TEST(Reservation, ThatGoesForWhatStartedAfterItsJobHadTriedLetsThoseInWhoWereKeptOut) {
    auto given = Given{}.node("n1", 8);
    given.tenant("small", 8).tenant("big");
    given.running(job("a").gpus(4).by("big").limit(hours{1}));
    given.waiting(job("gang").gpus(8).by("small")).waiting(job("long").by("big").limit(hours{48}));
    ASSERT_EQ(given.reason("long"), Why::reserved_for_other);
    given.waiting(job("short").by("small").limit(minutes{5}));
    EXPECT_EQ(given.phase("short"), "starting");
    EXPECT_EQ(given.reason("gang"), Why::tenant_quota);
    EXPECT_EQ(given.phase("long"), "starting");
}

TEST(Reservation, OfAGangThatNeedsOneNodeKeepsSinglesOutOfThatNode) {
    auto given = Given{}.node("n1", 2).node("n2", 2);
    given.running(job("a").limit(minutes{30})).running(job("b").limit(minutes{40}));
    given.running(job("c").limit(minutes{50})).running(job("d").limit(minutes{60})).ends("a").ends("c");
    given.waiting(job("pair").gpus(2).within(Level::node));
    ASSERT_EQ(given.reason("pair"), Why::fragmented);
    given.waiting(job("long-1").limit(hours{5})).waiting(job("long-2").limit(hours{5}));
    EXPECT_EQ(given.phase("long-1"), "starting") << "one node is enough for the pair";
    EXPECT_EQ(given.reason("long-2"), Why::reserved_for_other);
    given.waiting(job("short").limit(minutes{5}));
    EXPECT_EQ(given.phase("short"), "starting") << "it ends before the pair can start";
}

TEST(Reservation, ElasticWorkGrowsIntoWhatIsSpareAndNoFurther) {
    for (const int spare : {0, 1}) {
        auto given = Given{}.node("n1", 8);
        given.running(job("long").gpus(4).limit(minutes{30})).running(job("next").gpus(2).limit(minutes{40}));
        given.running(job("e").gpus(2, 4).limit(hours{10})).waiting(job("gang").gpus(6 - spare));
        ASSERT_EQ(given.state().table<Reservation>().size(), 1U);
        given.ends("next").later(seconds{10});
        EXPECT_EQ(given.phase("e"), spare == 0 ? "running" : "stopping");
        if (spare > 0) given.leaves("e").runs("e").later(seconds{10});
        EXPECT_EQ(given.gpus("e"), 2 + spare);
        given.ends("long");
        EXPECT_EQ(given.phase("gang"), "starting");
    }
}

TEST(Reservation, ElasticWorkDoesNotGrowIntoADomainThatItKeeps) {
    auto given = Given{}.node("n1", 4).node("n2", 4);
    given.running(job("a").gpus(2).limit(minutes{30})).running(job("b").gpus(2).limit(minutes{40}));
    given.running(job("c").gpus(2).limit(hours{5})).running(job("e").gpus(2, 6).limit(hours{10}));
    given.waiting(job("four").gpus(4).within(Level::node));
    ASSERT_EQ(given.state().table<Reservation>().size(), 1U);
    given.ends("a").later(seconds{10});
    EXPECT_EQ(given.gpus("e"), 2);
    EXPECT_EQ(given.phase("e"), "running");
    given.ends("b");
    EXPECT_EQ(given.phase("four"), "starting");
}

TEST(Reservation, AJobThatNeedsALargeHostDoesNotStarveBehindSmallOnes) {
    auto given = Given{}.node("n1", 8, 0, cpus(8));
    given.running(job("a").host(cpus(4)).limit(minutes{30}));
    given.waiting(job("large").host(cpus(8)));
    ASSERT_EQ(given.reason("large"), Why::no_cpus);
    given.waiting(job("small").host(cpus(2)).limit(hours{2}));
    EXPECT_EQ(given.reason("small"), Why::reserved_for_other);
    given.ends("a");
    EXPECT_EQ(given.phase("large"), "starting");
}

TEST(Reservation, TheShortestOfAShapeMayStillGoBefore) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(6).limit(minutes{30})).waiting(job("gang").gpus(8));
    given.waiting(job("long").gpus(2).limit(hours{2})).waiting(job("longer").gpus(2).limit(hours{3}));
    given.waiting(job("short").gpus(2).limit(minutes{20}));
    EXPECT_EQ(given.phase("short"), "starting");
    EXPECT_EQ(given.reason("long"), Why::reserved_for_other);
}

TEST(FairShare, CountsWhatIsClaimed) {
    EXPECT_TRUE(goes_before(holdings_of({{}, 1000, 0, 0}), holdings_of({{}, 0, 0, 2000})));
}

/// Jobs that all differ, behind each other.
void many_shapes(Given& given, int count) {
    for (int i = 0; i < count; ++i)
        given.decide_now(job("s" + std::to_string(i)).gpus(8).host({}, mebibytes(1 + i)).submit);
}

/// `fits` would start, if a pass came to it.
Given one_behind_more_than_a_pass_tries() {
    Settings settings;
    settings.pass_steps = 8;
    auto given = Given{settings}.node("n1", 8);
    given.running(job("a").gpus(4));
    many_shapes(given, 40);
    given.waiting(job("fits").gpus(4).host({}, mebibytes(1)).limit(minutes{5}));
    return given;
}

TEST(Pass, ThatIsCutOffSaysSoAndComesToEveryoneInTheEnd) {
    auto given = one_behind_more_than_a_pass_tries();
    EXPECT_GT(given.times("blocked"), 0U);
    EXPECT_EQ(given.phase("fits"), "waiting");
    bool said = false;
    for (int i = 0; i < 40 && given.phase("fits") == "waiting"; ++i) {
        given.pass();
        said = said || recorded_reason(given.state(), given.row("fits")).why == Why::pass_bound;
    }
    EXPECT_EQ(given.phase("fits"), "starting");
    EXPECT_TRUE(said);
}

/// Passes that go on until they have come to everyone; how many there were.
int go_on(Given& given) {
    int passes = 0;
    for (; passes < 100 && given.state().counters().left > 0; ++passes) given.pass({false, true});
    return passes;
}

TEST(Pass, ThatIsCutOffGoesOnUntilItHasComeToEveryone) {
    auto given = one_behind_more_than_a_pass_tries();
    EXPECT_EQ(given.phase("fits"), "waiting");
    EXPECT_LT(go_on(given), 25) << "41 shapes, two a pass";
    EXPECT_EQ(given.phase("fits"), "starting");
    const auto started = given.times("started");
    given.pass().pass();
    EXPECT_EQ(given.times("started"), started);
}

TEST(Pass, ThatIsCutOffComesToWhoeverJoinsAShapeThatWasTried) {
    auto given = one_behind_more_than_a_pass_tries();
    go_on(given);
    given.ends("fits");
    const auto behind = [](const char* name) { return job(name).gpus(4).host({}, mebibytes(1)); };
    given.waiting(behind("long").limit(hours{48}));
    go_on(given);
    EXPECT_EQ(given.phase("long"), "waiting");
    given.waiting(behind("short").limit(minutes{5}));  // the same shape, and nothing else has changed
    go_on(given);
    EXPECT_EQ(given.phase("short"), "starting");
    EXPECT_EQ(given.phase("long"), "waiting");
}

TEST(Pass, ThatIsCutOffGoesOnThoughTheJobWhereItStoppedHasGone) {
    auto given = one_behind_more_than_a_pass_tries();
    for (int passes = 0; passes < 100 && given.state().counters().left > 0; ++passes) {
        const auto where = given.state().counters().cut_off;
        if (where != given.id("fits")) given.decide_now(Cancel{where});
        given.pass({false, false});
    }
    EXPECT_EQ(given.phase("fits"), "starting");
}

TEST(Pass, WithNothingNewTriesNobodyAgain) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(8));
    many_shapes(given, 100);
    given.pass().pass();
    const auto version = given.state().placement_version();
    const auto facts = given.facts();
    given.pass();
    EXPECT_EQ(given.facts(), facts);
    EXPECT_EQ(given.state().placement_version(), version);
    for (const auto& [key, shape] : given.state().shapes()) {
        if (shape.ready.empty()) continue;
        EXPECT_EQ(shape.refused.version, version);
    }
}

TEST(After, AnArrayAfterAnArrayIsDecidedInBoundedTime) {
    auto given = Given{}.node("n1", 8);
    constexpr int elements = 5'000;
    given.decide_now(job("before").count(elements).held().submit);
    given.decide_now(job("behind").count(elements).after("before").submit);
    auto& core = given.core();
    const auto first = given.state().counters().jobs - 2ULL * elements + 1;
    EXPECT_EQ(given.state().unmet(JobId{first + elements}), 1);
    EXPECT_EQ(given.state().open(JobId{first}), elements);
    // A look at every pair would be 25 million: this stays far below a second even in a debug build.
    for (std::uint64_t job = first; job < first + elements; ++job)
        (void)decide(core, given.now(), Hold{JobId{job}, false});
    (void)decide(core, given.now(), Cancel{JobId{first}});
    (void)decide(core, given.now(), Pass{});
    EXPECT_EQ(std::get<Finished>(core.state().at<Job>(JobId{first + elements}).phase).outcome, Outcome::cancelled);
    EXPECT_EQ(core.state().unmet(JobId{first + elements}), 1);
    EXPECT_EQ(core.state().failed(JobId{first}), 1);
}

TEST(After, AnArrayAfterAnArrayIsSaidInAFewBytes) {
    auto given = Given{}.node("n1", 8);
    given.decide_now(job("before").count(5'000).held().submit);
    given.decide_now(job("behind").count(5'000).after("before").submit);
    const auto& fact = std::get<Submitted>(given.log().back().fact);
    ASSERT_EQ(fact.spec.comes_after.size(), 1U);
    EXPECT_EQ(fact.spec.comes_after.front(), (Elements{JobId{1}, 5'000}));
    EXPECT_LT(encoded(fact).size(), 100U);
}

/// 100 million looks, if each that fails looked at each that comes after it.
TEST(After, AnArrayIsCancelledInBoundedTimeWithWhatComesAfterIt) {
    auto given = Given{}.node("n1", 8);
    constexpr std::uint64_t elements = 10'000;
    given.decide_now(job("before").count(elements).held().submit);
    given.decide_now(job("behind").count(elements).after("before").submit);
    auto& core = given.core();
    const auto rows = core.state().rows();
    const auto derived = core.state().derived_text();
    for (std::uint64_t job = 1; job <= elements; ++job) (void)decide(core, given.now(), Cancel{JobId{job}});
    (void)decide(core, given.now(), Pass{});
    EXPECT_EQ(core.batch().size(), 3 * elements);  // what ended is more than State keeps by half
    core.undo_to({});
    EXPECT_EQ(core.state().rows(), rows);
    EXPECT_EQ(core.state().derived_text(), derived);
}

/// As an older version wrote them: what a job comes after element by element, of those that were still in State.
TEST(After, IsUnderstoodAsOlderLogsSayIt) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").count(3)).runs("a[0]").runs("a[1]").runs("a[2]").waiting(job("b").count(2).held());
    State old = *State::from_rows(given.state().rows());
    Submitted fact{JobId{6}, 1, job("c").submit.spec, false};
    fact.spec.tenant = TenantId{1};
    fact.spec.after = {JobId{2}, JobId{3}, JobId{4}, JobId{2}, JobId{5}};
    evolve(old, given.now(), fact);
    EXPECT_EQ(old.unmet(JobId{6}), 2);
    EXPECT_EQ(old.first_unmet(fact.spec), JobId{2});
    EXPECT_EQ(old.dependents_of(JobId{1}), std::set<JobId>{JobId{6}});
    EXPECT_EQ(old.derived_text(), State::from_rows(old.rows())->derived_text());
    Core core{std::move(old)};
    (void)decide(core, given.now(), Cancel{JobId{5}});
    EXPECT_TRUE(std::holds_alternative<Finished>(core.state().at<Job>(JobId{6}).phase));
    core.undo_to({});
    EXPECT_EQ(core.state().unmet(JobId{6}), 2);
}

TEST(After, CountsWhatHasNotSucceededYet) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a")).running(job("b"));
    given.waiting(job("c").after("a").after("b").after("a"));
    EXPECT_EQ(given.state().unmet(given.id("c")), 2);
    given.ends("a");
    EXPECT_EQ(given.state().unmet(given.id("c")), 1);
    given.ends("b");
    EXPECT_EQ(given.phase("c"), "starting");
}

}  // namespace
}  // namespace stargate::test
