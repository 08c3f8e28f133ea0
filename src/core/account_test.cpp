#include "core/given.hpp"

// What a job has used and lost, over all of its attempts.
namespace stargate::test {
namespace {

constexpr std::int64_t gpu_seconds(std::int64_t count) { return count * 1000; }

const JobAccount& account(const Given& given, const std::string& name) { return given.row(name).account; }

void kill_at_deadline(Given& given, const std::string& name) {
    const auto one = given.attempt(name);
    for (const auto& part : one.parts) {
        given.decide_now(RanksEnded{one.id, part.node, one.generation, {ExitKind::killed, 9, ""}, true, -1, 0});
    }
    given.pass();
}

TEST(JobAccount, HasWhatAllAttemptsAndSizesHeld) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(2, 8)).later(seconds{10});
    EXPECT_EQ(account(given, "a").charged, 0) << "a lease that is held is not charged yet";
    given.resize("a", 4);
    given.leaves("a").runs("a");
    EXPECT_EQ(account(given, "a").charged, gpu_seconds(8 * 10));
    given.wait(seconds{5}).reboots("n1");
    EXPECT_EQ(account(given, "a").charged, gpu_seconds(8 * 10 + 4 * 5));
    given.later(seconds{1}).runs("a").wait(seconds{2}).ends("a");
    EXPECT_EQ(account(given, "a").charged, gpu_seconds(8 * 10 + 4 * 5 + 4 * 2));
    EXPECT_EQ(account(given, "a").recovered, 1);
    EXPECT_EQ(account(given, "a").preempted, 0);
    EXPECT_EQ(account(given, "a").charged, given.state().at<TenantRow>(*given.state().tenant_named("lab")).charged);
}

TEST(JobAccount, ChargesAShareItsPart) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a").share(250)).wait(seconds{8}).ends("a");
    EXPECT_EQ(account(given, "a").charged, gpu_seconds(2));
}

TEST(JobAccount, LosesWhatCameAfterTheLastStepWhenItsNodeDies) {
    auto given = Given{}.node("n1", 2);
    given.running(job("a").gpus(2)).wait(seconds{30});
    given.decide_now(Progress{given.attempt("a").id, 7});
    given.wait(seconds{4}).reboots("n1");
    EXPECT_EQ(account(given, "a").lost, gpu_seconds(2 * 4));
    given.later(seconds{1}).runs("a").wait(seconds{5}).reboots("n1");
    EXPECT_EQ(account(given, "a").lost, gpu_seconds(2 * 4 + 2 * 5)) << "the second attempt saved nothing";
    EXPECT_EQ(account(given, "a").recovered, 2);
}

TEST(JobAccount, LosesNothingWhereItLeftInTimeAndWhatIsUnsavedWhereItWasKilled) {
    for (const bool in_time : {true, false}) {
        auto given = Given{}.node("n1", 2);
        given.running(job("low").gpus(2).of(PriorityClass::opportunistic)).wait(seconds{30});
        given.waiting(job("high").gpus(2).of(PriorityClass::production)).wait(seconds{5});
        if (in_time) {
            given.leaves("low");
        } else {
            kill_at_deadline(given, "low");
        }
        EXPECT_EQ(given.phase("low"), "waiting");
        EXPECT_EQ(account(given, "low").preempted, 1);
        EXPECT_EQ(account(given, "low").recovered, 0);
        EXPECT_EQ(account(given, "low").charged, gpu_seconds(2 * 35));
        EXPECT_EQ(account(given, "low").lost, in_time ? 0 : gpu_seconds(2 * 35));
    }
}

TEST(JobAccount, LosesNothingWhenRanksStayThroughAResize) {
    auto given = Given{}.node("n1", 4);
    given.running(job("a").gpus(1, 4).in_place()).wait(seconds{10});
    given.resize("a", 2);
    given.wait(seconds{1}).leaves("a");
    EXPECT_EQ(account(given, "a").lost, 0);
    EXPECT_EQ(account(given, "a").saved, 0) << "and nothing was saved by it either";
    given.wait(seconds{10}).reboots("n1");
    EXPECT_EQ(account(given, "a").lost, account(given, "a").charged);
}

TEST(JobAccount, TellsHowItEnded) {
    const auto ended = [](int code) {
        auto given = Given{}.node("n1", 1);
        given.running(job("a")).wait(seconds{3}).ends("a", code);
        return account(given, "a");
    };
    EXPECT_EQ(ended(0).lost, 0) << "what succeeds has lost nothing, whatever it saved";
    EXPECT_EQ(ended(1).lost, gpu_seconds(3));
}

TEST(JobAccount, AGangWhoseRankFailedHasSavedNothingWithTheOthers) {
    auto given = Given{}.node("n1", 1).node("n2", 1);
    given.running(job("a").gpus(2)).wait(seconds{10});
    given.loses("n1");
    EXPECT_EQ(given.phase("a"), "stopping");
    given.wait(seconds{1}).leaves("a");
    EXPECT_EQ(given.phase("a"), "waiting");
    EXPECT_EQ(account(given, "a").lost, gpu_seconds(2 * 11));
}

TEST(JobAccount, GoesToTheHistoryWithItsJob) {
    Settings settings;
    settings.max_finished = 0;
    auto given = Given{settings}.node("n1", 1);
    given.running(job("a")).wait(seconds{3});
    const auto one = given.attempt("a");
    auto& core = given.core();
    (void)decide(core, given.now(), RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::exited, 0, ""}, false, -1, 0});
    (void)decide(core, given.now(), Pass{});
    ASSERT_EQ(core.retired().size(), 1U);
    EXPECT_EQ(core.retired()[0].job.account.charged, gpu_seconds(3));
}

TEST(JobAccount, OfAReplicaCountsWhatItHeldAndLosesNothing) {
    auto given = Given{}.node("n", 2);
    given.waiting(service("chat", {1, 1, 0, 8})).replicas_obey("chat").wait(seconds{10});
    given.reboots("n");
    const auto& row = given.state().at<Job>(given.id("chat"));
    EXPECT_EQ(row.account.charged, gpu_seconds(10));
    EXPECT_EQ(row.account.lost, 0);
    EXPECT_EQ(row.account.recovered, 1);
}

}  // namespace
}  // namespace stargate::test
