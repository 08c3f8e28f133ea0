#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "engine/serving_port.hpp"
#include "steward/endpoints.hpp"

namespace stargate::steward {

/// One life of a store, as gateways are told it.
[[nodiscard]] std::string words_of_incarnation(const std::array<std::uint8_t, 16>& incarnation);

/// A key that clients show to the gateway.
struct Key {
    std::string id;
    std::string tenant;
    Digest digest{};
};

/// Keeps a gateway and the replicas of this machine as State has them, on one thread of its own.
class Steward : public Serving {
public:
    /// state  the state folder, where the gateway's socket lies or will lie
    [[nodiscard]] static std::unique_ptr<Steward> start(const std::string& state, Needs needs);

    /// These are good from now on, and no others. From any thread.
    virtual void set_keys(std::vector<Key> keys) = 0;

    /// How the endpoints of a service that requests go to answered last, in their order; none of any other. From any
    /// thread.
    [[nodiscard]] virtual std::vector<EndpointSight> endpoints_of(JobId service) const = 0;
};

}  // namespace stargate::steward
