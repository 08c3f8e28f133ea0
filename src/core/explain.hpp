#pragma once

#include <vector>

#include "core/state.hpp"

namespace stargate {

/// Every reason why a waiting job does not run now, in the order in which the decision meets them; empty when the next
/// pass would start it, and for a job that does not wait. The same functions as in a pass, collecting instead of
/// stopping at the first; of GPUs, CPUs and memory all that is short, where one look for a place ends at the first.
/// Reads only; runs on the view. Cost as one placement.
std::vector<Refusal> explain(const State& state, Instant now, JobId job);

/// The reason that the REASON column shows: the first of explain, without the cost of a placement: what the last pass
/// recorded.
Refusal recorded_reason(const State& state, const Job& job);

}  // namespace stargate
