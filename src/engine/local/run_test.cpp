#include <linux/keyctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iomanip>

#include "engine/local/testing.hpp"

// Ranks: what they see, how they end, and what is told of it.
namespace stargate::local::testing {
namespace {

class Run : public LocalEngineTest {};

TEST_F(Run, ReportsRunningAndThenTheExitStatus) {
    const auto attempt = start(shell_job("exit 3"));
    const auto running = reports_.next<RanksRunning>(attempt);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(running && ended);
    EXPECT_EQ(running->generation, 1U);
    EXPECT_EQ(ended->exit, (Exit{ExitKind::exited, 3, "rank 0 ended with status 3"}));
    EXPECT_FALSE(ended->warned);
}

TEST_F(Run, ReportsTheSignalThatEndedARank) {
    const auto ended = run(shell_job("kill -SEGV $$"));
    EXPECT_EQ(ended.exit, (Exit{ExitKind::signalled, 11, "rank 0 was ended by SIGSEGV"}));
}

TEST_F(Run, SaysWhichProgramCouldNotBeExecuted) {
    auto job = shell_job("");
    job.argv = {"no-such-program"};
    const auto ended = run(job);
    EXPECT_EQ(ended.exit.kind, ExitKind::could_not_start);
    EXPECT_EQ(ended.exit.code, 127);
    EXPECT_EQ(ended.exit.detail, "rank 0: cannot execute no-such-program: No such file or directory");
}

TEST_F(Run, SaysWhichFolderCannotBeEntered) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        auto job = shell_job("true");
        job.sandbox = sandbox;
        job.folder = submit_ / "absent";
        const auto ended = run(job);
        EXPECT_EQ(ended.exit.kind, ExitKind::could_not_start);
        EXPECT_NE(ended.exit.detail.find("absent: No such file or directory"), std::string::npos) << ended.exit.detail;
    }
}

TEST_F(Run, NeverRunsAsRoot) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        auto job = shell_job("true");
        job.sandbox = sandbox;
        job.account.uid = 0;
        const auto ended = run(job);
        EXPECT_EQ(ended.exit.kind, ExitKind::refused);
        EXPECT_EQ(ended.exit.detail, "jobs never run as root");
    }
}

TEST_F(Run, RunsAsTheSubmitterWithTheirGroups) {
    if (!is_root()) GTEST_SKIP() << "an ordinary user's groups are their own";
    for (const auto sandbox : {Sandbox::none, Sandbox::standard, Sandbox::strict}) {
        auto job = shell_job("id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff|CapPrm|SigIgn|SigBlk' /proc/self/status");
        job.sandbox = sandbox;
        EXPECT_EQ(output_of(job),
                  "12345\n12346\n12346 12347\n"
                  "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
                  "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
    }
}

TEST_F(Run, AnOrdinaryUsersJobHasNoPrivilegesEither) {
    if (is_root()) GTEST_SKIP() << "for ordinary users";
    EXPECT_EQ(
        output_of(shell_job("id -u; grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status")),
        std::to_string(account_.uid) + "\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
}

TEST_F(Run, AnOrdinaryUserCannotRunJobsAsAnother) {
    if (is_root()) GTEST_SKIP() << "root can";
    auto job = shell_job("true");
    job.account.uid = 12345;
    EXPECT_EQ(run(job).exit.detail, "this control plane may not run jobs as user ada");
}

TEST_F(Run, HasNothingOpenButItsStandardStreamsAndNoCore) {
    EXPECT_EQ(output_of(shell_job("exec ls /proc/self/fd")), "0\n1\n2\n3\n");  // 3 is the listing itself
    EXPECT_EQ(output_of(shell_job("readlink /proc/self/fd/0; ulimit -c")), "/dev/null\n0\n");
}

TEST_F(Run, GivesEachRankItsPlaceInTheGang) {
    auto job = shell_job(
        "echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT "
        "$STARGATE_JOB_NAME $STARGATE_GPUS $STARGATE_GENERATION $STARGATE_TASK $OMP_NUM_THREADS"
        "[$CUDA_VISIBLE_DEVICES]");
    const auto text = output_of(job, 3);
    for (const auto* rank : {"0", "1", "2"}) {
        const auto line = std::string{rank} + "/3 " + rank + "/3 127.0.0.1:29500 test 3 1 0 1[]\n";
        EXPECT_NE(text.find(line), std::string::npos) << text;
    }
}

TEST_F(Run, AnElementOfASweepFindsItsOwnValues) {
    auto job = shell_job("echo $LR $SEED $STARGATE_TASK");
    job.sweep = {{"LR", {"0.1", "0.01"}}, {"SEED", {"1", "2", "3"}}};
    auto command = command_for({}, 1);
    command.task = 4;
    const auto attempt = start(job, command);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_EQ(output(attempt), "0.01 2 4\n");
}

TEST_F(Run, ARankANodeFindsAllItsGpusAndStartsItsOwnProcesses) {
    // As torchrun does: one process a GPU, which find each other by a store that the first one opens.
    auto job = shell_job(R"(echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE gpus $STARGATE_GPUS
for local in $(seq 0 $((STARGATE_GPUS - 1))); do
    RANK=$local LOCAL_RANK=$local WORLD_SIZE=$STARGATE_GPUS sh -c 'echo worker $RANK of $WORLD_SIZE' &
done
wait)");
    job.one_rank_a_node = true;
    auto command = command_for({}, 1);
    command.gpus = 0b1111;
    const auto attempt = start(job, command);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    const auto text = output(attempt);
    EXPECT_EQ(text.substr(0, text.find('\n')), "0/1 0/1 gpus 4");
    for (const auto* rank : {"0", "1", "2", "3"}) {
        EXPECT_NE(text.find(std::string{"worker "} + rank + " of 4\n"), std::string::npos) << text;
    }
}

/// While it lives, this process can open nothing.
class NoDescriptors {
public:
    NoDescriptors() {
        EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &whole_), 0);
        auto none = whole_;
        none.rlim_cur = 3;
        EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;
    ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &whole_); }

private:
    rlimit whole_{};
};

TEST_F(Run, AStartThatWaitsForDescriptorsCanBeEnded) {
    AttemptId attempt;
    {
        const NoDescriptors lack;
        attempt = start(shell_job("true"));
        end(attempt, std::chrono::milliseconds{0});
        const auto ended = reports_.next<RanksEnded>(attempt);
        ASSERT_TRUE(ended);
        EXPECT_TRUE(ended->warned);
        engine_->carry_out(command_for(attempt, 1));
        EXPECT_TRUE(reports_.next<RanksEnded>(attempt)) << "told again";
    }
    EXPECT_FALSE(reports_.next<RanksRunning>(attempt, std::chrono::milliseconds{100}));
}

TEST_F(Run, WaitsForDescriptorsRatherThanFails) {
    AttemptId attempt;
    {
        const NoDescriptors lack;
        attempt = start(shell_job("echo here"));
        EXPECT_FALSE(reports_.next<RanksEnded>(attempt, std::chrono::milliseconds{50}));
    }
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::exited) << ended->exit.detail;
}

TEST_F(Run, HasTheUsualLimitOnOpenFiles) { EXPECT_EQ(output_of(shell_job("ulimit -Sn")), "512\n"); }

TEST_F(Run, LeavesTheKeysOfTheControlPlaneBehind) {
    constexpr long session = KEY_SPEC_SESSION_KEYRING;
    if (!is_root() || syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0) GTEST_SKIP() << "has no keys";
    start_engine(2);  // whose thread has our keyring
    const auto ours = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, session, 0);
    const auto text = output_of(shell_job("grep -o ' keyring  *_ses.*\\|^[0-9a-f]*' /proc/keys; echo looked"));
    std::ostringstream number;
    number << std::hex << std::setw(8) << std::setfill('0') << ours;
    EXPECT_EQ(text.find(number.str()), std::string::npos) << text;
    EXPECT_NE(text.find("looked"), std::string::npos);
}

TEST_F(Run, AUmaskDoesNotCloseTheJobsOwnFolder) {
    const auto before = umask(077);
    engine_.reset();
    std::filesystem::remove_all(state_);
    std::filesystem::create_directory(state_);
    chmod(state_.c_str(), 0711);  // as `up` makes it
    start_engine(2);
    auto job = shell_job("echo 5 > $STARGATE_PROGRESS");
    job.sandbox = Sandbox::none;
    EXPECT_EQ(run(job).step, 5);
    umask(before);
}

TEST_F(Run, TheEnvironmentIsTheAccountsAndTheJobFilesButOursWins) {
    auto job = shell_job("echo $HOME $USER $LOGNAME $SHELL $LANG $MINE $RANK $OMP_NUM_THREADS ${SECRET-unset}");
    job.env = {{"MINE", "yes"}, {"RANK", "99"}, {"OMP_NUM_THREADS", "4"}};
    setenv("SECRET", "of the control plane", 1);
    EXPECT_EQ(output_of(job), home_.string() + " ada ada /bin/sh C.UTF-8 yes 0 4 unset\n");
    job.keep_environment = true;
    job.shell = "echo ${USER-unset} $MINE $RANK";
    EXPECT_EQ(output_of(job), "unset yes 0\n");
}

TEST_F(Run, TakesAnEnvironmentBeyondAnySocketBuffer) {
    auto job = shell_job("printf %s \"$BIG$BIG2\" | wc -c");
    for (const auto* name : {"BIG", "BIG2", "BIG3", "BIG4", "BIG5"})
        job.env.emplace_back(name, std::string(120'000, 'x'));
    EXPECT_EQ(output_of(job), "240000\n");
}

TEST_F(Run, OneFailedRankEndsItsGangAndIsNamed) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        auto job = shell_job("if [ $RANK = 2 ]; then exit 5; fi; exec sleep 60");
        job.sandbox = sandbox;
        const auto ended = run(job, 4);
        EXPECT_EQ(ended.exit, (Exit{ExitKind::exited, 5, "rank 2 ended with status 5"}));
        EXPECT_FALSE(ended.warned);
    }
}

TEST_F(Run, OrphansDieWithTheirAttempt) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        auto job = shell_job(
            "setsid sh -c 'exec 3>alive; flock 3; sleep 1000 & sleep 1000' > /dev/null 2>&1 &\n"
            "until [ -e alive ] && ! flock -n alive true; do sleep 0.01; done; echo started");
        job.sandbox = sandbox;
        EXPECT_EQ(output_of(job), "started\n");
        // RanksEnded promises that nothing is left: the orphans' lock is free at once.
        EXPECT_EQ(output_of(shell_job("flock -n alive echo free")), "free\n");
    }
}

TEST_F(Run, TheSameCommandTwiceStartsNothingTwice) {
    auto job = shell_job("echo started; exec sleep 60");
    const auto attempt = start(job);
    engine_->carry_out(command_for(attempt, 1));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    engine_->carry_out(command_for(attempt, 1));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    ASSERT_TRUE(prints(attempt, "started\n"));
    EXPECT_EQ(output(attempt), "started\n");
}

/// Our children that are called so.
std::vector<pid_t> children_called(const std::string& pattern) {
    const auto command = "pgrep -P " + std::to_string(getpid()) + " -f '^" + pattern + "'";
    std::vector<pid_t> found;
    FILE* told = popen(command.c_str(), "r");
    for (pid_t pid = 0; told != nullptr && std::fscanf(told, "%d", &pid) == 1;) found.push_back(pid);
    if (told != nullptr) pclose(told);
    return found;
}

TEST_F(Run, ADeadZygoteIsReplaced) {
    run(shell_job("exit 0"));
    const auto zygotes = children_called("stargate-shim zygote");
    ASSERT_EQ(zygotes.size(), 1U);
    ASSERT_EQ(kill(zygotes.front(), SIGKILL), 0);
    const auto attempt = start(shell_job("echo ready; exec sleep 1000"));
    ASSERT_TRUE(prints(attempt, "ready"));
    EXPECT_EQ(children_called("stargate-shim attempt " + std::to_string(attempt.value)).size(), 1U);
    EXPECT_NE(children_called("stargate-shim zygote"), zygotes);
}

TEST_F(Run, AForgottenAttemptLeavesNothingButItsOutput) {
    const auto ended =
        run(shell_job("mkdir -p ${STARGATE_NOTICE%/*}/a/b/c; ln -s / ${STARGATE_NOTICE%/*}/a/root; echo printed"));
    EXPECT_EQ(ended.exit.code, 0);
    engine_->carry_out(Forget{ended.attempt, here});
    EXPECT_TRUE(soon([&] { return std::filesystem::is_empty(state_ / "attempts"); }));
    EXPECT_EQ(output(ended.attempt), "printed\n");
    const auto silent = run(shell_job("exit 0"));
    EXPECT_FALSE(std::filesystem::exists(output_log_path(state_, JobId{silent.attempt.value + 1000}, silent.attempt)))
        << "a file that nobody needs costs more than the job";
}

TEST_F(Run, WhatLiesWhereItsOutputGoesIsNotItsOutput) {
    const auto path = output_log_path(state_, JobId{last_.value + 1001}, AttemptId{last_.value + 1});
    std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
    std::ofstream{path} << "of another store's job";
    const auto silent = run(shell_job("exit 0"));
    EXPECT_EQ(output_log_path(state_, JobId{silent.attempt.value + 1000}, silent.attempt), path);
    EXPECT_FALSE(std::filesystem::exists(path));
    std::filesystem::remove_all(std::filesystem::path{path}.parent_path());
    const auto ended = run(shell_job("echo lost"));
    EXPECT_EQ(ended.exit.kind, ExitKind::refused);
    EXPECT_NE(ended.exit.detail.find("cannot keep the output"), std::string::npos) << ended.exit.detail;
}

TEST_F(Run, ProgressIsToldAndItsLastStepComesWithTheEnd) {
    const auto attempt =
        start(shell_job("echo 41 > $STARGATE_PROGRESS; until [ -e go ]; do sleep 0.01; done;"
                        "echo 42 > $STARGATE_PROGRESS"));
    const auto progress = reports_.next<Progress>(attempt);
    ASSERT_TRUE(progress);
    EXPECT_EQ(progress->step, 41);
    std::ofstream{submit_ / "go"}.close();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->step, 42);
    EXPECT_EQ(run(shell_job("echo 43junk > $STARGATE_PROGRESS")).step, -1);
    EXPECT_EQ(run(shell_job("printf '  44\n\n' > $STARGATE_PROGRESS")).step, 44);
}

}  // namespace
}  // namespace stargate::local::testing
