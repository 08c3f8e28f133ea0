#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "core/command.hpp"

namespace stargate {

/// How the ranks of one generation on one node ended, the worst of them.
enum class ExitKind : std::uint8_t {
    exited,           // code is the exit status
    signalled,        // code is the signal
    could_not_start,  // never ran: folder, program or account; the user's to mend
    refused,          // the sandbox could not be built, a tombstone stood there: ours to mend
    killed,           // ended by the executor at a deadline or by a limit
};
BOOST_DESCRIBE_ENUM(ExitKind, exited, signalled, could_not_start, refused, killed)

struct Exit {
    ExitKind kind = ExitKind::exited;
    std::int32_t code = 0;
    std::string detail;  // one sentence where kind alone does not say enough
    friend bool operator==(const Exit&, const Exit&) = default;
};
BOOST_DESCRIBE_STRUCT(Exit, (), (kind, code, detail))

/// All ranks of this generation on this node have been executed.
struct RanksRunning {
    AttemptId attempt;
    NodeId node;
    std::uint32_t generation = 1;
    friend bool operator==(const RanksRunning&, const RanksRunning&) = default;
};
BOOST_DESCRIBE_STRUCT(RanksRunning, (), (attempt, node, generation))

/// All ranks of this generation that were to end on this node are gone, and so is every process they left behind.
/// `warned`: they ended after a warning reached them. `step`: last step written to $STARGATE_PROGRESS, -1 if none.
/// `cancelled`: that warning meant the end of the job, whoever gave it: also `down --jobs` where no control plane is.
struct RanksEnded {
    AttemptId attempt;
    NodeId node;
    std::uint32_t generation = 1;
    Exit exit;
    bool warned = false;
    std::int64_t step = -1;
    std::int32_t left = 0;  // ranks that were to go on (EndRanks::keep) and do; 0: none is left
    bool cancelled = false;
    friend bool operator==(const RanksEnded&, const RanksEnded&) = default;
};
BOOST_DESCRIBE_STRUCT(RanksEnded, (), (attempt, node, generation, exit, warned, step, left, cancelled))

/// Proof that the attempt is dead on this node though it left no exit record: another boot id, or its lock is free.
struct AttemptLost {
    AttemptId attempt;
    NodeId node;
    std::string detail;
    friend bool operator==(const AttemptLost&, const AttemptLost&) = default;
};
BOOST_DESCRIBE_STRUCT(AttemptLost, (), (attempt, node, detail))

/// The work on a node that State does not know, all of it: an absolute level, told again whenever it changes.
struct ForeignFound {
    NodeId node;
    GpuMask gpus = 0;                 // that its live attempts hold
    std::vector<AttemptId> attempts;  // ids that are taken there, in order; also of those that have ended since
    std::int32_t running = 0;         // how many of them are alive
    MilliCpus cpus{};                 // that these hold of their host
    Bytes memory{};
    friend bool operator==(const ForeignFound&, const ForeignFound&) = default;
};
BOOST_DESCRIBE_STRUCT(ForeignFound, (), (node, gpus, attempts, running, cpus, memory))

/// A replica answers, after its start or after it was told to wake.
struct ReplicaReady {
    AttemptId attempt;
    std::uint32_t telling = 0;  // which of those this answers: one that comes late or twice answers none
    friend bool operator==(const ReplicaReady&, const ReplicaReady&) = default;
};
BOOST_DESCRIBE_STRUCT(ReplicaReady, (), (attempt, telling))

/// A replica has no request under way and gets none, and it sleeps; or does not know how to (`can_sleep` is false).
struct ReplicaAsleep {
    AttemptId attempt;
    bool can_sleep = true;
    std::uint32_t telling = 0;
    friend bool operator==(const ReplicaAsleep&, const ReplicaAsleep&) = default;
};
BOOST_DESCRIBE_STRUCT(ReplicaAsleep, (), (attempt, can_sleep, telling))

/// A replica does not do what it must, and is to be started anew: `detail` is a sentence that says how. Somebody else
/// listens on its port, or it has stopped answering.
struct ReplicaFailed {
    AttemptId attempt;
    std::uint32_t telling = 0;  // as it was told last: of one that has been told something else since it means nothing
    std::string detail;
    friend bool operator==(const ReplicaFailed&, const ReplicaFailed&) = default;
};
BOOST_DESCRIBE_STRUCT(ReplicaFailed, (), (attempt, telling, detail))

/// A gateway has had the beginning of a good answer from a replica, the first since it was told that.
struct ReplicaAnswered {
    AttemptId attempt;
    std::uint32_t telling = 0;
    friend bool operator==(const ReplicaAnswered&, const ReplicaAnswered&) = default;
};
BOOST_DESCRIBE_STRUCT(ReplicaAnswered, (), (attempt, telling))

/// A step that the job says it can resume from; an absolute level, never falling within an attempt.
struct Progress {
    AttemptId attempt;
    std::int64_t step = 0;
    friend bool operator==(const Progress&, const Progress&) = default;
};
BOOST_DESCRIBE_STRUCT(Progress, (), (attempt, step))

}  // namespace stargate
