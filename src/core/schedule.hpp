#pragma once

#include "core/core.hpp"
#include "core/policy/place.hpp"

namespace stargate {

/// One scheduling pass: claims that became free start, waiting jobs start in order or say why not, ended jobs retire,
/// spare GPUs go to elastic work. Cost O(shapes + placements tried), cut off at Settings::pass_steps; then
/// Counters::left tells how many shapes it did not come to, and passes that go on until that is 0 come to everyone.
void schedule(Core& core, Instant now, const Pass& pass);

/// Ended jobs that one pass may take out of State: each is a row of history, and others wait for the commit.
constexpr std::int32_t most_retired = 1'000;

/// Whether the next pass has something to do although nothing comes in: the last one met one of its bounds.
[[nodiscard]] bool is_cut_off(const State& state, Instant now);

/// What a pass that starts nothing does: growth whose time has come is planned anew by the next one.
void put_growth_off(Core& core, Instant now);

/// Where the job would start now among what is free, as large as it may; or why it cannot at all.
Placement find_place(const State& state, Instant now, JobId job, const JobSpec& spec);

/// Notes why this job could not be placed, unless that is known.
void note_blocked(Core& core, Instant now, JobId job, Refusal why);

}  // namespace stargate
