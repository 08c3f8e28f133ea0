#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>

#include "base/units.hpp"

namespace stargate {

/// Why something is not (yet) done. One word each, the REASON that every face shows.
enum class Why : std::uint8_t {
    none,
    held,                // a person holds it
    dependency,          // a job it comes after has not succeeded yet
    backing_off,         // after an infrastructure failure
    tenant_quota,        // its tenant, or one above, holds all it may
    no_gpus,             // not enough GPUs are free
    fragmented,          // enough are free, but not together as it requires
    no_cpus,             // host CPUs
    no_memory,           // host memory
    reserved_for_other,  // starting it would delay a gang ahead of it
    claim_pending,       // it holds a claim and waits for others to let go
    behind_same,         // the same as the job ahead of it, which waits
    pass_bound,          // the pass was cut off before its turn came
    node_down,           // nodes that could hold it are unreachable or draining
    // refusals, at once
    never_fits,  // larger than the fleet, a node or a quota can ever give
    unknown_tenant,
    class_not_allowed,
    unknown_dependency,
    dependency_failed,
    too_many_waiting,
    bad_array,
    key_conflict,  // the idempotency key stands for another body
    not_found,
    wrong_state,  // what was asked does not apply to a job in this state
    not_elastic,
    read_only,           // the store cannot be written
    too_many_of_one,     // one person has as many waiting jobs as one may have
    not_needed,          // a replica that demand does not ask for
    bad_service,         // replicas that cannot be: fewer at most than at least, or larger than a node
    name_taken,          // clients reach another service by this name
    too_many_services,   // of endpoints
    too_many_after,      // jobs that it comes after
    comes_after_itself,  // through others
    size_held,           // it runs at a size outside of what it is to ask for
    not_editable,        // a service is what it was submitted as
};
BOOST_DESCRIBE_ENUM(Why, none, held, dependency, backing_off, tenant_quota, no_gpus, fragmented, no_cpus, no_memory,
                    reserved_for_other, claim_pending, behind_same, pass_bound, node_down, never_fits, unknown_tenant,
                    class_not_allowed, unknown_dependency, dependency_failed, too_many_waiting, bad_array, key_conflict,
                    not_found, wrong_state, not_elastic, read_only, too_many_of_one, not_needed, bad_service,
                    name_taken, too_many_services, too_many_after, comes_after_itself, size_held, not_editable)

/// A reason with its numbers: `need` of something of which `have` is there, and whom or what it is about.
struct Refusal {
    Why why = Why::none;
    std::int64_t need = 0;
    std::int64_t have = 0;
    std::uint64_t about = 0;  // a JobId or TenantId, as the reason says; 0: nothing
    friend bool operator==(const Refusal&, const Refusal&) = default;
};
BOOST_DESCRIBE_STRUCT(Refusal, (), (why, need, have, about))

}  // namespace stargate
