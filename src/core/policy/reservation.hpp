#pragma once

#include "core/core.hpp"
#include "core/policy/place.hpp"

/// The first job that is blocked for want of room holds a reservation, by which work that goes behind it is kept from
/// taking what it waits for: of the whole fleet a number of GPUs, else one domain.
namespace stargate {

/// The reservation that binds `job` in what it takes now and holds until `ends` at most; nothing when there is none, it
/// is the job's own, the job goes before it, may be preempted for it, wants other GPUs, or ends before it.
const Reservation* reservation_binding(const State& state, Instant now, JobId job, const JobSpec& spec, Instant ends);

/// Whether starting `spec` with `gpus` GPUs now would move the reservation of a job that goes before it.
Refusal reservation_allows(const State& state, Instant now, JobId job, const JobSpec& spec, std::int32_t gpus);

/// The domain that a reservation keeps this job out of, if it holds what it takes now until `ends`.
OffLimits off_limits_for(const State& state, Instant now, JobId job, const JobSpec& spec, Instant ends);

/// Whether a job refused for this reason waits for room that others will leave. One that needs a single GPU needs no
/// promise to get the next one that is free; one whose host is full does, or small jobs would take it for ever.
bool waits_for_room(const JobSpec& spec, Why why);

/// Keeps the one reservation with this job, the first that waits for room. It names the instant by which the room is
/// there if everyone runs to the time limit, and none when that never happens. True when another job's went for it.
/// Cost O(nodes + attempts) when it moves.
bool reserve_for(Core& core, Instant now, JobId job, const JobSpec& spec);

/// What is taken beside a reservation, and held until `ends`, is taken of what is spare then, unless it ends before.
void use_up_spare(Core& core, Instant now, JobId job, Instant ends, const Parts& parts);

}  // namespace stargate
