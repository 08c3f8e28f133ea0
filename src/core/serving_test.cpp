#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/given.hpp"

// Services: replicas that serve, sleep and wake as demand asks, and the GPUs that training lends them meanwhile.
namespace stargate::test {
namespace {

/// Four GPUs, a training that may have one to three of them, and a service of one replica and up to two more.
Given lab_with_service() {
    Given lab;
    lab.node("n", 4);
    lab.running(job("train").gpus(1, 3));
    lab.waiting(service("chat", {1, 3, 2, 8}));
    return lab;
}

/// The same once the standbys have been born: each in its turn takes a GPU of the training and gives it back.
Given at_rest() {
    auto lab = lab_with_service();
    for (int round = 0; round < 8; ++round) {
        lab.replicas_obey("chat");
        if (lab.phase("train") == "stopping") lab.leaves("train");
        if (lab.phase("train") == "starting") lab.runs("train");
        lab.later(seconds{4});
    }
    return lab;
}

TEST(Service, HasItsLeastReplicaAndStandbysWhileTrainingHasTheRest) {
    const auto lab = at_rest();
    EXPECT_EQ(lab.replicas("chat"), "asleep 2 serving 1");
    EXPECT_EQ(lab.gpus("train"), 3);
    EXPECT_EQ(lab.times("lent"), 0U);  // a standby is born by a shrink that is no loan
    EXPECT_EQ(std::popcount(lab.state().at<Node>(lab.node_id("n")).seats), 2);
}

TEST(Service, ABurstWakesStandbysOnGpusThatTrainingLends) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true);
    EXPECT_EQ(lab.phase("train"), "stopping");
    EXPECT_EQ(lab.replicas("chat"), "asleep 2 serving 1");  // nobody computes before the GPU is free
    lab.leaves("train", 100);
    EXPECT_EQ(lab.gpus("train"), 1);
    EXPECT_EQ(lab.replicas("chat"), "serving 1 waking 2");
    EXPECT_EQ(lab.times("lent"), 2U);
    lab.replicas_obey("chat").runs("train");
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
    EXPECT_EQ(lab.row("train").step, 100);
}

TEST(Service, GivesBackAfterAQuietTimeAndTrainingGrows) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 0, 2);
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
    lab.later(seconds{3});
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
    lab.later(seconds{3});
    EXPECT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1");
    EXPECT_EQ(lab.loans("chat").size(), 2U);
    lab.replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "asleep 2 serving 1");
    EXPECT_EQ(lab.times("returned"), 2U);
    lab.later(seconds{4});
    lab.leaves("train").runs("train");
    EXPECT_EQ(lab.gpus("train"), 3);
}

TEST(Service, OneThatDoesNotFallAsleepInTimeIsEndedAndWhatItBorrowedGoesBack) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 0, 2).later(seconds{6});
    EXPECT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1");
    lab.later(minutes{2});  // past the time to drain, and to sleep
    EXPECT_EQ(lab.replicas("chat"), "ending 2 serving 1");
    std::vector<Attempt> all;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) { all.push_back(one); });
    for (const auto& one : all) {
        if (!one.ending || one.port == 0) continue;
        lab.decide_now(RanksEnded{one.id, one.parts.front().node, 1, {ExitKind::signalled, 9, ""}, true, -1, 0});
    }
    lab.pass();
    EXPECT_EQ(lab.times("returned"), 2U);
    EXPECT_TRUE(lab.loans("chat").empty());
}

/// The replicas of the service that serve.
std::vector<Attempt> serving_ones(const Given& lab) {
    std::vector<Attempt> found;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) {
        if (one.is_ready && !one.ending) found.push_back(one);
    });
    return found;
}

TEST(Service, TheFirstAnswerAfterEachWakeIsNotedOnce) {
    auto lab = at_rest();
    const auto hear = [&](const Attempt& one, std::uint32_t telling) {
        lab.decide_now(ReplicaAnswered{one.id, telling});
    };
    ASSERT_EQ(serving_ones(lab).size(), 1U);
    const auto first = serving_ones(lab).front();
    for (int i = 0; i < 3; ++i) hear(first, first.tellings);
    EXPECT_EQ(lab.times("answered"), 1U);
    lab.demand("chat", 20, 8, true).leaves("train");
    for (const auto& command : owed(lab.state())) {
        const auto* tell = std::get_if<TellReplica>(&command);
        if (tell != nullptr) lab.decide_now(ReplicaAnswered{tell->attempt, tell->telling});
    }
    EXPECT_EQ(lab.times("answered"), 1U) << "nobody was sent there yet";
    lab.replicas_obey("chat").runs("train");
    for (const auto& one : serving_ones(lab)) {
        for (std::uint32_t before = 0; before < one.tellings; ++before) hear(one, before);
    }
    EXPECT_EQ(lab.times("answered"), 1U) << "what is heard late of a time before its sleep is none";
    for (const auto& one : serving_ones(lab)) hear(one, one.tellings);
    EXPECT_EQ(lab.times("answered"), 3U);
    lab.demand("chat", 0, 2).later(seconds{6}).replicas_obey("chat").runs("train");
    lab.later(seconds{4}).leaves("train").runs("train").later(seconds{4});
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat");
    for (const auto& one : serving_ones(lab)) hear(one, one.tellings);
    EXPECT_EQ(lab.times("answered"), 5U) << "those that slept meanwhile, and not the one that did not";
}

TEST(Service, AResizeSaysWhoseLoanItIs) {
    auto lab = at_rest();
    const auto resizes = [&] {
        std::vector<Resized> found;
        for (const auto& entry : lab.log()) {
            if (const auto* resized = std::get_if<Resized>(&entry.fact)) found.push_back(*resized);
        }
        return found;
    };
    for (const auto& resized : resizes()) {
        EXPECT_FALSE(resized.lender) << "a standby is born by a shrink that is no loan";
        EXPECT_FALSE(resized.borrower);
    }
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    EXPECT_EQ(resizes().back().gpus, 1);
    EXPECT_EQ(resizes().back().lender, lab.id("train"));
    const auto borrower = resizes().back().borrower;
    EXPECT_EQ(lab.state().at<Job>(borrower).spec, lab.id("chat"));
    lab.demand("chat", 0, 2).later(seconds{6}).replicas_obey("chat").later(seconds{4}).leaves("train");
    EXPECT_EQ(resizes().back().gpus, 3);
    EXPECT_FALSE(resizes().back().borrower) << "it grows on what is spare, whoever had it";
    const auto before = resizes().size();
    lab.runs("train").later(minutes{1}).resize("train", 2);
    lab.leaves("train");
    ASSERT_EQ(resizes().size(), before + 1);
    EXPECT_FALSE(resizes().back().lender) << "somebody asked for it";
}

TEST(Service, ALateAnswerToWhatAReplicaWasToldBeforeIsNotTakenForSleep) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 0, 2).later(seconds{6});
    ASSERT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1");
    std::vector<Attempt> all;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) { all.push_back(one); });
    for (const auto& one : all) {
        for (std::uint32_t earlier = 0; earlier < one.tellings; ++earlier) {
            lab.decide_now(ReplicaAsleep{one.id, true, earlier});
        }
    }
    EXPECT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1") << "they may still compute";
    lab.replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "asleep 2 serving 1");
}

/// Two services of different tenants, one replica of each asleep on the node.
TEST(Service, EachWakesInItsOwnSeatWhoseverSleepsBesideIt) {
    Given lab;
    lab.node("n", 4).tenant("shop");
    lab.waiting(service("chat", {0, 1, 1, 8})).waiting(service("code", {0, 1, 1, 8}).by("shop"));
    for (int round = 0; round < 3; ++round) lab.replicas_obey("chat").replicas_obey("code").later(seconds{1});
    EXPECT_EQ(lab.replicas("chat"), "asleep 1");
    EXPECT_EQ(lab.replicas("code"), "asleep 1");
    const auto seat = [&](const std::string& name) { return lab.attempt(name).seat.front().gpus; };
    const std::map<std::string, GpuMask> seats{{"chat", seat("chat")}, {"code", seat("code")}};
    EXPECT_EQ(seats.at("chat") & seats.at("code"), GpuMask{0});
    for (const std::string name : {"chat", "code"}) {
        lab.demand(name, 1, 0).replicas_obey(name);
        EXPECT_EQ(lab.replicas(name), "serving 1");
        EXPECT_EQ(lab.attempt(name).parts.front().gpus, seats.at(name)) << name;
        lab.demand(name, 0, 0).later(seconds{6}).replicas_obey(name);
        EXPECT_EQ(lab.replicas(name), "asleep 1");
    }
}

TEST(Service, WhatNobodyHasLetGoOfIsNoLoan) {
    Given lab;
    lab.node("n", 4).waiting(service("chat", {0, 2, 0, 8}));
    lab.demand("chat", 16, 0).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "serving 2");
    EXPECT_EQ(lab.times("lent"), 0U) << "the GPUs were free";
}

TEST(Service, WhoWaitsTooLongThoughAllServeGetsOneMore) {
    auto lab = at_rest();
    lab.demand("chat", 0, 5, true);
    EXPECT_EQ(lab.state().at<Service>(lab.id("chat")).awake, 1);  // one that has just begun to serve may help yet
    lab.later(milliseconds{300});
    EXPECT_EQ(lab.state().at<Service>(lab.id("chat")).awake, 2);
    lab.later(seconds{1});
    EXPECT_EQ(lab.state().at<Service>(lab.id("chat")).awake, 2);  // the second does not serve yet
}

TEST(Service, UnknownDemandShrinksNothing) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 0, 2).later(seconds{3});  // one could carry that, and in two seconds two will go
    lab.decide_now(ServiceDemand{lab.id("chat"), false, 0, 0, false});
    lab.pass().later(minutes{5});
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
    lab.demand("chat", 0, 2).later(seconds{3});
    lab.decide_now(TakeOffice{2, lab.state().settings()});
    lab.pass().later(minutes{5});
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
}

TEST(Service, ShrinksNotWhileSomebodyWaitsTooLong) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 1, 2, true).later(minutes{5});
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
    lab.demand("chat", 0, 2).later(seconds{6});
    EXPECT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1");
}

TEST(Service, ShrinksOnlyToWhatCouldCarryTheLoad) {
    auto lab = at_rest();
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train");
    lab.demand("chat", 0, 8);  // fills one replica to the brim: two carry it with room to spare
    lab.later(seconds{1}).later(seconds{6}).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 2");
}

const Service& row_of(const Given& lab) { return lab.state().at<Service>(lab.id("chat")); }

/// What a load comes to for a service whose replicas have eight places.
std::pair<std::int32_t, std::int32_t> need_and_keep(std::int64_t queued, std::int64_t in_flight, std::int64_t wanted,
                                                    std::int64_t replica) {
    Given lab;
    lab.node("n", 1).waiting(service("chat", {0, 1, 0, 8}));
    lab.decide_now(ServiceDemand{lab.id("chat"), true, queued, in_flight, false, wanted, replica});
    return {row_of(lab).need, row_of(lab).keep};
}

TEST(ServiceTokens, WantedAsManyReplicasAsComputeThem) {
    using Both = std::pair<std::int32_t, std::int32_t>;
    EXPECT_EQ(need_and_keep(0, 16, 900, 0), (Both{2, 3})) << "places alone, where no pace is known";
    EXPECT_EQ(need_and_keep(0, 16, 900, 300), (Both{3, 4}));
    EXPECT_EQ(need_and_keep(0, 16, 901, 300), (Both{4, 4}));
    EXPECT_EQ(need_and_keep(0, 16, 300, 900), (Both{2, 3})) << "places are what there is too little of";
    EXPECT_EQ(need_and_keep(0, 16, 0, 300), (Both{2, 3}));
    EXPECT_EQ(need_and_keep(20, 4, 300, 300), (Both{3, 4})) << "who waits needs a place";
}

TEST(ServiceTokens, WantedWakeNobodyWhileHalfOfThePlacesAreFree) {
    using Both = std::pair<std::int32_t, std::int32_t>;
    EXPECT_EQ(need_and_keep(0, 4, 700, 300), (Both{1, 3}));
    EXPECT_EQ(need_and_keep(0, 5, 700, 300), (Both{2, 3}));
    EXPECT_EQ(need_and_keep(0, 9, 700, 300), (Both{3, 3}));
}

TEST(ServiceTokens, WantedKeepNobodyWithoutARequest) {
    using Both = std::pair<std::int32_t, std::int32_t>;
    EXPECT_EQ(need_and_keep(0, 1, 700, 300), (Both{1, 3}));
    EXPECT_EQ(need_and_keep(0, 0, 700, 300), (Both{0, 0}));
}

TEST(ServiceTokens, OfAnyNumberHaveAnAnswer) {
    const auto huge = std::numeric_limits<std::int64_t>::max();
    using Both = std::pair<std::int32_t, std::int32_t>;
    EXPECT_EQ(need_and_keep(huge, huge, huge, 1), (Both{max_replicas, max_replicas}));
    EXPECT_EQ(need_and_keep(0, 8, 1, huge), (Both{1, 2}));
    EXPECT_EQ(need_and_keep(0, 8, huge, huge), (Both{1, 2}));
    EXPECT_EQ(need_and_keep(0, 8, -huge, -huge), (Both{1, 2}));
    EXPECT_EQ(need_and_keep(-huge, -huge, huge, 300), (Both{0, 0}));
}

/// Six streams at two replicas are not many, but one replica does not compute what they ask for.
TEST(ServiceTokens, TakeNoReplicaAwayThatTheOthersCannotComputeFor) {
    auto lab = at_rest();
    lab.demand("chat", 8, 8).leaves("train").replicas_obey("chat").runs("train");
    lab.tokens("chat", 6, 500, 400).later(minutes{1});
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 2");
    lab.tokens("chat", 6, 330, 400).later(minutes{1});
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 2") << "one could, without room to spare";
    lab.tokens("chat", 6, 320, 400).later(seconds{4});
    lab.tokens("chat", 6, 330, 400).tokens("chat", 6, 320, 400).later(seconds{4});
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 2") << "the quiet time begins anew";
    lab.later(seconds{2});
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 falling_asleep 1 serving 1");
}

TEST(ServiceTokens, WakeAReplicaBeforeAnybodyWaits) {
    auto lab = at_rest();
    lab.tokens("chat", 6, 900, 400);
    EXPECT_EQ(row_of(lab).awake, 2);
    const auto is_scale = [](const LogEntry& entry) { return std::holds_alternative<Scaled>(entry.fact); };
    const auto last = std::find_if(lab.log().rbegin(), lab.log().rend(), is_scale);
    EXPECT_EQ(std::get<Scaled>(last->fact).why, ScaleCause::tokens);
    lab.demand("chat", 20, 6);
    EXPECT_EQ(row_of(lab).awake, 3);
    EXPECT_EQ(std::get<Scaled>(std::find_if(lab.log().rbegin(), lab.log().rend(), is_scale)->fact).why,
              ScaleCause::demand);
}

TEST(ServiceTokens, ThatAskForAsManyReplicasAsBeforeAreNoFact) {
    auto lab = at_rest();
    lab.tokens("chat", 6, 500, 400);
    const auto facts = lab.facts();
    lab.tokens("chat", 6, 490, 410).tokens("chat", 7, 450, 400);
    EXPECT_EQ(lab.facts(), facts);
    const auto before = lab.state().rows();
    lab.tokens("chat", 6, 320, 400);
    EXPECT_NE(lab.state().rows(), before);
}

TEST(Service, AReplicaThatEndsIsStartedAnewAfterABackOff) {
    auto lab = at_rest();
    lab.ends("chat", 1);
    EXPECT_EQ(lab.phase("chat"), "waiting");
    EXPECT_EQ(lab.reason("chat"), Why::backing_off);
    EXPECT_EQ(lab.state().at<Service>(lab.id("chat")).awake, 1);
    EXPECT_EQ(lab.phase("train"), "stopping");  // a standby takes its place
    lab.leaves("train").replicas_obey("chat").runs("train");
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 1");
    lab.later(seconds{2}).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "asleep 2 serving 1");
    EXPECT_EQ(lab.times("ended"), 0U);
}

TEST(Service, AReplicaThatDoesNotAnswerIsEnded) {
    Given lab;
    lab.node("n", 2).waiting(service("chat", {1, 1, 0, 8})).runs("chat");
    EXPECT_EQ(lab.replicas("chat"), "awake 1");
    lab.later(minutes{11});
    EXPECT_EQ(lab.phase("chat"), "stopping");
    lab.leaves("chat");
    EXPECT_EQ(lab.reason("chat"), Why::backing_off);
}

/// One that serves, and the sentence by which it fails.
Given failed_with(const std::string& detail) {
    Given lab;
    lab.node("n", 2).waiting(service("chat", {1, 1, 0, 8})).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "serving 1");
    lab.decide_now(ReplicaFailed{lab.attempt("chat").id, 0, detail});
    lab.pass();
    return lab;
}

TEST(Service, AReplicaThatIsSeenToFailIsStartedAnewElsewhereAndItsServiceSaysWhy) {
    auto lab = failed_with("sshd listens on port 21001 already");
    const auto port = lab.attempt("chat").port;
    EXPECT_EQ(lab.replicas("chat"), "ending 1");
    lab.leaves("chat");
    EXPECT_EQ(lab.reason("chat"), Why::backing_off);
    const auto troubles = lab.state().at<Service>(lab.id("chat")).troubles;
    ASSERT_EQ(troubles.size(), 1U);
    EXPECT_EQ(troubles.front(), (Trouble{lab.id("chat"), "sshd listens on port 21001 already"}));
    lab.later(seconds{2}).runs("chat");
    EXPECT_NE(lab.attempt("chat").port, port);
    EXPECT_EQ(lab.state().at<Service>(lab.id("chat")).troubles.size(), 1U);  // not ready yet
    lab.replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "serving 1");
    EXPECT_TRUE(lab.state().at<Service>(lab.id("chat")).troubles.empty());
}

TEST(Service, WhatIsSeenOfAReplicaBeforeItWasToldSomethingElseMeansNothing) {
    Given lab;
    lab.node("n", 2).waiting(service("chat", {1, 2, 1, 8})).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 1");
    std::vector<Attempt> all;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) { all.push_back(one); });
    for (const auto& one : all) {
        if (one.presence == Presence::asleep) lab.decide_now(ReplicaFailed{one.id, 0, "it does not answer"});
    }
    lab.pass();
    EXPECT_EQ(lab.replicas("chat"), "asleep 1 serving 1");
    EXPECT_EQ(lab.times("failing"), 0U);
}

TEST(Service, WhatIsCancelledHasNoTroubleLeft) {
    auto lab = failed_with("it does not answer");
    lab.leaves("chat");
    lab.cancel("chat");
    EXPECT_TRUE(lab.state().at<Service>(lab.id("chat")).troubles.empty());
}

TEST(Service, ASecondOneOfTheSameNameIsRefusedUntilTheFirstIsOver) {
    Given lab;
    lab.node("n", 4).waiting(service("chat", {1, 2, 0, 8})).replicas_obey("chat");
    const auto first = lab.id("chat");
    const auto answer = lab.decide_now(service("chat", {1, 1, 0, 8}).submit);
    EXPECT_EQ(answer.why.why, Why::name_taken);
    EXPECT_EQ(answer.why.about, first.value);
    for (std::uint64_t task = 0; task < 2; ++task) lab.decide_now(Cancel{JobId{first.value + task}});
    EXPECT_EQ(lab.submit(service("chat", {1, 1, 0, 8})), Why::none);  // what is left of the first is told to end
}

TEST(Service, WhereNothingMayStartItsPlansAreMadeAnewLater) {
    auto lab = at_rest();
    const auto row = [&] { return lab.state().at<Service>(lab.id("chat")); };
    lab.demand("chat", 0, 5, true);
    EXPECT_NE(row().help_at, Instant{});
    lab.wait(seconds{1}).decide_now(Pass{true});
    EXPECT_EQ(row().help_at, Instant{});
    EXPECT_EQ(row().awake, 1);
    lab.pass();
    EXPECT_NE(row().help_at, Instant{});
    lab.demand("chat", 20, 8, true).leaves("train").replicas_obey("chat").runs("train").demand("chat", 0, 2);
    EXPECT_NE(row().shrink_at, Instant{});
    lab.wait(minutes{1}).decide_now(Pass{true});
    EXPECT_EQ(row().shrink_at, Instant{});
    EXPECT_EQ(lab.replicas("chat"), "serving 3");
}

TEST(Service, WhoCannotSleepHasNoStandby) {
    Given lab;
    lab.node("n", 3).waiting(service("chat", {1, 3, 2, 8}));
    lab.runs("chat");
    for (const auto& command : owed(lab.state())) {
        if (const auto* run = std::get_if<RunRanks>(&command)) {
            lab.decide_now(RanksRunning{run->attempt, run->node, run->generation});
        }
    }
    lab.pass();
    std::vector<AttemptId> all;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) { all.push_back(one.id); });
    for (const auto id : all) lab.decide_now(ReplicaReady{id});
    lab.pass();
    EXPECT_EQ(lab.replicas("chat"), "falling_asleep 2 serving 1");
    for (const auto id : all) lab.decide_now(ReplicaAsleep{id, false, 1});
    lab.pass();
    EXPECT_EQ(lab.replicas("chat"), "ending 2 serving 1");
}

TEST(Service, ScalesToZeroAndBack) {
    Given lab;
    lab.node("n", 2).waiting(service("chat", {0, 1, 0, 8}));
    EXPECT_EQ(lab.replicas("chat"), "");
    EXPECT_EQ(lab.reason("chat"), Why::not_needed);
    lab.demand("chat", 1, 0).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "serving 1");
    lab.demand("chat", 0, 0).later(seconds{6}).replicas_obey("chat");
    EXPECT_EQ(lab.replicas("chat"), "ending 1");
    lab.leaves("chat");
    EXPECT_EQ(lab.replicas("chat"), "");
    EXPECT_EQ(lab.phase("chat"), "waiting");
}

TEST(Service, CancelEndsAllOfIt) {
    auto lab = at_rest();
    const auto first = lab.id("chat").value;
    for (std::uint64_t task = 0; task < 3; ++task) lab.decide_now(Cancel{JobId{first + task}});
    lab.pass();
    EXPECT_EQ(lab.replicas("chat"), "ending 3");
    std::vector<Attempt> all;
    lab.state().table<Attempt>().for_each([&](const Attempt& one) { all.push_back(one); });
    int draining = 0;
    for (const auto& one : all) {
        if (one.port == 0) continue;
        draining += std::get<EndRanks>(owed(lab.state(), one).at(0)).drains ? 1 : 0;
        lab.decide_now(RanksEnded{one.id, one.parts.front().node, 1, {ExitKind::exited, 0, ""}, true, -1, 0});
    }
    EXPECT_EQ(draining, 1) << "who sleeps has no request";
    lab.pass().demand("chat", 9, 9);
    EXPECT_EQ(lab.phase("chat"), "cancelled");
    EXPECT_EQ(lab.state().at<Node>(lab.node_id("n")).seats, GpuMask{0});
}

TEST(ExternalService, IsRoutedAtOnceAndHoldsNothing) {
    Given lab;
    lab.waiting(external("gpt"));  // there is not even a node
    EXPECT_EQ(lab.phase("gpt"), "running");
    EXPECT_EQ(lab.state().table<Attempt>().size(), 0U);
    EXPECT_TRUE(owed(lab.state()).empty());
    EXPECT_EQ(lab.state().waiting(), 0);
}

TEST(ExternalService, DemandAndTimeChangeNothingAboutIt) {
    Given lab;
    lab.node("n", 4).waiting(external("gpt"));
    const auto facts = lab.facts();
    lab.demand("gpt", 500, 9, true).later(minutes{5}).demand("gpt", 0, 0).later(hours{2});
    EXPECT_EQ(lab.facts(), facts);
    EXPECT_TRUE(lab.state().deadlines().empty());
}

TEST(ExternalService, WhoMayUseNoClassAndHasNoQuotaMayHaveIt) {
    Given lab;
    lab.tenant("poor", 0, 1, 0).waiting(external("gpt").by("poor"));
    EXPECT_EQ(lab.phase("gpt"), "running");
}

TEST(ExternalService, CancelEndsItAndFreesItsName) {
    Given lab;
    lab.node("n", 4).waiting(external("gpt"));
    EXPECT_EQ(lab.submit(external("gpt")), Why::name_taken);
    EXPECT_EQ(lab.submit(service("gpt", {1, 1})), Why::name_taken);
    EXPECT_EQ(lab.cancel("gpt"), Why::none);
    EXPECT_EQ(lab.phase("gpt"), "cancelled");
    EXPECT_EQ(lab.cancel("gpt"), Why::wrong_state);
    EXPECT_EQ(lab.submit(external("gpt")), Why::none);
}

TEST(ExternalService, AHoldTakesItOutUntilItIsReleased) {
    Given lab;
    lab.waiting(external("gpt").held());
    EXPECT_EQ(lab.phase("gpt"), "waiting");
    EXPECT_EQ(lab.reason("gpt"), Why::held);
    EXPECT_EQ(explain(lab.state(), lab.now(), lab.id("gpt")), (std::vector<Refusal>{{Why::held, 0, 0, 0}}));
    EXPECT_EQ(lab.hold("gpt", false), Why::none);
    EXPECT_EQ(lab.phase("gpt"), "running");
    EXPECT_EQ(lab.hold("gpt", false), Why::wrong_state);
    EXPECT_EQ(lab.hold("gpt"), Why::none);
    EXPECT_EQ(lab.phase("gpt"), "waiting");
    EXPECT_EQ(lab.state().waiting(), 1);
}

TEST(ExternalService, AnotherTermKeepsIt) {
    Given lab;
    lab.waiting(external("gpt"));
    lab.decide_now(TakeOffice{2, lab.state().settings()});
    EXPECT_EQ(lab.pass().phase("gpt"), "running");
}

TEST(ExternalService, WhatCannotBeIsRefused) {
    Given lab;
    lab.node("n", 4);
    EXPECT_EQ(lab.submit(external("gpt").gpus(1)), Why::bad_service);
    EXPECT_EQ(lab.submit(external("gpt").count(2)), Why::bad_service);
    EXPECT_EQ(lab.submit(external("gpt", std::vector<Endpoint>(max_endpoints + 1, {"a", 1}))), Why::bad_service);
    for (int i = 0; i < max_external_services; ++i) lab.decide_now(external("s" + std::to_string(i)).submit);
    EXPECT_EQ(lab.submit(external("gpt")), Why::too_many_services);
}

TEST(Service, WhatCannotBeIsRefused) {
    Given lab;
    lab.node("n", 4);
    EXPECT_EQ(lab.submit(service("chat", {3, 2})), Why::bad_service);
    EXPECT_EQ(lab.submit(service("chat", {1, 2, 0, 0})), Why::bad_service);
    EXPECT_EQ(lab.submit(service("chat", {1, 2}).gpus(1, 2)), Why::bad_service);
    EXPECT_EQ(lab.submit(service("chat", {1, 2}).count(3)), Why::bad_service);
    EXPECT_EQ(lab.submit(service("chat", {1, 2}).gpus(5)), Why::never_fits);
}

}  // namespace
}  // namespace stargate::test
