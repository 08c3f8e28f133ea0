#pragma once

#include <optional>
#include <vector>

#include "core/state.hpp"

/// Taking capacity back for a job that cannot wait its turn: shrinking elastic work first, because it costs least,
/// then preempting lower classes, the domain first, the smallest set, the least work lost.
namespace stargate {

/// One attempt that gives GPUs back. `keep` is what its next generation holds; empty: it is preempted whole.
struct Victim {
    AttemptId attempt;
    Parts keep;
};

/// A place for a job on GPUs of which some are still held by the victims.
struct Reclaim {
    Parts parts;
    std::vector<Victim> victims;
};

/// The cheapest way to make room for the least that `spec` runs with, if there is one. Victims are attempts that
/// nobody has warned yet and whose lease is settled; elastic ones of the same or a lower class give what they hold
/// above their minimum; preempted ones are of a class that Settings lets this class preempt.
/// Nothing is touched that cannot help: an O(1) sum says no first. Cost O(nodes tried x attempts on them).
std::optional<Reclaim> reclaim(const State& state, Instant now, const JobSpec& spec);

/// `parts` of an attempt cut to `gpus` GPUs, the last ones leaving first. Needs 0 < gpus <= what they hold.
Parts cut_to(const JobSpec& spec, const Parts& parts, std::int32_t gpus);

}  // namespace stargate
