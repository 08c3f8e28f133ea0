#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <variant>

#include "base/units.hpp"

namespace stargate {

/// Who speaks: the store (new after a restore) and the leadership (rises with every start). Executors keep the highest
/// durably and refuse lower.
struct Authority {
    std::array<std::uint8_t, 16> incarnation{};
    std::uint64_t term = 0;
    friend bool operator==(const Authority&, const Authority&) = default;
};

/// GPUs of one node as bits: bit i is GPU i of the node.
using GpuMask = std::uint64_t;
constexpr int max_gpus_per_node = 64;  // the width of a GpuMask

/// Why running ranks are told to end. People read it in the notice file and in `events`.
/// `scaled`: fewer replicas are needed; `unanswered`: a replica did not do in time what it was told.
enum class EndCause : std::uint8_t {
    none,
    resize,
    preempt,
    cancel,
    time_limit,
    gang_broken,
    node_drained,
    superseded,
    scaled,
    unanswered,
};
BOOST_DESCRIBE_ENUM(EndCause, none, resize, preempt, cancel, time_limit, gang_broken, node_drained, superseded, scaled,
                    unanswered)

/// Start the ranks of one generation of an attempt on one node. `first` creates the attempt there, exclusively;
/// otherwise its shim must be there already, between two generations (or, resized in place, running).
struct RunRanks {
    AttemptId attempt;
    JobId job;
    NodeId node;
    std::uint32_t generation = 1;
    bool first = true;
    GpuMask gpus = 0;
    std::int32_t first_rank = 0;  // rank of this node's first process
    std::int32_t ranks = 1;       // processes on this node
    std::int32_t world_size = 1;  // processes in the gang
    std::int32_t task = 0;        // index in the array, 0 for a single job
    std::int32_t port = 0;        // MASTER_PORT, the same on every node of the gang
    MilliCpus cpus{};             // that it holds of its host, on this node
    Bytes memory{};
    friend bool operator==(const RunRanks&, const RunRanks&) = default;
};
BOOST_DESCRIBE_STRUCT(RunRanks, (),
                      (attempt, job, node, generation, first, gpus, first_rank, ranks, world_size, task, port, cpus,
                       memory))

/// Warn the ranks of a generation (SIGTERM and the notice file); those that leave are killed at the deadline.
/// `keep` ranks of this node go on (only when the job resizes in place), `next_world` is the size of the next
/// generation, 0 when none follows. Ordered before its RunRanks arrived, it leaves a tombstone that the late start
/// obeys.
struct EndRanks {
    AttemptId attempt;
    NodeId node;
    std::uint32_t generation = 1;
    EndCause cause = EndCause::cancel;
    std::int32_t keep = 0;
    std::int32_t next_world = 0;
    Instant deadline{};
    bool drains = false;  // a replica that may have requests: they end first, as far as the deadline leaves time
    friend bool operator==(const EndRanks&, const EndRanks&) = default;
};
BOOST_DESCRIBE_STRUCT(EndRanks, (), (attempt, node, generation, cause, keep, next_world, deadline, drains))

/// The end of the attempt on this node is committed: its exit record may go.
struct Forget {
    AttemptId attempt;
    NodeId node;
    friend bool operator==(const Forget&, const Forget&) = default;
};
BOOST_DESCRIBE_STRUCT(Forget, (), (attempt, node))

/// What a replica is told over its own port: to prove that it answers, to sleep when it has no request left, to wake.
enum class Telling : std::uint8_t { prove, sleep, wake };
BOOST_DESCRIBE_ENUM(Telling, prove, sleep, wake)

/// Tell a replica, until it has done so or `reply_by` is over. One that is to sleep is told when its last request has
/// ended, or at `drain_by`.
struct TellReplica {
    AttemptId attempt;
    NodeId node;
    std::int32_t port = 0;
    Telling what = Telling::prove;
    Instant reply_by{};
    Instant drain_by{};
    std::uint32_t telling = 0;  // counts what this attempt has been told; the answer has the same
    friend bool operator==(const TellReplica&, const TellReplica&) = default;
};
BOOST_DESCRIBE_STRUCT(TellReplica, (), (attempt, node, port, what, reply_by, drain_by, telling))

/// What the world shall do. Commands are owed by State and sent again after a restart, so each may arrive twice.
using Command = std::variant<RunRanks, EndRanks, Forget, TellReplica>;

}  // namespace stargate
