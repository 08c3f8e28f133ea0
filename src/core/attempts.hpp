#pragma once

#include <string>
#include <string_view>

#include "core/core.hpp"

/// The life of an attempt once it holds a lease: reports about it, warnings to it, and what follows when its ranks are
/// gone. Called by decide alone.
namespace stargate {

void ranks_running(Core& core, Instant now, const RanksRunning& report);
void ranks_ended(Core& core, Instant now, const RanksEnded& report);
void attempt_lost(Core& core, Instant now, AttemptId attempt, NodeId node, const std::string& detail);
void progress(Core& core, Instant now, const Progress& report);

/// Tells the ranks to end, within the job's grace. With `next` they go on as a new generation that holds it.
/// `for_job` is who gets what is given back, none if nobody in particular.
void warn(Core& core, Instant now, AttemptId attempt, EndCause cause, Parts next, JobId for_job);

/// Tells the ranks to end for good, unless they were told so before.
void cancel_attempt(Core& core, Instant now, AttemptId attempt);

/// Drops whatever came after a job that did not succeed, and what came after that: it can never run.
void drop_dependents(Core& core, Instant now, JobId failed);

/// GPU-milliseconds of the lease in force since it was granted.
std::int64_t charge_of(const Attempt& attempt, Instant now);

/// The account of an attempt's job with what the lease in force has used since it was granted, none of it lost.
JobAccount charged_until(const State& state, const Attempt& attempt, Instant now);

/// Whether this part has ranks that the ending generation takes away. In place, a part that loses none goes on.
bool must_end(const JobSpec& spec, const Ending& ending, const Part& part);

/// Starts the job on these GPUs, which must be free or its own claim's.
void start(Core& core, Instant now, JobId job, Parts parts);

}  // namespace stargate
