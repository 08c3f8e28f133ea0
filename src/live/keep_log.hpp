#pragma once

#include <boost/describe.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/disk.hpp"
#include "loop/fold.hpp"
#include "store/port.hpp"

/// How the log stays small: snapshots are made, checked, and let old rows move from the database to sealed segments.
/// Two sides share the work. The *follower*, a process of its own, reads the store and writes files; the control
/// plane's one writer then changes rows, of which it forgets only what the follower has seen durable in a segment.
namespace stargate::live {

/// How much is kept where. Tests use small numbers.
struct LogLimits {
    /// Facts between two snapshots, and in one segment. Folding so many takes well under a second, which bounds a
    /// recovery.
    std::uint64_t facts_between_snapshots = 200'000;
    /// Segments kept, some 30 MB each with these numbers; older ones are removed. Events older than the database are in
    /// them for an audit; nothing that runs needs them.
    std::uint64_t segments_kept = 100;
    /// After a failure, as for want of room, it is tried again this soon, and then ever later.
    std::chrono::milliseconds first_retry{60'000};
};

/// What the follower did to files: what the rows of the store should follow.
struct LogKept {
    std::vector<std::uint64_t> verified;   // snapshots, by fact, that the log folds to
    std::vector<std::uint64_t> differing;  // that it does not: set aside, with the suffix `.differs`
    std::uint64_t written_fact = 0;        // the new snapshot; 0: none
    std::uint64_t written_input = 0;
    std::string written_file;
    Digest written_digest{};
    std::uint64_t sealed_fact = 0;  // everything up to these lies in durable segments, or is too old to be kept
    std::uint64_t sealed_input = 0;
    std::string not_sealed;  // why nothing could be sealed, which is worth another try soon; empty: all went well
};
BOOST_DESCRIBE_STRUCT(LogKept, (),
                      (verified, differing, written_fact, written_input, written_file, written_digest, sealed_fact,
                       sealed_input, not_sealed))

/// The follower's side. Folds from the newest verified snapshot (or from nothing) and compares every later snapshot,
/// read back from its file, with what the log folds to; folds on to the end and writes the next snapshot; seals what is
/// older than two verified ones. A segment that cannot be read or is of another log is set aside and told of once, and
/// sealing goes on behind it. Leaves in `state` what the log folds to. One at a time for each folder; may be cut off
/// at any point and run again.
[[nodiscard]] Result<LogKept> keep_log(store::Reader& store, const std::string& folder, const LogLimits& limits,
                                       Folded& state, Disk& disk = real_disk());

/// The writer's side: registers, verifies and forgets snapshots.
[[nodiscard]] Result<void> record_snapshots(store::Store& store, const LogKept& kept);

/// Then forgets rows that lie in segments, at most `row_limit` of each kind; returns how many went. Call it until that
/// is 0.
[[nodiscard]] Result<std::uint64_t> forget_sealed(store::Store& store, const LogKept& kept, std::uint32_t row_limit);

/// Whether nobody can ask for this job any more, so that its output may go: it was there once, and has left State and
/// the history. `state` may be older than the store.
[[nodiscard]] Result<bool> is_forgotten(store::Reader& store, const State& state, JobId job);

}  // namespace stargate::live
