#include "core/given.hpp"

// What is changed about work that has been handed in.
namespace stargate::test {
namespace {

Edit edit(const Given& given, const std::string& name) { return {given.id(name)}; }

Why ask(Given& given, Edit in) { return given.ask(in); }

TEST(Edit, AnotherClassLetsAWaitingJobGoAhead) {
    auto given = Given{}.node("n1", 1);
    given.running(job("runs").of(PriorityClass::production)).waiting(job("first")).waiting(job("second"));
    auto in = edit(given, "second");
    in.priority = PriorityClass::production;
    EXPECT_EQ(ask(given, in), Why::none);
    given.ends("runs");
    EXPECT_EQ(given.phase("second"), "starting");
    EXPECT_EQ(given.phase("first"), "waiting");
}

TEST(Edit, AClassThatTheTenantMayNotUseIsRefused) {
    auto given = Given{}.node("n1", 1);
    given.tenant("lab", -1, 1, bit_of(PriorityClass::research)).waiting(job("a").held());
    auto in = edit(given, "a");
    in.priority = PriorityClass::production;
    EXPECT_EQ(ask(given, in), Why::class_not_allowed);
    EXPECT_EQ(given.state().spec_of(given.row("a")).priority, PriorityClass::research);
}

TEST(Edit, AShorterTimeLimitLetsItRunBeforeWhatIsReserved) {
    auto given = Given{}.node("n1", 2);
    given.running(job("runs").limit(hours{1})).waiting(job("wide").gpus(2)).waiting(job("long").limit(hours{2}));
    EXPECT_EQ(given.phase("long"), "waiting");
    auto in = edit(given, "long");
    in.time_limit = minutes{30};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.phase("long"), "starting");
}

TEST(Edit, ALongerTimeLimitOfARunningJobMovesWhatIsReserved) {
    auto given = Given{}.node("n1", 2);
    given.running(job("runs").limit(hours{1})).waiting(job("wide").gpus(2));
    const auto* reserved = given.state().find<Reservation>(given.id("wide"));
    ASSERT_NE(reserved, nullptr);
    const auto before = reserved->at;
    auto in = edit(given, "runs");
    in.time_limit = hours{3};
    EXPECT_EQ(ask(given, in), Why::none);
    reserved = given.state().find<Reservation>(given.id("wide"));
    ASSERT_NE(reserved, nullptr);
    EXPECT_EQ(reserved->at, before + hours{2});
    given.later(hours{2});
    EXPECT_EQ(given.phase("runs"), "running");
    given.later(hours{1});
    EXPECT_EQ(given.phase("runs"), "stopping");
}

TEST(Edit, ATimeLimitThatHasPassedEndsIt) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a").limit(hours{2})).later(hours{1});
    auto in = edit(given, "a");
    in.time_limit = minutes{30};
    EXPECT_EQ(ask(given, in), Why::none);
    given.later(seconds{0});
    EXPECT_EQ(given.phase("a"), "stopping");
}

TEST(Edit, OfTheClassOfARunningJobSaysWhoMayPreemptIt) {
    auto given = Given{}.node("n1", 1);
    given.running(job("low").of(PriorityClass::opportunistic));
    auto in = edit(given, "low");
    in.priority = PriorityClass::production;
    EXPECT_EQ(ask(given, in), Why::none);
    given.waiting(job("research"));
    EXPECT_EQ(given.phase("low"), "running");
    in.priority = PriorityClass::opportunistic;
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.phase("low"), "stopping");
}

TEST(Edit, OfSizeOfAWaitingJobIsLookedAtAnew) {
    auto given = Given{}.node("n1", 4);
    given.running(job("runs").gpus(2).of(PriorityClass::production)).waiting(job("a").gpus(4));
    EXPECT_EQ(given.phase("a"), "waiting");
    auto in = edit(given, "a");
    in.gpus = GpuRange{GpuCount{5}, GpuCount{5}};
    EXPECT_EQ(ask(given, in), Why::never_fits);
    in.gpus = GpuRange{GpuCount{1}, GpuCount{3}};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.phase("a"), "starting");
    EXPECT_EQ(given.gpus("a"), 2);
}

TEST(Edit, OfWhatHoldsAClaimTakesItBack) {
    auto given = Given{}.node("n1", 2);
    given.running(job("low").gpus(2).of(PriorityClass::opportunistic));
    given.waiting(job("high").gpus(2).of(PriorityClass::production));
    ASSERT_NE(given.state().find<Claim>(given.id("high")), nullptr);
    auto in = edit(given, "high");
    in.gpus = GpuRange{GpuCount{1}, GpuCount{1}};
    EXPECT_EQ(ask(given, in), Why::none);
    given.leaves("low");
    EXPECT_EQ(given.phase("high"), "starting");
    EXPECT_EQ(given.gpus("high"), 1);
}

TEST(Edit, TheRangeOfARunningElasticJobHoldsWhatItHas) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(1, 4));
    auto in = edit(given, "a");
    in.gpus = GpuRange{GpuCount{1}, GpuCount{3}};
    EXPECT_EQ(ask(given, in), Why::size_held);
    in.gpus = GpuRange{GpuCount{2}, GpuCount{6}};
    EXPECT_EQ(ask(given, in), Why::none);
    given.later(seconds{4}).later(seconds{4});
    ASSERT_EQ(given.phase("a"), "stopping") << "it grows into what it may have now";
    given.leaves("a").runs("a");
    EXPECT_EQ(given.gpus("a"), 6);
}

TEST(Edit, AJobThatIsNotElasticKeepsItsSizeWhileItRuns) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(2));
    auto in = edit(given, "a");
    in.gpus = GpuRange{GpuCount{1}, GpuCount{4}};
    EXPECT_EQ(ask(given, in), Why::not_elastic);
}

TEST(Edit, ASizeThatWasWantedIsBroughtIntoTheRange) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(1, 8));
    given.resize("a", 2);
    given.leaves("a").runs("a");
    auto in = edit(given, "a");
    in.gpus = GpuRange{GpuCount{1}, GpuCount{2}};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.row("a").want_gpus, 2);
    in.gpus = GpuRange{GpuCount{2}, GpuCount{8}};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.row("a").want_gpus, 2);
}

TEST(Edit, ChangesWhatItComesAfter) {
    auto given = Given{}.node("n1", 8);
    given.running(job("prepare")).running(job("other")).waiting(job("a").after("prepare"));
    auto in = edit(given, "a");
    in.after = std::vector<std::string>{"other"};
    EXPECT_EQ(ask(given, in), Why::none);
    given.ends("prepare", 1);
    EXPECT_EQ(given.phase("a"), "waiting") << "it does not come after that one any more";
    given.ends("other");
    EXPECT_EQ(given.phase("a"), "starting");
}

TEST(Edit, OfWhatWaitsForNothingAnyMoreStartsIt) {
    auto given = Given{}.node("n1", 8);
    given.running(job("prepare")).waiting(job("a").count(2).after("prepare"));
    auto in = edit(given, "a[1]");
    in.after = std::vector<std::string>{};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.phase("a[0]"), "starting") << "an array is changed as a whole";
    EXPECT_EQ(given.phase("a[1]"), "starting");
}

TEST(Edit, NobodyComesAfterItself) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").held()).waiting(job("b").after("a")).waiting(job("c").after("b"));
    auto in = edit(given, "a");
    for (const auto* name : {"a", "b", "c"}) {
        in.after = std::vector<std::string>{name};
        EXPECT_EQ(ask(given, in), Why::comes_after_itself) << name;
    }
    in.after = std::vector<std::string>{"d"};
    EXPECT_EQ(ask(given, in), Why::unknown_dependency);
}

TEST(Edit, MayComeAfterWhatWasSubmittedLater) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").held()).running(job("later"));
    auto in = edit(given, "a");
    in.after = std::vector<std::string>{"later"};
    EXPECT_EQ(ask(given, in), Why::none);
    given.hold("a", false);
    EXPECT_EQ(given.reason("a"), Why::dependency);
    given.ends("later");
    EXPECT_EQ(given.phase("a"), "starting");
}

TEST(Edit, WhatRunsComesAfterNothingNew) {
    auto given = Given{}.node("n1", 8);
    given.running(job("first")).running(job("a"));
    auto in = edit(given, "a");
    in.after = std::vector<std::string>{"first"};
    EXPECT_EQ(ask(given, in), Why::wrong_state);
}

TEST(Edit, OfServicesAndOfWhatIsOverIsRefused) {
    auto given = Given{}.node("n1", 8);
    given.waiting(service("chat", {1, 1, 0, 8})).running(job("a")).ends("a");
    EXPECT_EQ(ask(given, edit(given, "chat")), Why::not_editable);
    EXPECT_EQ(ask(given, edit(given, "a")), Why::wrong_state);
    EXPECT_EQ(given.ask(Edit{JobId{99}}), Why::not_found);
}

TEST(Edit, ThatChangesNothingLeavesNoFact) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a").limit(hours{1}));
    auto in = edit(given, "a");
    in.time_limit = hours{1};
    const auto before = given.facts();
    EXPECT_TRUE(given.decide_now(in).accepted());
    EXPECT_EQ(given.facts(), before);
}

TEST(Edit, OfAShareChangesItsTimeLimitAndNotItsSize) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a").share(500));
    auto in = edit(given, "a");
    in.gpus = GpuRange{GpuCount{1}, GpuCount{1}};
    EXPECT_EQ(ask(given, in), Why::not_elastic);
    in = edit(given, "a");
    in.time_limit = hours{2};
    EXPECT_EQ(ask(given, in), Why::none);
    EXPECT_EQ(given.attempt("a").limit, given.now() + hours{2});
}

}  // namespace
}  // namespace stargate::test
