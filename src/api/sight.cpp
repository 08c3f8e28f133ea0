#include "api/sight.hpp"

#include <algorithm>

namespace stargate::api {

bool Sight::may_use(TenantId tenant) const {
    if (caller_.is_operator) return true;
    bool anybody = true;
    for (const auto* row = state_.find<TenantRow>(tenant); row != nullptr;
         row = state_.find<TenantRow>(row->tenant.parent)) {
        const auto& members = row->tenant.members;
        if (std::any_of(members.begin(), members.end(), [&](const Member& m) { return m.uid == caller_.uid; })) {
            return true;
        }
        anybody = anybody && members.empty();
    }
    return anybody;
}

}  // namespace stargate::api
