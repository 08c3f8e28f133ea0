#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "work/priority.hpp"

namespace stargate {

/// A person of a tenant. The number decides, as for files; the name is for people.
struct Member {
    std::uint32_t uid = 0;
    std::string name;
    friend bool operator==(const Member&, const Member&) = default;
};
BOOST_DESCRIBE_STRUCT(Member, (), (uid, name))

/// A node of the tree of organisations. A job is charged to its tenant and to every ancestor.
struct Tenant {
    TenantId id;
    TenantId parent;                 // none at the root
    std::string name;                // path, as `lab/nlp`
    std::int64_t quota = -1;         // thousandths of GPUs held at once, over all types; -1: no limit
    std::int32_t weight = 1;         // of fair share among siblings, > 0
    std::uint32_t may_use = 0b1111;  // bits of PriorityClass; `system` is not for tenants
    std::vector<Member> members;     // who may use it and what is below it; nobody named up to the root: everybody
    friend bool operator==(const Tenant&, const Tenant&) = default;
};
BOOST_DESCRIBE_STRUCT(Tenant, (), (id, parent, name, quota, weight, may_use, members))

}  // namespace stargate
