#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.hpp"

namespace stargate {

/// A server that answers for a service and that Stargate did not start, and so never stops.
struct Endpoint {
    std::string host;  // a name, or a numeric address without brackets
    std::uint16_t port = 0;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
BOOST_DESCRIBE_STRUCT(Endpoint, (), (host, port))

/// What a service asks for beyond what each of its replicas does (a JobSpec): how many, and how soon they answer.
struct ServiceSpec {
    std::int32_t min = 1;               // replicas that serve, >= 0; with 0 it scales to zero
    std::int32_t max = 1;               // >= 1; awake and asleep together
    std::int32_t standby = 0;           // replicas that sleep in their seats, as far as `max` leaves room
    std::int32_t max_concurrency = 8;   // requests that one replica has under way at once, >= 1
    Duration slo{};                     // how long a request may wait for its first token; zero: not said
    std::string model{};                // its name at the replicas; empty: the service's
    std::vector<Endpoint> endpoints{};  // where others run its servers; then of all above max_concurrency and slo count
    friend bool operator==(const ServiceSpec&, const ServiceSpec&) = default;

    /// Whether its servers run already: nothing of it is started, stopped, put to sleep or held here.
    [[nodiscard]] bool is_external() const { return !endpoints.empty(); }
};
BOOST_DESCRIBE_STRUCT(ServiceSpec, (), (min, max, standby, max_concurrency, slo, model, endpoints))

/// More replicas than this no service has.
constexpr std::int32_t max_replicas = 1'000;

/// Endpoints of one service, and services of endpoints at once: each is asked for its health every few seconds, and all
/// go to the gateway in one line.
constexpr std::size_t max_endpoints = 64;
constexpr std::int64_t max_external_services = 256;

}  // namespace stargate
