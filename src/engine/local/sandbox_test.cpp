#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/local/testing.hpp"

// What a sandbox shows and hides.
namespace stargate::local::testing {
namespace {

namespace fs = std::filesystem;

class SandboxTest : public LocalEngineTest {
protected:
    [[nodiscard]] Launch strict_job(const std::string& script) const {
        auto job = shell_job(script);
        job.sandbox = Sandbox::strict;
        return job;
    }
};

TEST_F(SandboxTest, TheCommandIsNotPidOneAndSeesNobodyElse) {
    // Init, the shell, and the listing itself.
    EXPECT_EQ(output_of(shell_job("echo $$; ls /proc > seen; grep -c '^[0-9]' seen; cat /proc/1/comm")),
              "2\n3\nstargate-shim\n");
}

TEST_F(SandboxTest, TheJobCannotReachItsInit) {
    // As root another uid, in a user namespace the same uid: there the kernel spares a pid 1 that asked for no signal.
    EXPECT_EQ(output_of(shell_job("exec 2>/dev/null; kill -KILL 1; kill -TERM 1; ls /proc/1/fd; ls /proc/1/root/;"
                                  "cat /proc/1/environ; echo still here")),
              "still here\n");
}

TEST_F(SandboxTest, TheStateFolderIsEmptyAndReadOnly) {
    // In the private /tmp it is not there at all.
    EXPECT_EQ(output_of(shell_job("[ -e " + state_.string() + " ] || echo gone")), "gone\n");
    // Inside the submit folder, which is bound back there, and mounted once more elsewhere.
    auto job = shell_job("");
    job.folder = root_;
    job.mounts = {{root_, submit_ / "again", false}};
    job.shell = "ls -A state | wc -l; ls -A submit/again/state | wc -l; touch state/x 2>/dev/null || echo refused";
    EXPECT_EQ(output_of(job), "0\n0\nrefused\n");
}

TEST_F(SandboxTest, AFolderInsideTheStateFolderIsRefused) {
    auto job = shell_job("true");
    job.folder = state_ / "logs" / "..";
    chmod((state_ / "logs").c_str(), 0755);
    EXPECT_EQ(run(job).exit.detail, "folder " + state_.string() + " lies inside the state folder");
    job = shell_job("true");
    job.mounts = {{state_, "/mnt", false}};
    EXPECT_EQ(run(job).exit.detail, "mount " + state_.string() + " lies inside the state folder");
}

TEST_F(SandboxTest, TmpIsPrivateButTheSubmitFolderAndHomeInItStayUsable) {
    std::ofstream{root_ / "stranger"} << "not for jobs";
    const auto text = output_of(shell_job("ls " + root_.string() +
                                          "; ls /tmp; echo kept > here; echo kept > $HOME/there;"
                                          "echo lost > /tmp/lost; cat /tmp/lost"));
    EXPECT_EQ(text, "home\nsubmit\n" + root_.filename().string() + "\nlost\n");
    EXPECT_TRUE(fs::exists(submit_ / "here"));
    EXPECT_TRUE(fs::exists(home_ / "there"));
    EXPECT_FALSE(fs::exists("/tmp/lost"));
}

TEST_F(SandboxTest, AJobStartedInTmpItselfSeesItsFiles) {
    auto job = shell_job("[ -d " + submit_.string() +
                         " ] && echo seen; ls -d $STARGATE_NOTICE 2>/dev/null; echo 7 > "
                         "$STARGATE_PROGRESS");
    job.folder = "/tmp";
    EXPECT_EQ(output_of(job), "seen\n");
}

TEST_F(SandboxTest, DevicesAreTheHarmlessOnes) {
    EXPECT_EQ(output_of(shell_job("ls /dev | tr '\\n' ' '; echo > /dev/null && head -c 3 /dev/zero | wc -c")),
              "fd full null ptmx pts random shm stargate stderr stdin stdout tty urandom zero 3\n");
    EXPECT_EQ(output_of(shell_job("python3 -c 'import os; m, s = os.openpty(); print(os.ttyname(s))'")),
              "/dev/pts/0\n");
}

TEST_F(SandboxTest, SharedMemoryIsTheHosts) {
    const auto name = "/dev/shm/stargate-test-" + std::to_string(getpid());
    EXPECT_EQ(output_of(shell_job("echo shared > " + name)), "");
    EXPECT_TRUE(fs::exists(name));
    fs::remove(name);
}

TEST_F(SandboxTest, DeclaredMountsAppearWhereTheyAreWanted) {
    fs::create_directory(root_ / "data");
    std::ofstream{root_ / "data" / "set"} << "numbers\n";
    chmod((root_ / "data").c_str(), 0777);
    auto job = shell_job(
        "cat /stargate-data/deep/set; touch /stargate-data/deep/new 2>/dev/null || echo read-only;"
        "cat /tmp/data/set; touch /tmp/data/new && ls /usr /etc > /dev/null && echo rest is there");
    job.mounts = {{root_ / "data", "/stargate-data/deep", true}, {root_ / "data", "/tmp/data", false}};
    EXPECT_EQ(output_of(job), "numbers\nread-only\nnumbers\nrest is there\n");
    EXPECT_TRUE(fs::exists(root_ / "data" / "new"));
    EXPECT_FALSE(fs::exists("/stargate-data"));
    // Beneath a new root the state folder is hidden as well.
    job.shell = "ls -A " + state_.string() + " | wc -l";
    job.folder = root_;
    EXPECT_EQ(output_of(job), "0\n");
}

TEST_F(SandboxTest, AMountShowsNothingThatTheSubmitterCouldNotReach) {
    if (!is_root()) GTEST_SKIP() << "needs another user's folder";
    fs::create_directories(root_ / "private" / "open");
    chmod((root_ / "private").c_str(), 0700);
    auto job = shell_job("true");
    job.mounts = {{root_ / "private" / "open", "/mnt", false}};
    const auto ended = run(job);
    EXPECT_EQ(ended.exit.kind, ExitKind::could_not_start);
    EXPECT_EQ(ended.exit.detail, "cannot mount " + (root_ / "private" / "open").string() + ": Permission denied");
}

/// A folder outside /tmp, which is private in a sandbox, and gone after the test.
class OutsideTmp {
public:
    OutsideTmp() { EXPECT_NE(mkdtemp(name_), nullptr); }
    OutsideTmp(const OutsideTmp&) = delete;
    OutsideTmp& operator=(const OutsideTmp&) = delete;
    ~OutsideTmp() {
        std::error_code ignored;
        fs::remove_all(name_, ignored);
    }
    [[nodiscard]] fs::path path() const { return name_; }

private:
    char name_[32] = "/var/tmp/stargate-test-XXXXXX";
};

TEST_F(SandboxTest, AMountTargetOpensNoFolderThatIsClosedToTheSubmitter) {
    if (!is_root()) GTEST_SKIP() << "needs another user's folder";
    const OutsideTmp outside;
    const auto closed = outside.path();
    std::ofstream{closed / "letter"} << "for nobody\n";
    chmod((closed / "letter").c_str(), 0644);
    auto job = shell_job("cat " + (closed / "letter").string());
    job.mounts = {{submit_, closed / "zzz", false}};
    for (const auto mode : {0700, 0711, 0744}) {
        chmod(closed.c_str(), static_cast<mode_t>(mode));
        const auto ended = run(job);
        EXPECT_EQ(ended.exit.kind, ExitKind::could_not_start) << std::oct << mode;
        EXPECT_EQ(ended.exit.detail, "cannot mount at " + (closed / "zzz").string() + ": Permission denied");
        EXPECT_EQ(output(ended.attempt), "");
    }
    // One that is open keeps its owner and mode, and all that was in it.
    chmod(closed.c_str(), 0755);
    job.shell = "stat -c '%a %u %g' " + closed.string() + "; ls " + closed.string() + "; touch " + closed.string() +
                "/more 2>/dev/null || echo refused";
    EXPECT_EQ(output_of(job), "755 0 0\nletter\nzzz\nrefused\n");
    EXPECT_FALSE(fs::exists(closed / "zzz"));
}

TEST_F(SandboxTest, AMountTargetIsNotSoughtThroughALinkThatLeadsNowhere) {
    if (!is_root()) GTEST_SKIP() << "needs a folder that the submitter cannot write";
    const OutsideTmp outside;
    chmod(outside.path().c_str(), 0755);
    fs::create_symlink(root_ / "made", outside.path() / "link");
    auto job = shell_job("true");
    job.mounts = {{submit_, outside.path() / "link" / "deep", false}};
    EXPECT_NE(run(job).exit.kind, ExitKind::exited);
    EXPECT_FALSE(fs::exists(root_ / "made"));
}

TEST_F(SandboxTest, AFileIsMountedInTheSubmittersOwnFolderWhichStaysItself) {
    const OutsideTmp outside;
    if (is_root()) { ASSERT_EQ(chown(outside.path().c_str(), account_.uid, account_.gid), 0); }
    std::ofstream{submit_ / "settings"} << "mine\n";
    auto job = shell_job("cat " + (outside.path() / "here").string() + "; touch " + (outside.path() / "kept").string());
    job.mounts = {{submit_ / "settings", outside.path() / "here", false}};
    EXPECT_EQ(output_of(job), "mine\n");
    EXPECT_TRUE(fs::exists(outside.path() / "kept"));
}

TEST_F(SandboxTest, AMountShowsNeitherTheMachinesProcessesNorItsDevices) {
    for (const auto* source : {"/proc", "/dev", "/proc/self", "/"}) {
        auto job = shell_job("ls /mnt");
        job.mounts = {{source, "/mnt", true}};
        const auto ended = run(job);
        EXPECT_EQ(ended.exit.kind, ExitKind::could_not_start) << source;
        EXPECT_NE(ended.exit.detail.find("would show the machine's own processes or devices"), std::string::npos)
            << ended.exit.detail;
    }
    const auto name = "/mnt/stargate-test-mounted-" + std::to_string(getpid());
    auto job = shell_job("echo shared > " + name + " && rm " + name + " && echo writable");
    job.mounts = {{"/dev/shm", "/mnt", false}};
    EXPECT_EQ(output_of(job), "writable\n");
}

TEST_F(SandboxTest, ADeviceFileInAMountIsOfNoUse) {
    if (!is_root()) GTEST_SKIP() << "needs to make a device file";
    const auto device = submit_ / "null";
    ASSERT_EQ(mknod(device.c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
    chmod(device.c_str(), 0666);
    auto job = shell_job("cat /mnt/null 2>/dev/null || echo refused");
    job.mounts = {{submit_, "/mnt", false}};
    EXPECT_EQ(output_of(job), "refused\n");
}

TEST_F(SandboxTest, TheStateFolderIsRefusedByEachOfItsPaths) {
    const auto other = root_ / "other";
    fs::create_directory(other);
    if (!is_root() || mount(state_.c_str(), other.c_str(), nullptr, MS_BIND, nullptr) != 0) {
        GTEST_SKIP() << "may not mount";
    }
    chmod((state_ / "logs").c_str(), 0755);
    auto job = shell_job("true");
    job.mounts = {{other / "logs", "/mnt", false}};
    EXPECT_EQ(run(job).exit.detail, "mount " + (other / "logs").string() + " lies inside the state folder");
    job = shell_job("true");
    job.folder = other / "logs";
    EXPECT_EQ(run(job).exit.detail, "folder " + (other / "logs").string() + " lies inside the state folder");
    umount2(other.c_str(), MNT_DETACH);
}

TEST_F(SandboxTest, StrictSharesMemoryAndShowsNoFolderOfTheMachine) {
    const auto name = "/dev/shm/stargate-test-" + std::to_string(getpid());
    EXPECT_EQ(output_of(strict_job("echo shared > " + name + " && echo written")), "written\n");
    EXPECT_TRUE(fs::exists(name));
    fs::remove(name);
    auto job = strict_job("[ -d /proc/" + std::to_string(getpid()) + " ] || echo hidden");
    job.folder = "/proc";
    EXPECT_EQ(output_of(job), "hidden\n");
}

TEST_F(SandboxTest, WithoutASandboxTheJobStillHasItsOwnFolder) {
    auto job = shell_job("echo 5 > $STARGATE_PROGRESS; echo $STARGATE_NOTICE");
    job.sandbox = Sandbox::none;
    const auto ended = run(job);
    EXPECT_EQ(ended.step, 5);
    EXPECT_EQ(output(ended.attempt), (folder_of(ended.attempt) / "job" / "notice").string() + "\n");
}

TEST_F(SandboxTest, StrictHasAReadOnlyRootButWritableHomeFolderAndTmp) {
    EXPECT_EQ(
        output_of(strict_job("touch here $HOME/there /tmp/x && echo written; touch /var/tmp/x 2>/dev/null || echo no")),
        "written\nno\n");
    if (is_root()) {
        chmod(root_.c_str(), 0777);
        auto job = strict_job("touch /root-owned 2>&1 | grep -o 'Read-only file system'");
        EXPECT_EQ(output_of(job), "Read-only file system\n");
    }
}

TEST_F(SandboxTest, StrictHasLoopbackAndNoOtherNetwork) {
    const std::string script = R"(python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname()); print("loopback")
import os; print(os.listdir("/sys/class/net") if False else open("/proc/net/dev").read().count(":"))
try: socket.create_connection(("192.0.2.1", 80), 1)
except OSError as e: print(e.strerror)')";
    EXPECT_EQ(output_of(strict_job(script)), "loopback\n1\nNetwork is unreachable\n");
}

TEST_F(SandboxTest, StrictRefusesTheCallsThatAttacksBeginWith) {
    const std::string script = R"(python3 -c '
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *a):
    r = getattr(libc, name)(*a); print(name, errno.errorcode.get(ctypes.get_errno()) if r < 0 else "allowed"); ctypes.set_errno(0)
call("ptrace", 0, 0, 0, 0); call("unshare", 0x10000000); call("mount", b"x", b"/tmp", b"tmpfs", 0, 0); call("getpid")
import threading; t = threading.Thread(target=print, args=("thread",)); t.start(); t.join()')";
    EXPECT_EQ(output_of(strict_job(script)), "ptrace EPERM\nunshare EPERM\nmount EPERM\ngetpid allowed\nthread\n");
}

TEST(ProbeSandbox, SaysThatItWorksHere) {
    const auto probed = probe_sandbox(STARGATE_SHIM);
    EXPECT_TRUE(probed) << probed.error().detail;
}

}  // namespace
}  // namespace stargate::local::testing
