#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

/// What the store keeps. Bodies are opaque bytes: the store knows nothing of the core's types, so that a new fact or a
/// new version of one needs no change here.
namespace stargate::store {

/// Names one life of a store: made with it, and anew when a backup is restored.
using Incarnation = std::array<std::uint8_t, 16>;

/// Every command carries it, and executors refuse a lower term of the same incarnation.
struct Identity {
    Incarnation incarnation{};
    std::uint64_t term = 0;  // one leadership; 0 before the first
    friend bool operator==(const Identity&, const Identity&) = default;
};

struct LoggedInput {
    Instant at{};
    std::uint16_t type = 0;
    std::string body;
    friend bool operator==(const LoggedInput&, const LoggedInput&) = default;
};

struct LoggedFact {
    std::uint16_t type = 0;
    std::string body;
    /// Index, in the same batch, of the input that caused it. None: an input that is not logged (a soft one).
    std::optional<std::uint32_t> cause;
    friend bool operator==(const LoggedFact&, const LoggedFact&) = default;
};

/// How a job, or each of an array of jobs with ids job, job + 1 ..., is run. Kept out of State, which need not know.
struct LaunchRow {
    JobId job;
    std::uint32_t count = 1;  // jobs in the array, at least 1
    std::string body;
    friend bool operator==(const LaunchRow&, const LaunchRow&) = default;
};

/// A job that ended and has left State.
struct HistoryRow {
    JobId job;
    Instant at{};  // when it ended
    std::string body;
    friend bool operator==(const HistoryRow&, const HistoryRow&) = default;
};

/// A request already answered: the same tenant, key and body get the same job, another body is refused.
struct KeyRow {
    TenantId tenant;
    std::string key;
    Digest body_hash{};
    JobId first_job;
    Instant expires_at{};
    friend bool operator==(const KeyRow&, const KeyRow&) = default;
};

/// A file beside the store that holds State as of after `fact_seq`.
struct SnapshotRow {
    std::uint64_t fact_seq = 0;
    std::uint64_t input_seq = 0;
    std::string file;  // its name in the folder for snapshots, without any '/'
    Digest digest{};   // of the whole file
    bool verified = false;
    friend bool operator==(const SnapshotRow&, const SnapshotRow&) = default;
};

/// What one round of the writer leaves: durable as a whole or not at all.
struct Batch {
    Instant at{};
    std::vector<LoggedInput> inputs;
    std::vector<LoggedFact> facts;
    std::vector<LaunchRow> launches;
    std::vector<HistoryRow> history;
    std::vector<KeyRow> keys;
};

/// `not_written` is proven, and the store goes on. After `unknown` the process must stop and look after its next start.
enum class Outcome { written, not_written, unknown };

struct Committed {
    Outcome outcome = Outcome::unknown;
    std::uint64_t first_input = 0;  // seq of the batch's first input and fact, or of the next one if it had none;
    std::uint64_t first_fact = 0;   // 0 unless written
    Error error;                    // why not, unless written
};

/// The seqs in the log, [first, end). Both kinds count from 1 without a gap; the first ones may have been forgotten.
struct LogExtent {
    std::uint64_t first_input = 1;
    std::uint64_t end_input = 1;
    std::uint64_t first_fact = 1;
    std::uint64_t end_fact = 1;
    friend bool operator==(const LogExtent&, const LogExtent&) = default;
};

/// Rows of the log as a reader sees them. `body` is valid only during the call.
struct InputRow {
    std::uint64_t seq = 0;
    Instant at{};
    std::uint16_t type = 0;
    std::string_view body;
};
struct FactRow {
    std::uint64_t seq = 0;
    std::uint64_t input_seq = 0;  // the input that caused it; 0 when that one is not logged
    std::uint16_t type = 0;
    std::string_view body;
};

/// What may be forgotten now. By default nothing; times are exclusive.
struct Retention {
    Instant keys_expired_before = Instant::min();
    Instant history_before = Instant::min();
    std::vector<JobId> launches;      // first ids of arrays of which every job has ended
    std::uint64_t inputs_before = 0;  // seqs, for a log that snapshots (and segments) have made superfluous
    std::uint64_t facts_before = 0;
    std::uint32_t row_limit = 10'000;  // of each kind in one call, so that no commit waits long behind it
};

}  // namespace stargate::store
