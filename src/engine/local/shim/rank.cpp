#include "engine/local/shim/rank.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>

#include "engine/local/posix.hpp"
#include "engine/local/shim/environment.hpp"
#include "engine/local/shim/seccomp.hpp"

namespace stargate::local {

namespace {

void reset_signals() {
    // Past libc, which neither shows nor resets the two signals that it keeps for itself; posix_spawn has left them
    // ignored, and what is ignored stays so through exec. All zeros: default action, no flags, empty mask.
    const unsigned long defaults[4] = {};
    for (int number = 1; number < NSIG; ++number) {
        syscall(SYS_rt_sigaction, number, defaults, nullptr, sizeof(unsigned long));
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// The control plane raises its own soft limit; programs that use select() rely on the one that is usual here.
void restore_open_files(std::uint64_t soft) {
    rlimit files{};
    if (soft == 0 || getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = std::min<rlim_t>(soft, files.rlim_max);
    setrlimit(RLIMIT_NOFILE, &files);
}

/// Root's session keyring goes to whoever is executed in its session, along with the keys in it. Where the kernel has
/// no keyrings, or keeps all of us from them, there is none to leave.
bool leave_keyring() {
    if (geteuid() != 0) return true;
    return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) >= 0 || errno == ENOSYS || errno == EPERM;
}

/// From root to the submitter. In a user namespace we are the submitter already, and may not change groups.
bool become_account(const RunAs& account) {
    if (geteuid() != 0) return geteuid() == account.uid;
    const std::vector<gid_t> groups(account.groups.begin(), account.groups.end());
    return setgroups(groups.size(), groups.data()) == 0 && setresgid(account.gid, account.gid, account.gid) == 0 &&
           setresuid(account.uid, account.uid, account.uid) == 0;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> list;
    for (auto& text : texts) list.push_back(text.data());
    list.push_back(nullptr);
    return list;
}

}  // namespace

std::string describe(const Spec& spec, const RankFailure& why) {
    const auto rank = "rank " + std::to_string(why.local_rank) + ": ";
    switch (why.stage) {
        case RankFailure::account:
            return failure(rank + "cannot become user " + spec.account.name, why.error);
        case RankFailure::folder:
            return failure(rank + "cannot enter folder " + spec.folder, why.error);
        case RankFailure::filter:
            return failure(rank + "cannot set the system call filter", why.error);
        case RankFailure::streams:
            return failure(rank + "cannot take its streams", why.error);
        case RankFailure::command:
            break;
    }
    return failure(rank + "cannot execute " + (spec.argv.empty() ? "/bin/sh" : spec.argv.front()), why.error);
}

void become_rank(const Spec& spec, const Run& run, std::int32_t local_rank, int output, int errors, RankFailure& why) {
    const auto give_up = [&](RankFailure::Stage stage) {
        why = {.local_rank = local_rank, .stage = stage, .error = errno};
        _exit(127);
    };
    setsid();
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    if (spec.terminal && (dup2(output, STDIN_FILENO) < 0 || ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0)) {
        give_up(RankFailure::streams);
    }
    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    restore_open_files(spec.open_files);
    umask(022);
    if (!leave_keyring()) give_up(RankFailure::account);
    if (!become_account(spec.account)) give_up(RankFailure::account);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // cleared by the change of account, so only now
    if (chdir(spec.folder.c_str()) != 0) give_up(RankFailure::folder);

    auto environment = rank_environment(spec, run, local_rank);
    auto arguments = spec.argv;
    if (arguments.empty()) arguments = {"/bin/sh", "-c", spec.command};
    const auto argument_list = pointers(arguments);
    auto environment_list = pointers(environment);
    environ = environment_list.data();  // execvp searches the PATH of the job, not ours
    if (spec.confinement == Confinement::strict && !forbid_dangerous_calls()) give_up(RankFailure::filter);
    reset_signals();  // last: a warning that comes before this is kept, and ends us here
    execvp(argument_list.front(), argument_list.data());
    give_up(RankFailure::command);
    __builtin_unreachable();
}

}  // namespace stargate::local
