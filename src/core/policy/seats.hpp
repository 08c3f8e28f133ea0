#pragma once

#include <optional>

#include "core/policy/reclaim.hpp"
#include "core/state.hpp"

/// Where a replica computes: in the seat that it sleeps in, or, when it is born, on GPUs of one node that are no other
/// replica's seat.
namespace stargate {

/// A way to a place, or why there is none.
struct Room {
    std::optional<Reclaim> plan;
    Refusal why;
};

/// Room for the replica `job`, which waits or sleeps: what is free first, then what others are about to let go of, then
/// what elastic work holds above its minimum, and, for one that is to serve, what lower classes hold. Cost O(GPUs of
/// the node + attempts on it) for one that sleeps, and that times the nodes tried for one that waits.
Room room_for_replica(const State& state, Instant now, const Job& job);

}  // namespace stargate
