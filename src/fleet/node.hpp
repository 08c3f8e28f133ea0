#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>

#include "base/units.hpp"

namespace stargate {

/// A machine as its inventory tells it.
struct NodeShape {
    std::string name;
    std::uint32_t gpu_type = 0;  // index into Settings::gpu_types
    GpuCount gpus;               // 0..64
    MilliCpus cpus;
    Bytes memory;
    std::uint32_t rack = 0;  // of the fleet; nodes of one rack share a domain of level rack
    std::uint32_t pod = 0;
    std::uint32_t hall = 0;
    std::uint32_t site = 0;
    ZoneId power_zone;  // limits are infinite as yet
    friend bool operator==(const NodeShape&, const NodeShape&) = default;
};
BOOST_DESCRIBE_STRUCT(NodeShape, (), (name, gpu_type, gpus, cpus, memory, rack, pod, hall, site, power_zone))

/// Whether we can reach a node. Not reachable is not failed: work on a silent node keeps its GPUs.
enum class Reach : std::uint8_t { up, silent, dead };
BOOST_DESCRIBE_ENUM(Reach, up, silent, dead)

}  // namespace stargate
