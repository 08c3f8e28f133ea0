#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>

#include "base/units.hpp"
#include "work/priority.hpp"

namespace stargate {

/// A node of the tree of organisations. A job is charged to its tenant and to every ancestor.
struct Tenant {
    TenantId id;
    TenantId parent;                 // none at the root
    std::string name;                // path, as `lab/nlp`
    std::int64_t quota = -1;         // thousandths of GPUs held at once, over all types; -1: no limit
    std::int32_t weight = 1;         // of fair share among siblings, > 0
    std::uint32_t may_use = 0b1111;  // bits of PriorityClass; `system` is not for tenants
    friend bool operator==(const Tenant&, const Tenant&) = default;
};
BOOST_DESCRIBE_STRUCT(Tenant, (), (id, parent, name, quota, weight, may_use))

}  // namespace stargate
