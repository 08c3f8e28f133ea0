#pragma once

#include "core/core.hpp"

namespace stargate {

/// One scheduling pass: claims that became free start, waiting jobs start in order or say why not, ended jobs retire,
/// spare GPUs go to elastic work. Cost O(equivalence classes + placements tried), cut off at Settings::pass_steps.
void schedule(Core& core, Instant now);

/// Whether tenant `a` goes before `b`: the one that holds less of its share, then the one that has had less.
bool goes_before(const TenantRow& a, const TenantRow& b);

/// Whether the quota of the tenant and of all above it has room for so many more thousandths of GPUs.
Refusal quota_allows(const State& state, TenantId tenant, std::int64_t milli_gpus);

/// Whether starting `spec` with `gpus` GPUs now would move the reservation of a job that goes before it.
Refusal reservation_allows(const State& state, Instant now, JobId job, const JobSpec& spec, std::int32_t gpus);

}  // namespace stargate
