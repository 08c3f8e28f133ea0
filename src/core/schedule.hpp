#pragma once

#include "core/core.hpp"
#include "core/policy/place.hpp"

namespace stargate {

/// One scheduling pass: claims that became free start, waiting jobs start in order or say why not, ended jobs retire,
/// spare GPUs go to elastic work. Cost O(shapes + placements tried), cut off at Settings::pass_steps.
void schedule(Core& core, Instant now);

/// What a pass that starts nothing does: growth whose time has come is planned anew by the next one.
void put_growth_off(Core& core, Instant now);

/// Whether the last pass was cut off before it had come to everyone since something last changed: another Pass goes on
/// where it ended, and when nothing comes of it, a bounded number of them are enough. Asked right after a Pass, by
/// whoever feeds the core. Cost O(shapes) when one was cut off.
bool pass_is_unfinished(const State& state);

/// Where the job would start now among what is free, as large as it may; or why it cannot at all.
Placement find_place(const State& state, Instant now, JobId job, const JobSpec& spec);

/// Notes why this job could not be placed, unless that is known.
void note_blocked(Core& core, Instant now, JobId job, Refusal why);

}  // namespace stargate
