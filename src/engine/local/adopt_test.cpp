#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <set>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/attempt_records.hpp"
#include "engine/local/end_all.hpp"
#include "engine/local/obeyed_term.hpp"
#include "engine/local/testing.hpp"

// The control plane dies and returns, the shim dies, two of either meet.
namespace stargate::local::testing {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class Adopt : public LocalEngineTest {
protected:
    std::vector<Unknown> adopt(const std::vector<Believed>& believed) {
        const auto unknown = engine_->adopt(believed);
        EXPECT_TRUE(unknown);
        return unknown.value_or(std::vector<Unknown>{});
    }
    AttemptId start_and_wait(const std::string& script = "echo ready; exec sleep 1000",
                             Sandbox sandbox = Sandbox::standard) {
        auto job = shell_job(script);
        job.sandbox = sandbox;
        const auto attempt = start(job);
        EXPECT_TRUE(prints(attempt, "ready"));
        EXPECT_TRUE(reports_.next<RanksRunning>(attempt));
        return attempt;
    }
    [[nodiscard]] ShimRecord record_of(AttemptId attempt) const {
        const Fd folder{open(folder_of(attempt).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        const auto record = read_record<ShimRecord>(folder.get(), shim_record_name);
        EXPECT_TRUE(record);
        return record.value_or(ShimRecord{});
    }
    [[nodiscard]] bool lock_is_free(AttemptId attempt) const {
        const Fd folder{open(folder_of(attempt).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        return static_cast<bool>(take_lock(folder.get()));
    }
};

TEST_F(Adopt, RunningWorkGoesOnAndIsFoundAgain) {
    const auto attempt = start_and_wait("echo ready; until [ -e go ]; do sleep 0.01; done; echo went on; exit 4");
    lose_engine();
    start_engine(2);
    EXPECT_TRUE(adopt({{attempt, true}}).empty());
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    std::ofstream{submit_ / "go"}.close();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 4);
    EXPECT_EQ(output(attempt), "ready\nwent on\n");
    EXPECT_EQ(record_of(attempt).obeys.term, 2U);  // kept durably
    engine_->carry_out(Forget{attempt, here});
    EXPECT_TRUE(soon([&] { return !fs::exists(folder_of(attempt)); }));
}

TEST_F(Adopt, AnEndDuringTheAbsenceIsReadFromItsRecord) {
    const auto attempt =
        start_and_wait("echo ready; until [ -e go ]; do sleep 0.01; done; echo 9 > $STARGATE_PROGRESS; exit 6");
    lose_engine();
    std::ofstream{submit_ / "go"}.close();
    ASSERT_TRUE(soon([&] { return fs::exists(folder_of(attempt) / "exit") && lock_is_free(attempt); }));
    start_engine(2);
    adopt({{attempt, true}});
    auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit, (Exit{ExitKind::exited, 6, "rank 0 ended with status 6"}));
    EXPECT_EQ(ended->step, 9);
    // Told until it is forgotten.
    start_engine(3);
    adopt({{attempt, true}});
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(Adopt, AnAttemptWithoutAFolderIsLostOnlyIfItHadStarted) {
    EXPECT_TRUE(adopt({{AttemptId{50}, true}, {AttemptId{51}, false}}).empty());
    EXPECT_TRUE(reports_.next<AttemptLost>(AttemptId{50}));
    EXPECT_FALSE(reports_.next<AttemptLost>(AttemptId{51}, milliseconds{50}));
    last_ = AttemptId{50};
    const auto late = start(shell_job("echo here"));  // the start that was owed
    ASSERT_TRUE(reports_.next<RanksEnded>(late));
    EXPECT_EQ(output(late), "here\n");
}

TEST_F(Adopt, UnknownWorkIsForeignAndLeftAlone) {
    const auto attempt = start_and_wait();
    start_engine(2);
    const auto gpus = command_for(attempt, 1).gpus;
    ASSERT_NE(gpus, 0U);
    EXPECT_EQ(adopt({}), (std::vector{Unknown{attempt, true, gpus}}));
    EXPECT_FALSE(lock_is_free(attempt));
}

TEST_F(Adopt, WhatForeignWorkHoldsOfItsHostIsFound) {
    auto command = command_for({}, 2);
    command.cpus = cpus(6);
    command.memory = gibibytes(3);
    const auto attempt = start(shell_job("echo ready; exec sleep 1000"), command);
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    start_engine(2);
    EXPECT_EQ(adopt({}), (std::vector{Unknown{attempt, true, 0b11, cpus(6), gibibytes(3)}}));
}

TEST_F(Adopt, TheHighestTermThatIsObeyedHereIsFound) {
    std::array<std::uint8_t, 16> incarnation{};
    incarnation.fill(9);  // of start_engine()
    EXPECT_EQ(obeyed_term(state_, incarnation), 1U) << "who leads here";
    start_engine(7);
    (void)start_and_wait();
    EXPECT_EQ(obeyed_term(state_, incarnation), 7U);
    fs::remove(state_ / "authority");
    EXPECT_EQ(obeyed_term(state_, incarnation), 7U) << "the shim's own record tells too";
    auto other = incarnation;
    ++other[0];
    EXPECT_EQ(obeyed_term(state_, other), 0U);
}

TEST_F(Adopt, WhatIsLeftOfForeignWorkIsToldWhenSomeOfItEnds) {
    const auto lasting = start_and_wait();
    const auto brief = start_and_wait("echo ready; until [ -e go ]; do sleep 0.01; done");
    start_engine(2);
    EXPECT_EQ(adopt({}).size(), 2U);
    std::ofstream{submit_ / "go"}.close();
    const auto left = reports_.next_foreign();
    ASSERT_TRUE(left);
    EXPECT_EQ(left->running, 1);
    EXPECT_EQ(left->gpus, command_for(lasting, 1).gpus);
    EXPECT_EQ(left->attempts, (std::vector{lasting, brief}));  // whose record is not ours to remove
    EXPECT_TRUE(fs::exists(folder_of(brief) / "exit"));
}

TEST_F(Adopt, TheRecordOfAnOlderShimTellsNoGpus) {
    const ShimRecord record{
        .boot_id = "boot", .pid = 4, .start_ticks = 5, .job = 6, .gpus = 7, .milli_cpus = 8, .memory = 9};
    auto bytes = *unseal(to_file(record));
    Reader newer{bytes};
    ShimRecord read;
    newer(read);
    EXPECT_TRUE(newer.is_complete());
    EXPECT_EQ(read.gpus, 7U);
    EXPECT_EQ(read.memory, 9);
    bytes.resize(bytes.size() - sizeof record.milli_cpus - sizeof record.memory - sizeof record.grace_us);
    Reader old{bytes};
    read = {};
    old(read);
    EXPECT_TRUE(old.is_complete());
    EXPECT_EQ(read.gpus, 7U);
    EXPECT_EQ(read.milli_cpus, 0);
    EXPECT_EQ(read.grace_us, default_grace_us);
    bytes.resize(bytes.size() - sizeof record.gpus - sizeof record.init.pid - sizeof record.init.start_ticks);
    Reader older{bytes};
    read = {};
    older(read);
    EXPECT_TRUE(older.is_complete());
    EXPECT_EQ(read.job, 6U);
    EXPECT_EQ(read.gpus, 0U);
}

TEST_F(Adopt, AFolderThatWasOnlyLeftToBeRemovedIsNotForeign) {
    const auto attempt = start_and_wait("echo ready; exit 0");
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    engine_->carry_out(Forget{attempt, here});
    lose_engine();  // perhaps before it has removed the folder
    start_engine(2);
    EXPECT_TRUE(soon([&] { return adopt({}).empty(); }));
    EXPECT_TRUE(soon([&] { return fs::is_empty(state_ / "attempts"); }));
}

/// A rank that the kernel cannot kill at once keeps its init from dying, though the lock is free.
TEST_F(Adopt, AnAttemptIsLostOnlyWhenTheInitOfItsRanksIsDead) {
    const auto attempt = start_and_wait();
    lose_engine();
    auto record = record_of(attempt);
    EXPECT_TRUE(has_living_init(record, boot_id()));
    ASSERT_EQ(kill(record.pid, SIGKILL), 0);
    ASSERT_TRUE(soon([&] { return lock_is_free(attempt) && !has_living_init(record, boot_id()); }));
    const auto lives_on = fork();
    ASSERT_GE(lives_on, 0);
    if (lives_on == 0) {
        while (true) pause();
    }
    record.init = {.pid = lives_on, .start_ticks = start_ticks(lives_on)};
    ASSERT_TRUE((AttemptRecords{state_, attempt.value}.keep_shim(record)));
    start_engine(2);
    adopt({{attempt, true}});
    EXPECT_FALSE(reports_.next<AttemptLost>(attempt, milliseconds{200}));
    ASSERT_EQ(kill(lives_on, SIGKILL), 0);
    EXPECT_TRUE(reports_.next<AttemptLost>(attempt)) << "it is a zombie, which nobody has to take away";
    waitpid(lives_on, nullptr, 0);
}

TEST_F(Adopt, AShimThatIsKilledTakesEverythingWithItAndIsLost) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        const auto attempt = start_and_wait(
            "rm -f alive; setsid sh -c 'exec 3>alive; flock 3; sleep 1000' &\n"
            "until [ -e alive ] && ! flock -n alive true; do sleep 0.01; done; echo ready; sleep 1000",
            sandbox);
        ASSERT_EQ(kill(record_of(attempt).pid, SIGKILL), 0);
        const auto lost = reports_.next<AttemptLost>(attempt);
        ASSERT_TRUE(lost);
        EXPECT_EQ(lost->detail, "its shim has died and nothing of it is alive");
        EXPECT_EQ(output_of(shell_job("flock -n alive echo free")), "free\n");
    }
}

TEST_F(Adopt, AShimThatDiedDuringTheAbsenceIsLost) {
    const auto attempt = start_and_wait();
    lose_engine();
    ASSERT_EQ(kill(record_of(attempt).pid, SIGKILL), 0);
    start_engine(2);
    adopt({{attempt, true}});
    EXPECT_TRUE(reports_.next<AttemptLost>(attempt));
    // And stays so: its start, should it come after all, finds the tombstone.
    start_engine(3);
    last_ = AttemptId{attempt.value - 1};
    start(shell_job("touch ran"));
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_FALSE(fs::exists(submit_ / "ran"));
}

TEST_F(Adopt, ASecondShimForTheSameAttemptLeaves) {
    const auto attempt = start_and_wait("echo ready; exec sleep 1000");
    start_engine(2);  // without adopting: it starts the attempt as if it were new
    last_ = AttemptId{attempt.value - 1};
    start(shell_job("echo second"));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));  // told by the first
    EXPECT_EQ(output(attempt), "ready\n");
}

TEST_F(Adopt, AShimOfOurOwnThatCutsUsOffIsFoundAgain) {
    const auto sockets = [] {
        std::set<int> found;
        for (const auto& entry : fs::directory_iterator{"/proc/self/fd"}) {
            std::error_code gone;
            if (fs::read_symlink(entry, gone).string().starts_with("socket:")) {
                found.insert(std::stoi(entry.path().filename()));
            }
        }
        return found;
    };
    const auto before = sockets();
    const auto attempt = start_and_wait();
    for (const int each : sockets()) {
        if (!before.contains(each)) { ASSERT_EQ(shutdown(each, SHUT_RDWR), 0); }
    }
    end(attempt, milliseconds{0});
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(Adopt, ALostAttemptStaysLostInALaterGeneration) {
    auto attempt = start_and_wait("trap exit TERM; echo ready; while :; do sleep 0.01; done");
    end(attempt, milliseconds{60'000}, 1, 1, 0, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    engine_->carry_out(command_for(attempt, 1, 2));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    lose_engine();
    ASSERT_EQ(kill(record_of(attempt).pid, SIGKILL), 0);
    for (const std::uint64_t term : {2U, 3U}) {  // the first leaves a tombstone, and dies before its report is written
        start_engine(term);
        adopt({{attempt, true}});
        EXPECT_TRUE(reports_.next<AttemptLost>(attempt)) << term;
    }
}

TEST_F(Adopt, AnInitThatIsKilledLeavesNobodyWithoutASandboxEither) {
    const auto attempt = start_and_wait(
        "rm -f alive; setsid sh -c 'exec 3>alive; flock 3; sleep 1000' &\n"
        "until [ -e alive ] && ! flock -n alive true; do sleep 0.01; done; echo ready; sleep 1000",
        Sandbox::none);
    const auto shim = std::to_string(record_of(attempt).pid);
    int init = 0;
    ASSERT_TRUE(std::ifstream{"/proc/" + shim + "/task/" + shim + "/children"} >> init);
    ASSERT_EQ(kill(init, SIGKILL), 0);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::killed);
    EXPECT_EQ(output_of(shell_job("flock -n alive echo free")), "free\n");
}

TEST_F(Adopt, ALowerTermIsNotObeyed) {
    start_engine(5);
    const auto attempt = start_and_wait();
    start_engine(4);
    adopt({{attempt, true}});
    end(attempt, milliseconds{0});
    EXPECT_FALSE(reports_.next<RanksEnded>(attempt, milliseconds{100}));
    start_engine(6);
    adopt({{attempt, true}});
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    end(attempt, milliseconds{0});
    EXPECT_TRUE(reports_.next<RanksEnded>(attempt));
}

TEST_F(Adopt, EndAllEndsEverythingWithoutAControlPlane) {
    const auto polite = start_and_wait("trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done");
    const auto stubborn = start_and_wait("trap '' TERM; echo ready; while :; do sleep 0.01; done", Sandbox::none);
    lose_engine();
    const auto ended = end_all_attempts(state_, milliseconds{200});
    ASSERT_TRUE(ended) << ended.error().detail;
    EXPECT_EQ(*ended, 2);
    EXPECT_NE(output(polite).find("bye"), std::string::npos);
    EXPECT_TRUE(lock_is_free(polite) && lock_is_free(stubborn));
    start_engine(2);
    adopt({{polite, true}, {stubborn, true}});
    for (const auto attempt : {polite, stubborn}) {
        const auto told = reports_.next<RanksEnded>(attempt);
        ASSERT_TRUE(told);
        EXPECT_TRUE(told->cancelled);
    }
}

TEST_F(Adopt, AFinalEndIsThatOfTheGenerationThatWasOrderedMeanwhile) {
    auto job = shell_job("echo ready; while [ ! -e go ]; do sleep 0.01; done; rm go");
    job.resize_in_place = true;
    const auto attempt = start(job);
    ASSERT_TRUE(prints(attempt, "ready"));
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    const auto shim = record_of(attempt).pid;
    ASSERT_EQ(kill(shim, SIGSTOP), 0);
    engine_->carry_out(command_for(attempt, 2, 2));
    std::ofstream{submit_ / "go"}.close();
    EXPECT_TRUE(soon([&] { return !fs::exists(submit_ / "go"); }));
    usleep(50'000);  // for its init to see it gone; too short, and the ranks of the second generation end
    ASSERT_EQ(kill(shim, SIGCONT), 0);
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 2U) << "or State would wait for it until the next start";
}

TEST_F(Adopt, EndAllSpeaksForAShimThatItHadToKill) {
    const auto attempt = start_and_wait();
    lose_engine();
    ASSERT_EQ(kill(record_of(attempt).pid, SIGSTOP), 0);
    const auto ended = end_all_attempts(state_, milliseconds{0});
    ASSERT_TRUE(ended) << ended.error().detail;
    start_engine(2);
    adopt({{attempt, true}});
    const auto told = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(told) << "else its job would run again";
    EXPECT_TRUE(told->cancelled);
    EXPECT_EQ(told->exit.kind, ExitKind::killed);
}

TEST_F(Adopt, EndAllWaitsForAnInitThatOutlivesItsShim) {
    const auto attempt = start_and_wait();
    const auto shim = record_of(attempt).pid;
    lose_engine();
    ASSERT_EQ(kill(shim, SIGKILL), 0);
    ASSERT_TRUE(soon([&] { return lock_is_free(attempt); }));
    const auto lives_on = fork();
    if (lives_on == 0) {
        usleep(300'000);
        _exit(0);
    }
    auto record = record_of(attempt);
    record.init = {.pid = lives_on, .start_ticks = start_ticks(lives_on)};
    ASSERT_TRUE((AttemptRecords{state_, attempt.value}.keep_shim(record)));
    const auto ended = end_all_attempts(state_, milliseconds{0});
    EXPECT_FALSE(has_living_init(record, boot_id()));
    ASSERT_TRUE(ended) << ended.error().detail;
    EXPECT_EQ(*ended, 1);
    waitpid(lives_on, nullptr, 0);
}

TEST_F(Adopt, EndAllDoesNotBeginWhereLateShimsCouldStillStart) {
    lose_engine();
    fs::remove(state_ / "authority");
    fs::create_directory(state_ / "authority");  // which cannot be unlinked
    const auto ended = end_all_attempts(state_, Duration{0});
    fs::remove(state_ / "authority");
    ASSERT_FALSE(ended);
    EXPECT_NE(ended.error().detail.find((state_ / "authority").string()), std::string::npos) << ended.error().detail;
}

}  // namespace
}  // namespace stargate::local::testing
