#include "core/given.hpp"

// How jobs end that were not left to end by themselves.
namespace stargate::test {
namespace {

TEST(TimeLimit, WarnsThenFails) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").limit(minutes{10}));
    given.later(minutes{10});
    EXPECT_EQ(given.phase("a"), "stopping");
    EXPECT_EQ(given.attempt("a").ending->deadline, given.now() + seconds{5});
    given.leaves("a");
    EXPECT_EQ(given.phase("a"), "failed");
}

TEST(TimeLimit, AJobThatEndedByItselfBeforeItWasToldKeepsItsOwnEnd) {
    for (const int code : {0, 3}) {
        auto given = Given{}.node("n1", 8);
        given.running(job("a").limit(minutes{10})).waiting(job("next").after("a"));
        given.later(minutes{10});
        given.ends("a", code);  // its report and the time limit crossed
        EXPECT_EQ(given.phase("a"), code == 0 ? "succeeded" : "failed");
        EXPECT_EQ(std::get<Finished>(given.row("a").phase).exit_status, code);
        EXPECT_EQ(given.phase("next"), code == 0 ? "starting" : "cancelled");
    }
}

TEST(Retry, BacksOffTwiceAsLongEachTimeAndGivesUp) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").retries(2)).reboots("n1");
    EXPECT_EQ(given.reason("a"), Why::backing_off);
    given.later(milliseconds{999});
    EXPECT_EQ(given.phase("a"), "waiting");
    given.later(milliseconds{1}).runs("a").reboots("n1").later(milliseconds{1999});
    EXPECT_EQ(given.phase("a"), "waiting");
    given.later(milliseconds{1}).runs("a").reboots("n1");
    EXPECT_EQ(given.phase("a"), "failed");
}

TEST(Retry, AUsersOwnErrorIsNotRetried) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a"));
    const auto one = given.attempt("a");
    given.decide_now(
        RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::could_not_start, 127, "no such file"}, false, -1, 0});
    EXPECT_EQ(given.phase("a"), "failed");
    EXPECT_EQ(std::get<Finished>(given.row("a").phase).exit_status, 127);
}

TEST(Retry, ARefusedSandboxIsOursToMend) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a"));
    const auto one = given.attempt("a");
    given.decide_now(RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::refused, 0, "no sandbox"}, false, -1, 0});
    EXPECT_EQ(given.phase("a"), "waiting");
    EXPECT_EQ(given.row("a").failures, 1);
}

TEST(Retry, AJobThatGivesUpHasAllItsFailures) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("a").retries(1));
    for (int failure = 1; failure <= 2; ++failure) {
        given.later(minutes{1});
        const auto one = given.attempt("a");
        given.decide_now(RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::refused, 0, "no sandbox"}, false, -1, 0});
        EXPECT_EQ(given.row("a").failures, failure);
    }
    EXPECT_EQ(given.phase("a"), "failed");
}

TEST(Cancel, WaitingAndRunning) {
    auto given = Given{}.node("n1", 1);
    given.running(job("a")).waiting(job("b"));
    EXPECT_EQ(given.cancel("b"), Why::none);
    EXPECT_EQ(given.phase("b"), "cancelled");
    EXPECT_EQ(given.cancel("a"), Why::none);
    EXPECT_EQ(given.phase("a"), "stopping");
    given.leaves("a");
    EXPECT_EQ(given.phase("a"), "cancelled");
    EXPECT_EQ(given.cancel("a"), Why::wrong_state);
    EXPECT_EQ(given.ask(Cancel{JobId{99}}), Why::not_found);
}

TEST(Cancel, TellsWhetherTheGraceWasEnough) {
    for (const auto kind : {ExitKind::exited, ExitKind::killed}) {
        auto given = Given{}.node("n1", 2);
        given.running(job("told").limit(hours{2})).running(job("late").limit(hours{1}));
        given.cancel("told");
        given.later(hours{1});
        for (const auto* name : {"told", "late"}) {
            const auto one = given.attempt(name);
            given.decide_now(RanksEnded{one.id, one.parts[0].node, 1, {kind, 0, ""}, true, -1, 0});
            const auto& finished = std::get<Finished>(given.row(name).phase);
            EXPECT_EQ(finished.exit_status, kind == ExitKind::killed ? 137 : 143) << name;
        }
        EXPECT_EQ(given.phase("told"), "cancelled");
        EXPECT_EQ(given.phase("late"), "failed");
    }
}

TEST(Cancel, WhereItRunsIsACancelToo) {
    auto given = Given{}.node("n1", 2).node("n2", 2);
    given.running(job("a").gpus(4)).waiting(job("next").after("a"));
    const auto one = given.attempt("a");
    given.decide_now(RanksEnded{one.id, one.parts[0].node, 1, {ExitKind::exited, 0, ""}, true, 7, 0, true});
    EXPECT_EQ(given.attempt("a").ending->cause, EndCause::cancel) << "the other node is told as well";
    given.leaves("a");
    EXPECT_EQ(given.phase("a"), "cancelled");
    EXPECT_EQ(given.row("a").step, 7);
    EXPECT_EQ(given.phase("next"), "cancelled");
}

TEST(Cancel, GivesNoMoreTimeThanAnEarlierWarning) {
    auto given = Given{}.node("n1", 8);
    given.running(job("a").gpus(2, 8));
    given.resize("a", 2);
    const auto deadline = given.attempt("a").ending->deadline;
    given.later(seconds{3});
    given.cancel("a");
    EXPECT_EQ(given.attempt("a").ending->deadline, deadline);
    EXPECT_TRUE(given.attempt("a").ending->next.empty());
}

}  // namespace
}  // namespace stargate::test
