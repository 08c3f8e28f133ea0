#include "live/follower.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <future>
#include <memory>
#include <vector>

#include "base/codec.hpp"
#include "base/file_lock.hpp"
#include "base/print_error.hpp"

namespace stargate::live {

namespace {
/// Also where few facts come, the log is looked after this often: output of forgotten jobs goes with it.
constexpr std::chrono::hours longest_pause{24};
constexpr std::chrono::hours longest_retry{1};
/// Rows forgotten between two batches: a few milliseconds' work, which the next batch waits for.
constexpr std::uint32_t rows_forgotten_at_once = 5'000;

std::string read_all(int from) {
    std::string bytes;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = ::read(from, buffer.data(), buffer.size())) > 0;) {
        bytes.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return bytes;
}

/// Starts the program with `output` as its standard output and without any other descriptor of ours. 0: it failed.
pid_t spawn(std::vector<std::string> words, int output) {
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child = 0;
    const int failed = posix_spawn(&child, arguments[0], &files, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    return failed == 0 ? child : 0;
}
}  // namespace

Follower::Follower(KeepLog keep_log, const LogLimits& limits, Writer& writer, std::uint64_t last_snapshot)
    : keep_log_{std::move(keep_log)},
      limits_{limits},
      writer_{writer},
      looked_after_{last_snapshot},
      newest_{last_snapshot},
      thread_{[this](const std::stop_token& stop) { work(stop); }} {}

void Follower::stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
}

void Follower::log_reached(std::uint64_t fact) {
    bool enough = false;
    {
        const std::lock_guard lock{mutex_};
        newest_ = fact;
        enough = newest_ - looked_after_ >= limits_.facts_between_snapshots;
    }
    if (enough) reached_.notify_one();
}

void Follower::work(const std::stop_token& stop) {
    std::chrono::milliseconds pause = longest_pause;
    bool has_failed = false;
    std::unique_lock lock{mutex_};
    while (!stop.stop_requested()) {
        reached_.wait_for(lock, stop, pause,
                          [this] { return newest_ - looked_after_ >= limits_.facts_between_snapshots; });
        if (stop.stop_requested() || (newest_ == looked_after_ && !has_failed)) continue;
        looked_after_ = newest_;  // also when it fails: tried again after a while or as many facts, not at once
        lock.unlock();
        const bool is_done = look_after_the_log(stop);
        lock.lock();
        if (is_done) {
            pause = longest_pause;
        } else {
            pause = has_failed ? std::min<std::chrono::milliseconds>(pause * 2, longest_retry) : limits_.first_retry;
        }
        has_failed = !is_done;
    }
}

bool Follower::look_after_the_log(const std::stop_token& stop) {
    const auto kept = keep_log_(stop);
    if (!kept) {
        if (stop.stop_requested()) return false;
        print_error("stargate: no snapshot was made: {}; the log still has everything\n", kept.error().detail);
        return false;
    }
    const auto recorded = have_written([&](store::Store& store) -> Result<std::uint64_t> {
        return record_snapshots(store, *kept).map([] { return std::uint64_t{1}; });
    });
    auto more = recorded;
    while (more && *more > 0 && !stop.stop_requested()) {
        more = have_written([&](store::Store& store) { return forget_sealed(store, *kept, rows_forgotten_at_once); });
    }
    if (!more) print_error("stargate: old rows of the log stay for now: {}\n", more.error().detail);
    return more && kept->not_sealed.empty();
}

/// Waits for the writer to do it between two batches.
Result<std::uint64_t> Follower::have_written(const std::function<Result<std::uint64_t>(store::Store&)>& change) {
    auto done = std::make_shared<std::promise<Result<std::uint64_t>>>();
    auto outcome = done->get_future();
    writer_.between_batches([this, &change, done](store::Store& store) -> Result<void> {
        // On a full disk the room that is left is not for housekeeping.
        const auto changed = writer_.is_full() ? fail(Fault::full, "its disk is full") : change(store);
        done->set_value(changed);
        return changed ? Result<void>{} : Result<void>{tl::unexpected(changed.error())};
    });
    return outcome.get();
}

Result<LogKept> run_follower(const std::string& program, const std::string& folder, const LogLimits& limits,
                             const std::stop_token& stop) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_with_errno("make", "a pipe");
    const FileDescriptor from_child{ends[0]};
    FileDescriptor to_us{ends[1]};
    const auto child = spawn(
        {program, "follower", "--state", folder, "--snapshot-every", fmt::format("{}", limits.facts_between_snapshots),
         "--keep-segments", fmt::format("{}", limits.segments_kept)},
        to_us.get());
    if (child == 0) return fail(Fault::unavailable, "the follower cannot be started: " + program);
    to_us = {};
    std::string printed;
    {
        const std::stop_callback end_it{stop, [child] { ::kill(child, SIGKILL); }};
        printed = read_all(from_child.get());
    }
    int status = 1;
    ::waitpid(child, &status, 0);
    const auto kept = decoded<LogKept>(printed);
    if (status != 0 || !kept) return fail(Fault::unavailable, fmt::format("the follower failed (status {})", status));
    return *kept;
}

int follow_once(store::Reader& store, const std::string& folder, const LogLimits& limits,
                const std::function<void(const State&)>& then) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Only one at a time: another control plane's, dead since, may not be quite gone.
    const auto lock = FileLock::take(folder + "/follower.lock");
    Folded state;
    const auto kept = lock ? keep_log(store, folder, limits, state) : Result<LogKept>{tl::unexpected(lock.error())};
    if (!kept) {
        print_error("stargate: {}\n", kept.error().detail);
        return 1;
    }
    then(state.state);
    const auto printed = encoded(*kept);
    std::fwrite(printed.data(), 1, printed.size(), stdout);
    return 0;
}

}  // namespace stargate::live
