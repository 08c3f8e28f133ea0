#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "live/keep_log.hpp"
#include "live/writer.hpp"

namespace stargate::live {

/// Has somebody look after the log (keep_log) whenever enough facts have come since the last time, and then has the
/// writer change the rows that follow from it.
class Follower {
public:
    /// Runs keep_log on this state folder and returns what it did; soon, and with an error, once it is told to stop.
    using KeepLog = std::function<Result<LogKept>(std::stop_token)>;

    Follower(KeepLog keep_log, const LogLimits& limits, Writer& writer, std::uint64_t last_snapshot);

    /// From any thread: the log now ends with this fact.
    void log_reached(std::uint64_t fact);
    /// Returns once nothing comes from it any more; log_reached() stays harmless. The writer must still run.
    void stop();

private:
    void work(const std::stop_token& stop);
    /// False when it is worth another try soon.
    bool look_after_the_log(const std::stop_token& stop);
    Result<std::uint64_t> have_written(const std::function<Result<std::uint64_t>(store::Store&)>& change);

    KeepLog keep_log_;
    LogLimits limits_;
    Writer& writer_;
    std::mutex mutex_;
    std::condition_variable_any reached_;
    std::uint64_t looked_after_ = 0;  // the log's end when this was last done
    std::uint64_t newest_ = 0;
    std::jthread thread_;
};

/// keep_log in a child process, which reads the log like any other reader and never sees the writer's memory:
/// `program` follower --state `folder`. The child ends with this process, or when told to stop.
[[nodiscard]] Result<LogKept> run_follower(const std::string& program, const std::string& folder,
                                           const LogLimits& limits, const std::stop_token& stop);

/// What that child does: looks after the log, calls `then` with what it folds to, and prints for its parent what was
/// done. Returns an exit status.
int follow_once(store::Reader& store, const std::string& folder, const LogLimits& limits,
                const std::function<void(const State&)>& then);

}  // namespace stargate::live
