#pragma once

#include <optional>

#include "core/state.hpp"

/// Where a job goes: the smallest domain that fits, best fit over domains, packed inside; host CPUs and memory too.
namespace stargate {

/// A domain that a job keeps out of, because one ahead of it counts on it. None at the level of the fleet.
struct OffLimits {
    Level level = Level::fleet;
    std::uint64_t domain = 0;  // at the level of a node: its id
    [[nodiscard]] bool any() const { return level != Level::fleet; }
    [[nodiscard]] bool holds(const Node& node) const {
        return any() && domain == (level == Level::node ? node.id.value : domain_of(node.shape, level));
    }
};

/// A place for `gpus` whole GPUs (or for the job's share, or for none) among what is free now, or why there is none.
/// Looks at counters first and at nodes only where the counters say yes. Cost O(GPUs per node) within a node,
/// O(nodes of the domains tried) for a gang that spans nodes.
struct Placement {
    Parts parts;
    Refusal why;
    [[nodiscard]] bool found() const { return why.why == Why::none; }
};
Placement place(const State& state, const JobSpec& spec, std::int32_t gpus, const OffLimits& off_limits = {});

/// For an elastic job: as many GPUs as fit between its minimum and `most`, at least its minimum.
Placement place_elastic(const State& state, const JobSpec& spec, std::int32_t most, const OffLimits& off_limits = {});

/// Up to `more` further free GPUs for an attempt that holds `parts`, on the same nodes first; empty when there is none.
Parts extend(const State& state, const JobSpec& spec, const Parts& parts, std::int32_t more,
             const OffLimits& off_limits);

/// For how many GPUs' worth of ranks there is room: the least of these GPUs, CPUs and memory.
std::int32_t room_for(const JobSpec& spec, std::int32_t gpus, MilliCpus cpus, Bytes memory);

/// A part of this job on `node` with these GPUs: its ranks and what they need of the host.
Part part_on(const JobSpec& spec, NodeId node, GpuMask gpus);

/// The `count` lowest GPUs of a mask.
GpuMask lowest(GpuMask mask, std::int32_t count);

/// Whether a node of this type may hold the job.
inline bool allows(GpuTypeBits types, std::uint32_t type) { return types == 0 || (types >> type & 1U) != 0; }

/// Whether the host CPUs and memory of `part` are free on its node. Why::none if so.
Refusal host_fits(const Node& node, const Part& part);

}  // namespace stargate
