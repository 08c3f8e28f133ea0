#include "core/policy/quota.hpp"

#include <algorithm>

#include "core/evolve.hpp"

namespace stargate {

namespace {
std::int64_t left_of(const TenantRow& row) {
    return row.tenant.quota < 0 ? no_limit : row.tenant.quota - row.used - row.claimed;
}
}  // namespace

std::int64_t quota_left(const State& state, TenantId tenant) {
    auto left = no_limit;
    for_each_tenant(state, tenant, [&](TenantId id) { left = std::min(left, left_of(state.at<TenantRow>(id))); });
    return left;
}

Refusal quota_allows(const State& state, TenantId tenant, std::int64_t milli_gpus) {
    Refusal why;
    for_each_tenant(state, tenant, [&](TenantId id) {
        const auto left = left_of(state.at<TenantRow>(id));
        if (milli_gpus > left && why.why == Why::none)
            why = {Why::tenant_quota, milli_gpus, std::max<std::int64_t>(left, 0), id.value};
    });
    return why;
}

bool is_being_returned_to(const State& state, TenantId tenant) {
    const auto& ending = state.ending();
    return std::any_of(ending.begin(), ending.end(), [&](AttemptId id) {
        const auto& job = state.at<Job>(state.at<Attempt>(id).job);
        return is_under(state, state.spec_of(job).tenant, tenant);
    });
}

}  // namespace stargate
