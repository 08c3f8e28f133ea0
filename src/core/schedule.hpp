#pragma once

#include "core/core.hpp"
#include "core/policy/place.hpp"

namespace stargate {

/// One scheduling pass: claims that became free start, waiting jobs start in order or say why not, ended jobs retire,
/// spare GPUs go to elastic work. Cost O(shapes + placements tried), cut off at Settings::pass_steps.
void schedule(Core& core, Instant now);

/// Where the job would start now among what is free, as large as it may; or why it cannot at all.
Placement find_place(const State& state, Instant now, JobId job, const JobSpec& spec);

}  // namespace stargate
