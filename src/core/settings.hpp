#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "work/priority.hpp"

namespace stargate {

/// The policy's numbers. They are State, set by a fact, so that a replay decides with what was in force.
struct Settings {
    std::vector<std::string> gpu_types{"cpu"};
    /// may_preempt[c]: bits of the classes that class c may preempt.
    std::vector<std::uint32_t> may_preempt{
        0,                                                                       // opportunistic
        bit_of(PriorityClass::opportunistic),                                    // research
        bit_of(PriorityClass::research) | bit_of(PriorityClass::opportunistic),  // production
        bit_of(PriorityClass::research) | bit_of(PriorityClass::opportunistic),  // serving
        0b01111};                                                                // system
    Duration gang_limit = std::chrono::seconds{60};    // T_gang: all ranks run within it, or none is kept
    Duration quiet_period = std::chrono::seconds{3};   // GPUs granted by a resize are not taken back sooner
    Duration claim_slack = std::chrono::seconds{30};   // a claim ends this long after its victims' deadlines
    Duration retry_backoff = std::chrono::seconds{1};  // doubled with each infrastructure failure of a job
    Duration retention = std::chrono::hours{24 * 7};   // an ended job stays in State this long
    std::int64_t max_finished = 10'000;                // and no more of them than this
    std::int64_t max_waiting = 1'000'000;              // more submits are refused
    std::int64_t max_array = 100'000;                  // elements of one array
    std::int32_t max_victims = 64;                     // attempts that one claim may shrink or preempt
    std::int32_t pass_steps = 20'000;                  // placements tried in one Pass
    std::int64_t max_waiting_of_one = 250'000;         // of them one person's, so that nobody fills it alone
    Duration ready_limit = std::chrono::minutes{10};   // a replica serves within it, or is started anew
    Duration service_quiet = std::chrono::seconds{5};  // fewer replicas serve only when fewer were enough for so long
    std::int32_t first_port = 21'000;                  // replicas listen on this and the following
    friend bool operator==(const Settings&, const Settings&) = default;
};
BOOST_DESCRIBE_STRUCT(Settings, (),
                      (gpu_types, may_preempt, gang_limit, quiet_period, claim_slack, retry_backoff, retention,
                       max_finished, max_waiting, max_array, max_victims, pass_steps, max_waiting_of_one, ready_limit,
                       service_quiet, first_port))

}  // namespace stargate
