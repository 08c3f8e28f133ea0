#include "engine/local/testing.hpp"

// Attempts whose rank stands at a terminal.
namespace stargate::local::testing {
namespace {

class TerminalTest : public LocalEngineTest {
protected:
    Launch at_terminal(std::vector<std::string> argv) const {
        auto launch = shell_job("");
        launch.argv = std::move(argv);
        launch.one_rank_a_node = launch.terminal = true;
        launch.env = {{"PS1", "$ "}, {"TERM", "dumb"}};
        return launch;
    }
    AttemptId shell() { return start(at_terminal({"/bin/sh", "-i"})); }
    /// As a client does: what has to wait is sent again.
    void type(AttemptId attempt, const std::string& bytes) {
        EXPECT_TRUE(soon([&] { return engine_->type(attempt, bytes); }));
    }
};

TEST_F(TerminalTest, AShellTakesWhatIsTypedAndEchoesIt) {
    const auto attempt = shell();
    ASSERT_TRUE(prints(attempt, "$ "));
    type(attempt, "echo 6 times 7 is $((6*7))\n");
    EXPECT_TRUE(prints(attempt, "echo 6 times 7 is $((6*7))")) << output(attempt);
    EXPECT_TRUE(prints(attempt, "6 times 7 is 42")) << output(attempt);
    type(attempt, "exit 5\n");
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 5);
}

TEST_F(TerminalTest, ItIsARealOneOfItsOwn) {
    const auto attempt = shell();
    type(attempt, "test -t 0 && test -t 1 && test -t 2 && echo is\" \"one; test -O $(tty) && echo is\" \"mine\n");
    EXPECT_TRUE(prints(attempt, "is one")) << output(attempt);
    EXPECT_TRUE(prints(attempt, "is mine")) << output(attempt);
    type(attempt, "echo through dev tty | tr a-z A-Z >/dev/tty\n");
    EXPECT_TRUE(prints(attempt, "THROUGH DEV TTY")) << output(attempt);
    engine_->set_window(attempt, 50, 132);
    type(attempt, "stty size | tr ' ' x\n");
    EXPECT_TRUE(prints(attempt, "50x132")) << output(attempt);
    type(attempt, "\x04");  // Ctrl-D ends a shell
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(TerminalTest, AnInterruptReachesWhatRunsInItAndNotTheShell) {
    const auto attempt = shell();
    ASSERT_TRUE(prints(attempt, "$ "));
    type(attempt, "/bin/sh -c 'echo go\"\"ing; exec sleep 600'\n");
    ASSERT_TRUE(prints(attempt, "going\r"));
    type(attempt, "\x03");
    ASSERT_TRUE(prints(attempt, "^C"));
    type(attempt, "echo still\"\" here\n");
    EXPECT_TRUE(prints(attempt, "still here")) << output(attempt);
    end(attempt, std::chrono::seconds{20});
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(TerminalTest, AWarnedShellGoesWithWhatRunsInIt) {
    const auto attempt = shell();
    ASSERT_TRUE(prints(attempt, "$ "));
    type(attempt, "/bin/sh -c 'echo go\"\"ing; exec sleep 600'\n");
    ASSERT_TRUE(prints(attempt, "going\r"));
    const auto begun = std::chrono::steady_clock::now();
    end(attempt, std::chrono::seconds{50});
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds{40}) << "only the deadline ended it";
}

TEST_F(TerminalTest, AWarnedProgramHasTheTimeToSave) {
    const std::string saves = "trap 'echo sav\"\"ing; sleep 0.3; echo sav\"\"ed; exit 0' TERM; echo read\"\"y; ";
    const auto alone = start(at_terminal({"/bin/sh", "-c", saves + "while :; do sleep 0.05; done"}));
    ASSERT_TRUE(prints(alone, "ready"));
    end(alone, std::chrono::seconds{50});
    const auto ended = reports_.next<RanksEnded>(alone);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 0);
    EXPECT_NE(output(alone).find("saved"), std::string::npos) << output(alone);

    const auto at_prompt = start(at_terminal({"/bin/bash", "--norc", "-i"}));
    type(at_prompt, "/bin/sh -c \"" +
                        std::string{"trap 'echo sav''ed; exit 0' TERM; echo read''y; while :; do sleep 0.05; done"} +
                        "\"\n");
    ASSERT_TRUE(prints(at_prompt, "ready\r")) << output(at_prompt);
    end(at_prompt, std::chrono::seconds{4});
    ASSERT_TRUE(reports_.next<RanksEnded>(at_prompt));
    EXPECT_NE(output(at_prompt).find("saved"), std::string::npos) << output(at_prompt);
}

TEST_F(TerminalTest, WhatNobodyReadsIsBounded) {
    const auto attempt = start(at_terminal({"/bin/sh", "-c", "stty raw -echo; echo ready; exec sleep 600"}));
    ASSERT_TRUE(prints(attempt, "ready"));
    std::size_t typed = 0;
    const std::string keys(8'000, 'x');
    const auto limit = std::chrono::steady_clock::now() + std::chrono::milliseconds{500};
    while (std::chrono::steady_clock::now() < limit) typed += engine_->type(attempt, keys) ? keys.size() : 0;
    EXPECT_GT(typed, 60'000U);
    EXPECT_LT(typed, 200'000U);
    end(attempt, std::chrono::milliseconds{0});
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(TerminalTest, AProgramThatClosesItsStreamsGoesOn) {
    const auto attempt = start(at_terminal({"/bin/sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 0.3; exit 4"}));
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::exited) << ended->exit.detail;
    EXPECT_EQ(ended->exit.code, 4);
}

TEST_F(TerminalTest, ItOutlivesTheControlPlane) {
    const auto attempt = shell();
    type(attempt, "kept=before\n");
    ASSERT_TRUE(prints(attempt, "kept=before"));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    lose_engine();
    start_engine(2);
    (void)engine_->adopt({{attempt, true}});
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    type(attempt, "echo $kept and after\n");
    EXPECT_TRUE(prints(attempt, "before and after")) << output(attempt);
    type(attempt, "exit\n");
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(TerminalTest, MuchThatIsTypedAtOnceArrives) {
    const auto attempt = start(at_terminal({"/bin/sh", "-c", "stty raw -echo; echo ready; head -c 300000 | wc -c"}));
    ASSERT_TRUE(prints(attempt, "ready"));
    for (int i = 0; i < 30; ++i) type(attempt, std::string(10'000, 'x'));
    EXPECT_TRUE(prints(attempt, "300000")) << output(attempt);
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(TerminalTest, TypingAtOneThatIsGoneDoesNothing) {
    const auto attempt = start(at_terminal({"/bin/true"}));
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    type(attempt, "into the void");
    type(AttemptId{999}, "into the void");
    engine_->set_window(attempt, 1, 1);
    EXPECT_EQ(output_of(shell_job("echo and on it goes")), "and on it goes\n");
}

}  // namespace
}  // namespace stargate::local::testing
