#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>

#include "base/units.hpp"

namespace stargate {

/// What a service asks for beyond what each of its replicas does (a JobSpec): how many, and how soon they answer.
struct ServiceSpec {
    std::int32_t min = 1;              // replicas that serve, >= 0; with 0 it scales to zero
    std::int32_t max = 1;              // >= 1; awake and asleep together
    std::int32_t standby = 0;          // replicas that sleep in their seats, as far as `max` leaves room
    std::int32_t max_concurrency = 8;  // requests that one replica has under way at once, >= 1
    Duration slo{};                    // how long a request may wait for its first token; zero: not said
    std::string model{};               // its name at the replicas; empty: the service's
    friend bool operator==(const ServiceSpec&, const ServiceSpec&) = default;
};
BOOST_DESCRIBE_STRUCT(ServiceSpec, (), (min, max, standby, max_concurrency, slo, model))

/// More replicas than this no service has.
constexpr std::int32_t max_replicas = 1'000;

}  // namespace stargate
