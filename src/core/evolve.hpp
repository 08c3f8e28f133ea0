#pragma once

#include "core/fact.hpp"
#include "core/state.hpp"

namespace stargate {

/// Folds one fact that happened at `at` into State. The only way State changes: deciding, recovery, the view, the
/// follower and replay all come through here. Chooses nothing.
void evolve(State& state, Instant at, const Fact& fact);

/// Grants or returns what `parts` hold on their nodes; the caller sees to claims and tenants. `sign` is 1 or -1.
void lease(State& state, const Parts& parts, TenantId tenant, int sign);

/// How many ranks of this part go on through a resize in place; 0 when all are to end.
std::int32_t staying_ranks(const JobSpec& spec, const Ending& ending, const Part& part);

/// The job's tenant and all above it, from the leaf up, through `visit(TenantId)`.
template <class Visit>
void for_each_tenant(const State& state, TenantId tenant, Visit visit) {
    while (tenant) {
        visit(tenant);
        tenant = state.at<TenantRow>(tenant).tenant.parent;
    }
}

/// Whether `tenant` is `above` or one of those below it; true of all where `above` is none.
inline bool is_under(const State& state, TenantId tenant, TenantId above) {
    bool under = !above;
    for_each_tenant(state, tenant, [&](TenantId id) { under = under || id == above; });
    return under;
}

inline std::int64_t milli_gpus(const Parts& parts) {
    std::int64_t sum = 0;
    for (const auto& part : parts) sum += part.milli_gpus();
    return sum;
}

}  // namespace stargate
