#pragma once

#include <cstdint>

#include "core/reason.hpp"
#include "core/state.hpp"

namespace stargate {

/// What a quota that lets anything through has left.
constexpr std::int64_t no_limit = std::int64_t{1} << 60;

/// Thousandths of GPUs that the quotas of the tenant and of all above it have left; negative when more is held or
/// promised than allowed. Cost O(depth of the tenant).
std::int64_t quota_left(const State& state, TenantId tenant);

/// Whether these quotas have room for so many more thousandths of GPUs; else the lowest that has not.
Refusal quota_allows(const State& state, TenantId tenant, std::int64_t milli_gpus);

/// What the least that `spec` runs with takes of a quota, in thousandths of GPUs.
inline std::int64_t least_of(const JobSpec& spec) {
    return spec.share > 0 ? spec.share : std::int64_t{1000} * spec.min_gpus.count();
}

/// Whether attempts of this tenant, or of those below it, are about to give something back to its quota.
bool is_being_returned_to(const State& state, TenantId tenant);

}  // namespace stargate
