#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/end_all.hpp"
#include "engine/local/testing.hpp"
#include "engine/local/translate.hpp"
#include "engine/local/zygote.hpp"

// Shims that were held up on their way, while the world went on.
namespace stargate::local::testing {
namespace {

namespace fs = std::filesystem;
constexpr AttemptId late{60};

Authority authority(std::uint64_t term, std::uint8_t incarnation = 9) {
    Authority made;
    made.incarnation.fill(incarnation);
    made.term = term;
    return made;
}

class LateShim : public LocalEngineTest {
protected:
    SpawnedShim spawn() {
        auto shim = zygote_.spawn_shim(late.value);
        EXPECT_TRUE(shim);
        return shim ? std::move(*shim) : SpawnedShim{};
    }
    /// Tells it what to run, as a control plane of this authority: to touch `ran`.
    void order(SpawnedShim& shim, const Authority& by) const {
        auto spec = spec_of(command_for(late, 1), shell_job("touch ran"), speaker_of(by));
        spec.boot_id = boot_id();
        spec.state = state_;
        spec.log = root_ / "log";
        shim.link.send(std::move(spec));
    }
    /// Why it ran nothing; empty when it said anything else.
    static std::string refusal_of(SpawnedShim& shim) {
        waitpid(shim.pid, nullptr, 0);
        const auto answers = shim.link.receive();
        const auto* refused = answers.size() == 1 ? std::get_if<Refused>(&answers.front()) : nullptr;
        return refused != nullptr ? refused->why : "";
    }
    [[nodiscard]] bool ran() const { return fs::exists(submit_ / "ran"); }

    /// Holds the process right after it has made a folder; false when it may not be traced here.
    static bool hold_after_mkdir(pid_t pid) {
        if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD) != 0) return false;
        ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr);
        constexpr int at_a_call = SIGTRAP | 0x80;
        bool makes_folder = false;
        for (int status = 0; waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);) {
            __ptrace_syscall_info call{};
            if (WSTOPSIG(status) == at_a_call) {
                ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof call, &call);
                if (call.op == PTRACE_SYSCALL_INFO_ENTRY) makes_folder = is_mkdir(call.entry.nr);
                if (call.op == PTRACE_SYSCALL_INFO_EXIT && makes_folder && call.exit.rval == 0) return true;
            }
            ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
        }
        return false;
    }
    static void release(pid_t pid) { ptrace(PTRACE_DETACH, pid, nullptr, nullptr); }

private:
    Zygote zygote_{STARGATE_SHIM};

    static bool is_mkdir(std::uint64_t call) {
#ifdef SYS_mkdir
        if (call == SYS_mkdir) return true;
#endif
        return call == SYS_mkdirat;
    }
};

TEST_F(LateShim, RunsNothingThoughItsFolderIsGoneWhenAnotherLeads) {
    // Its attempt may have been started anew, ended and removed meanwhile.
    start_engine(3);
    for (const auto& by : {authority(2), authority(4), authority(3, 8)}) {
        auto shim = spawn();
        order(shim, by);
        EXPECT_EQ(refusal_of(shim), "another control plane has taken over since");
        EXPECT_FALSE(ran());
        EXPECT_TRUE(fs::is_empty(state_ / "attempts"));
    }
    auto shim = spawn();
    order(shim, authority(3));
    waitpid(shim.pid, nullptr, 0);
    EXPECT_TRUE(ran());
}

TEST_F(LateShim, GivesItsFolderBackWhenAnotherTakesOverWhileItMakesIt) {
    auto shim = spawn();
    order(shim, authority(1));
    if (!hold_after_mkdir(shim.pid)) GTEST_SKIP() << "may not trace";
    start_engine(2);  // which has not come to look at this folder yet
    release(shim.pid);
    EXPECT_EQ(refusal_of(shim), "another control plane has taken over since");
    EXPECT_FALSE(ran());
    EXPECT_TRUE(fs::is_empty(state_ / "attempts"));
}

TEST_F(LateShim, RunsNothingWhenEverythingWasEndedMeanwhile) {
    auto shim = spawn();
    order(shim, authority(1));
    if (!hold_after_mkdir(shim.pid)) GTEST_SKIP() << "may not trace";
    lose_engine();
    EXPECT_EQ(end_all_attempts(state_, Duration{0}), 0);
    release(shim.pid);
    EXPECT_EQ(refusal_of(shim), "another control plane has taken over since");
    EXPECT_FALSE(ran());
    EXPECT_TRUE(fs::is_empty(state_ / "attempts"));
}

TEST_F(LateShim, ObeysATombstoneThatWasLeftOnItsWayToTheLock) {
    auto shim = spawn();
    order(shim, authority(1));
    if (!hold_after_mkdir(shim.pid)) GTEST_SKIP() << "may not trace";
    ASSERT_TRUE(engine_->adopt({{late, true}}));
    ASSERT_TRUE(reports_.next<AttemptLost>(late));
    release(shim.pid);
    EXPECT_EQ(refusal_of(shim), "a tombstone stands here");
    EXPECT_FALSE(ran());
}

TEST_F(LateShim, AProgramThatIsNoShimIsNotTriedForEver) {
    Zygote broken{"/bin/false"};
    EXPECT_FALSE(broken.spawn_shim(late.value));
    EXPECT_EQ(errno, ECHILD);
}

TEST_F(LateShim, LeavesAnAttemptThatHasEndedAsItIs) {
    for (const bool is_second : {false, true}) {
        auto shim = spawn();
        order(shim, authority(1));
        if (is_second) {
            EXPECT_NE(refusal_of(shim), "");
            continue;
        }
        shim.link.close();  // its control plane has died: it keeps the record of its end
        waitpid(shim.pid, nullptr, 0);
        EXPECT_TRUE(ran());
        fs::remove(submit_ / "ran");
    }
    EXPECT_FALSE(ran());
    ASSERT_TRUE(engine_->adopt({{late, true}}));
    const auto ended = reports_.next<RanksEnded>(late);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit, (Exit{ExitKind::exited, 0, ""}));
}

}  // namespace
}  // namespace stargate::local::testing
