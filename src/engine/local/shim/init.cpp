#include "engine/local/shim/init.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/local/shim/init_messages.hpp"
#include "engine/local/shim/kill_children.hpp"
#include "engine/local/shim/rank.hpp"
#include "engine/local/shim/sandbox.hpp"
#include "engine/local/shim/terminal.hpp"

namespace stargate::local {

namespace {

/// A rank's main process. It leads a process group of its own.
struct Child {
    pid_t pid = 0;
    int status = 0;
    bool is_reaped = false;
    bool is_warned = false;
    bool is_told = false;  // the shim knows that it has ended

    /// Reaches the group; or, when it has not made one yet, the process.
    void send(int number) const {
        if (kill(-pid, number) != 0 && !is_reaped) kill(pid, number);
    }
    [[nodiscard]] bool has_ended() const { return is_reaped && (!is_warned || kill(-pid, 0) != 0); }
};

bool ignores(pid_t pid, int number) {
    const auto path = "/proc/" + std::to_string(pid) + "/status";
    const Fd file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    char text[4096];
    const auto got = file ? read(file.get(), text, sizeof text - 1) : -1;
    if (got <= 0) return false;
    text[got] = '\0';
    const char* ignored = strstr(text, "\nSigIgn:");
    return ignored != nullptr && (strtoull(ignored + 8, nullptr, 16) >> (number - 1) & 1U) != 0;
}

class Init {
public:
    Init(const Spec& spec, Fd link) : spec_{spec}, link_{std::move(link)} {}

    [[noreturn]] void serve() {
        sigset_t watched;
        sigemptyset(&watched);
        sigaddset(&watched, SIGCHLD);
        sigprocmask(SIG_BLOCK, &watched, nullptr);
        signals_ = Fd{signalfd(-1, &watched, SFD_NONBLOCK | SFD_CLOEXEC)};
        while (true) {
            pollfd polled[] = {{link_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
            // A member of a lingering group may be reaped by someone else, unseen by us: look again now and then.
            constexpr int linger_check_ms = 50;
            if (poll(polled, 2, is_lingering() || is_leaving_terminal() ? linger_check_ms : -1) < 0) continue;
            if (is_leaving_terminal()) hang_up_at_prompt();
            if (polled[1].revents != 0) reap();
            tell_ended();
            if (polled[0].revents != 0) take_orders();
            if (is_started_ &&
                std::all_of(children_.begin(), children_.end(), [](const Child& c) { return c.is_told; })) {
                finish();
            }
        }
    }

private:
    void answer(const InitAnswer& message) { send_packet(link_.get(), encode(message)); }

    void take_orders() {
        bool closed = false;
        while (const auto packet = receive_packet(link_.get(), closed)) {
            auto order = decode<InitOrder>(packet->message);
            if (!order) continue;
            if (const auto* start = std::get_if<StartRanks>(&*order)) start_ranks(*start, packet->descriptors);
            if (const auto* send = std::get_if<SignalRanks>(&*order)) signal_ranks(*send);
        }
        if (closed) finish();  // the shim is dead
    }

    void start_ranks(const StartRanks& start, const std::vector<Fd>& descriptors) {
        children_.resize(static_cast<std::size_t>(start.from));
        RankFailure why;
        if (spec_.terminal) start_at_terminal(start.run, why);
        for (auto rank = start.from; !spec_.terminal && rank < start.run.ranks && why.error == 0; ++rank) {
            const auto at = 2 * static_cast<std::size_t>(rank - start.from);
            if (at + 1 >= descriptors.size()) {  // the kernel leaves out those that would pass our limit
                why = {.local_rank = rank, .stage = RankFailure::streams, .error = EMFILE};
                break;
            }
            start_rank(start.run, rank, descriptors[at].get(), descriptors[at + 1].get(), why);
        }
        is_started_ = true;
        Executed executed{.generation = start.run.generation, .code = 0, .why = {}};
        if (why.error != 0) {
            executed.code = why.stage == RankFailure::streams ? 0 : why.error == ENOENT ? 127 : 126;
            executed.why = describe(spec_, why);
        }
        answer(executed);
    }

    void start_rank(const Run& run, std::int32_t rank, int output, int errors, RankFailure& why) {
        // vfork: no copy of our memory is made only to be thrown away, and when it returns the command runs.
        const auto pid = vfork();
        if (pid == 0) become_rank(spec_, run, rank, output, errors, why);
        if (pid < 0) why = {.local_rank = rank, .stage = RankFailure::command, .error = errno};
        if (pid > 0) children_.push_back({.pid = pid});
    }

    void start_at_terminal(const Run& run, RankFailure& why) {
        auto terminal = open_terminal(spec_.account.uid);
        if (!terminal.slave || !send_packet(link_.get(), encode(InitAnswer{TerminalMade{}}), {terminal.master.get()})) {
            why = {.local_rank = 0, .stage = RankFailure::streams, .error = errno};
            return;
        }
        start_rank(run, 0, terminal.slave.get(), terminal.slave.get(), why);
        terminal_ = std::move(terminal.master);
    }

    void signal_ranks(const SignalRanks& order) {
        const auto until = std::min(children_.size(), static_cast<std::size_t>(std::max(order.until, 0)));
        for (auto at = static_cast<std::size_t>(std::max(order.from, 0)); at < until; ++at) {
            auto& child = children_[at];
            if (child.is_told) continue;
            if (order.signal == SIGTERM && !child.is_reaped) child.is_warned = true;
            child.send(order.signal);
            if (order.signal == SIGTERM && spec_.terminal) warn_at_terminal(child);
        }
    }

    /// What runs at a shell's prompt has a group of its own, and is warned too. A shell does not heed SIGTERM: as soon
    /// as it stands at its prompt it hears that its terminal goes, which it does heed.
    void warn_at_terminal(const Child& child) const {
        pid_t foreground = 0;
        if (!terminal_ || ioctl(terminal_.get(), TIOCGPGRP, &foreground) != 0 || foreground <= 0) return;
        if (foreground != child.pid) kill(-foreground, SIGTERM);
    }

    [[nodiscard]] bool is_leaving_terminal() const {
        return terminal_ && std::any_of(children_.begin(), children_.end(),
                                        [](const Child& c) { return c.is_warned && !c.is_reaped; });
    }

    void hang_up_at_prompt() const {
        pid_t foreground = 0;
        if (ioctl(terminal_.get(), TIOCGPGRP, &foreground) != 0) return;
        for (const auto& child : children_) {
            if (child.is_warned && !child.is_reaped && foreground == child.pid && ignores(child.pid, SIGTERM)) {
                child.send(SIGHUP);
            }
        }
    }

    void reap() {
        signalfd_siginfo about;
        while (read(signals_.get(), &about, sizeof about) > 0) {}
        int status = 0;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            for (auto& child : children_) {
                if (child.pid != pid || child.is_reaped) continue;
                child.is_reaped = true;
                child.status = status;
            }
        }
    }

    void tell_ended() {
        for (std::size_t rank = 0; rank < children_.size(); ++rank) {
            auto& child = children_[rank];
            if (child.is_told || !child.has_ended()) continue;
            child.is_told = true;
            answer(RankEnded{static_cast<std::int32_t>(rank), child.status});
        }
    }

    [[nodiscard]] bool is_lingering() const {
        return std::any_of(children_.begin(), children_.end(),
                           [](const Child& c) { return c.is_reaped && !c.is_told; });
    }

    /// Leaves nothing alive, then tells and ends.
    [[noreturn]] void finish() {
        if (spec_.confinement != Confinement::none) {
            kill(-1, SIGKILL);
            while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {}
        } else {
            kill_children(signals_.get());
        }
        answer(AllGone{});
        _exit(0);
    }

    const Spec& spec_;
    Fd link_;
    Fd signals_;
    std::vector<Child> children_;  // by local rank
    Fd terminal_;                  // the master side, where there is one
    bool is_started_ = false;
};

/// Closes every descriptor but the standard ones and these.
void keep_only(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    unsigned from = STDERR_FILENO + 1;
    for (const int number : kept) {
        const auto next = static_cast<unsigned>(number);
        if (next > from) close_range(from, next - 1, 0);
        from = std::max(from, next + 1);
    }
    close_range(from, ~0U, 0);
}

[[noreturn]] void be_init(const Spec& spec, std::uint64_t gpus, int lock, Fd link, uid_t uid, gid_t gid) {
    // Dies with the shim; the end of the link tells it, too, should the shim have died before this line.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (spec.confinement == Confinement::none) {
        prctl(PR_SET_PDEATHSIG, 0);  // without a namespace only an orderly end kills what is beneath us
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    }
    umask(0);  // modes are meant as they are given
    keep_only({lock, link.get()});
    const auto fault = build_sandbox(spec, gpus, uid, gid);
    if (spec.confinement != Confinement::none) prctl(PR_SET_PDEATHSIG, SIGKILL);  // AsAccount has cleared it
    prctl(PR_SET_DUMPABLE, 0);  // a job of our own uid may not look into us
    send_packet(link.get(), encode(InitAnswer{fault ? Built{fault->kind, fault->why} : Built{}}));
    if (fault) _exit(1);
    if (chdir("/") != 0) _exit(1);
    Init{spec, std::move(link)}.serve();
}

}  // namespace

std::optional<InitHandle> start_init(const Spec& spec, std::uint64_t gpus, int lock) {
    auto pair = make_packet_pair();
    if (!pair.ours) return std::nullopt;
    const auto uid = geteuid();
    const auto gid = getegid();
    int process = -1;
    clone_args arguments{};
    arguments.flags = namespace_flags(spec.confinement) | CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uint64_t>(&process);
    arguments.exit_signal = SIGCHLD;
    const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
    if (pid == 0) {
        pair.ours.reset();
        be_init(spec, gpus, lock, std::move(pair.theirs), uid, gid);
    }
    if (pid < 0) return std::nullopt;
    return InitHandle{pid, Fd{process}, std::move(pair.ours)};
}

}  // namespace stargate::local
