#include "engine/local/testing.hpp"

#include <boost/describe/enum_to_string.hpp>

// Warnings, deadlines and resizes.
namespace stargate::local::testing {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds long_grace{60'000};

/// Says "ready", and on SIGTERM writes a step and leaves.
constexpr const char* checkpoints_on_warning =
    "trap 'echo $RANK warned; cat $STARGATE_NOTICE; echo 17 > $STARGATE_PROGRESS; exit 0' TERM\n"
    "echo $RANK of $WORLD_SIZE generation $STARGATE_GENERATION ready\n"
    "while :; do sleep 0.02; done";

class EndTest : public LocalEngineTest, public ::testing::WithParamInterface<Sandbox> {
protected:
    [[nodiscard]] Launch job(const std::string& script) const {
        auto launch = shell_job(script);
        launch.sandbox = GetParam();
        return launch;
    }
    [[nodiscard]] bool all_ready(AttemptId attempt, int ranks, std::uint32_t generation) const {
        for (int rank = 0; rank < ranks; ++rank) {
            if (!prints(attempt, std::to_string(rank) + " of " + std::to_string(ranks) + " generation " +
                                     std::to_string(generation) + " ready")) {
                return false;
            }
        }
        return true;
    }
};
INSTANTIATE_TEST_SUITE_P(, EndTest, ::testing::Values(Sandbox::none, Sandbox::standard, Sandbox::strict),
                         [](const auto& about) {
                             return std::string{boost::describe::enum_to_string(about.param, "?")};
                         });

TEST_P(EndTest, EveryRankIsWarnedReadsTheNoticeAndAcknowledgesByEnding) {
    const auto attempt = start(job(checkpoints_on_warning), 2);
    ASSERT_TRUE(all_ready(attempt, 2, 1));
    end(attempt, long_grace, 1, 0, 0, EndCause::preempt);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->warned);
    EXPECT_EQ(ended->step, 17);
    EXPECT_EQ(ended->exit, (Exit{ExitKind::exited, 0, ""}));
    const auto text = output(attempt);
    EXPECT_NE(text.find("0 warned"), std::string::npos) << text;
    EXPECT_NE(text.find("1 warned"), std::string::npos) << text;
    EXPECT_NE(text.find(R"({"cause":"preempt","deadline_ms":)"), std::string::npos) << text;
    EXPECT_NE(text.find(R"("gpus":0,"generation":1})"), std::string::npos) << text;
}

TEST_P(EndTest, WhatIgnoresTheWarningIsKilledAtTheDeadline) {
    const auto attempt =
        start(job("trap '' TERM; (trap '' TERM; exec 3>alive; flock 3; sleep 1000) &\n"
                  "until [ -e alive ] && ! flock -n alive true; do sleep 0.01; done; echo ready; wait"));
    ASSERT_TRUE(prints(attempt, "ready"));
    end(attempt, milliseconds{50});
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit, (Exit{ExitKind::killed, 9, "did not end before the deadline"}));
    EXPECT_EQ(output_of(job("flock -n alive echo free")), "free\n");
}

TEST_P(EndTest, AnEndAheadOfTheFirstRankIsObeyed) {
    const auto attempt = start(job("sleep 1000"));
    end(attempt, long_grace);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->warned);
    EXPECT_EQ(ended->exit.kind, ExitKind::signalled);
}

TEST_P(EndTest, TheShellsTrainingGetsItsTimeThoughTheShellIsGone) {
    const auto attempt =
        start(job("sh -c 'trap \"sleep 0.2; echo saved; exit\" TERM; echo ready; while :; do sleep 0.02;"
                  " done'; echo never"));
    ASSERT_TRUE(prints(attempt, "ready"));
    end(attempt, long_grace);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_NE(output(attempt).find("saved\n"), std::string::npos) << output(attempt);
    EXPECT_EQ(output(attempt).find("never"), std::string::npos);
}

TEST_P(EndTest, ResizesByRestartFromFourToTwoAndBack) {
    const auto attempt = start(job(checkpoints_on_warning), 4);
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    std::uint32_t generation = 1;
    for (const int next : {2, 4}) {
        ASSERT_TRUE(all_ready(attempt, generation == 1 ? 4 : 2, generation));
        end(attempt, long_grace, generation, next, 0, EndCause::resize);
        const auto ended = reports_.next<RanksEnded>(attempt);
        ASSERT_TRUE(ended);
        EXPECT_EQ(ended->generation, generation);
        EXPECT_TRUE(ended->warned);
        engine_->carry_out(command_for(attempt, next, ++generation));
        const auto running = reports_.next<RanksRunning>(attempt);
        ASSERT_TRUE(running);
        EXPECT_EQ(running->generation, generation);
    }
    ASSERT_TRUE(all_ready(attempt, 4, 3));
    end(attempt, long_grace, 3);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 3U);
}

TEST_P(EndTest, EndsBetweenTwoGenerationsWhenNoneFollowsAfterAll) {
    const auto attempt = start(job(checkpoints_on_warning), 2);
    ASSERT_TRUE(all_ready(attempt, 2, 1));
    end(attempt, long_grace, 1, 1);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    end(attempt, long_grace, 1, 0);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_TRUE(soon([&] { return std::filesystem::exists(folder_of(attempt) / "exit"); }));
}

// After `Resized`, State speaks of the next generation only, though its RunRanks may never have come here.
TEST_P(EndTest, AnEndOfTheNextGenerationEndsTheAttemptBetweenTwo) {
    const auto attempt = start(job(checkpoints_on_warning), 2);
    ASSERT_TRUE(all_ready(attempt, 2, 1));
    end(attempt, long_grace, 1, 1, 0, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    end(attempt, long_grace, 2);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 2U);
    EXPECT_TRUE(ended->warned);
    EXPECT_TRUE(soon([&] { return std::filesystem::exists(folder_of(attempt) / "exit"); }));
    end(attempt, long_grace, 3);  // told of a generation later still, the end that there was is that one's
    const auto again = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->generation, 3U);
}

TEST_P(EndTest, AResizeOfTheNextGenerationPassesItOver) {
    const auto attempt = start(job(checkpoints_on_warning), 2);
    ASSERT_TRUE(all_ready(attempt, 2, 1));
    end(attempt, long_grace, 1, 1, 0, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    end(attempt, long_grace, 2, 3, 0, EndCause::resize);
    const auto passed_over = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(passed_over);
    EXPECT_EQ(passed_over->generation, 2U);
    engine_->carry_out(command_for(attempt, 3, 3));
    EXPECT_TRUE(all_ready(attempt, 3, 3));
}

TEST_P(EndTest, ForgottenBetweenTwoGenerationsTheShimLeaves) {
    const auto attempt = start(job(checkpoints_on_warning), 2);
    ASSERT_TRUE(all_ready(attempt, 2, 1));
    end(attempt, long_grace, 1, 1, 0, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    engine_->carry_out(Forget{attempt, here});  // cancelled meanwhile: State had nothing left to end
    EXPECT_TRUE(soon([&] { return std::filesystem::is_empty(state_ / "attempts"); }));
}

TEST_P(EndTest, ThoseThatStayedInPlaceAreEndedByTheNameOfTheirNextGeneration) {
    auto launch = job(checkpoints_on_warning);
    launch.resize_in_place = true;
    const auto attempt = start(launch, 4);
    ASSERT_TRUE(all_ready(attempt, 4, 1));
    end(attempt, long_grace, 1, 3, 3, EndCause::resize);
    auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->left, 3);
    end(attempt, long_grace, 2, 1, 1, EndCause::preempt);  // fewer still
    ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 2U);
    EXPECT_EQ(ended->left, 1);
    EXPECT_EQ(output(attempt).find("0 warned"), std::string::npos);
    end(attempt, long_grace, 3);  // and none
    ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 3U);
    EXPECT_EQ(ended->left, 0);
    EXPECT_TRUE(ended->warned);
    EXPECT_NE(output(attempt).find("0 warned"), std::string::npos);
}

TEST_P(EndTest, ResizesInPlaceWhileTheOthersRunOn) {
    auto launch = job(checkpoints_on_warning);
    launch.resize_in_place = true;
    const auto attempt = start(launch, 4);
    ASSERT_TRUE(all_ready(attempt, 4, 1));
    end(attempt, long_grace, 1, 2, 2, EndCause::resize);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->warned);
    EXPECT_EQ(ended->left, 2);
    const auto text = output(attempt);
    EXPECT_NE(text.find("2 warned"), std::string::npos);
    EXPECT_NE(text.find("3 warned"), std::string::npos);
    EXPECT_EQ(text.find("0 warned"), std::string::npos);

    engine_->carry_out(command_for(attempt, 2, 2));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    auto running = reports_.next<RanksRunning>(attempt);
    ASSERT_TRUE(running);
    EXPECT_EQ(running->generation, 2U);
    // Grows again: nobody leaves, one joins.
    end(attempt, long_grace, 2, 3, 2, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    engine_->carry_out(command_for(attempt, 3, 3));
    running = reports_.next<RanksRunning>(attempt);
    ASSERT_TRUE(running);
    EXPECT_EQ(running->generation, 3U);
    ASSERT_TRUE(prints(attempt, "2 of 3 generation 3 ready"));
    EXPECT_EQ(output(attempt).find("0 of 3"), std::string::npos);
    end(attempt, long_grace, 3);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_P(EndTest, GrowsInPlaceWithoutAWordToTheLastGeneration) {
    auto launch = job(checkpoints_on_warning);
    launch.resize_in_place = true;
    const auto attempt = start(launch, 1);
    ASSERT_TRUE(all_ready(attempt, 1, 1));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    engine_->carry_out(command_for(attempt, 3, 2));
    const auto running = reports_.next<RanksRunning>(attempt);
    ASSERT_TRUE(running);
    EXPECT_EQ(running->generation, 2U);
    ASSERT_TRUE(prints(attempt, "2 of 3 generation 2 ready"));
    EXPECT_EQ(output(attempt).find("0 of 3"), std::string::npos) << "the one that stays runs on";
    end(attempt, long_grace, 3);  // the third was decided, and cancelled before anybody was told of it
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 3U);
    EXPECT_TRUE(ended->warned);
    EXPECT_EQ(ended->left, 0);
}

TEST_P(EndTest, TellsThoseThatStayWhereTheyMeetThoseThatJoin) {
    auto launch =
        job("until grep -o 'master_port.*' $STARGATE_NOTICE; do sleep 0.01; done; while :; do sleep 0.01; done");
    launch.resize_in_place = true;
    const auto attempt = start(launch, 1);
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    auto command = command_for(attempt, 2, 2);
    command.port = 29501;
    engine_->carry_out(command);
    EXPECT_TRUE(prints(attempt, "master_port\":29501}"));
    end(attempt, long_grace, 2);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_P(EndTest, NothingTakesACancelBack) {
    const auto attempt = start(job("trap '' TERM; echo ready; while :; do sleep 0.01; done"));
    ASSERT_TRUE(prints(attempt, "ready"));
    end(attempt, long_grace);
    end(attempt, std::chrono::milliseconds{50}, 1, 1, 0, EndCause::resize);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->cancelled);
    engine_->carry_out(command_for(attempt, 1, 2));
    const auto again = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(again) << "nothing follows";
    EXPECT_EQ(again->generation, 2U);
}

TEST_P(EndTest, AnEndThatOvertakesItsStartLeavesATombstone) {
    const AttemptId attempt{77};
    end(attempt, long_grace);
    auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.detail, "it was ended before it started");
    start_engine(2);  // which knows nothing but the folder
    last_ = AttemptId{76};
    EXPECT_EQ(start(job("echo must not run > " + (submit_ / "ran").string())), attempt);
    ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::refused);
    EXPECT_FALSE(std::filesystem::exists(submit_ / "ran"));
}

}  // namespace
}  // namespace stargate::local::testing
