#include "core/policy/place.hpp"

#include <algorithm>

namespace stargate {

namespace {
/// A gang that spans nodes looks at no more nodes than this in one domain before it gives up on it.
constexpr std::size_t max_nodes_tried = 100'000;

/// Remembers the refusal that came closest: a lack of host resources says more than a lack of GPUs together.
void keep_closest(Refusal& kept, const Refusal& next) {
    if (kept.why == Why::none || (kept.why == Why::fragmented && next.why != Why::none)) kept = next;
}

Placement place_on_one_node(const State& state, const JobSpec& spec, std::int32_t gpus) {
    Placement result;
    Refusal closest;
    for (auto free = gpus; free <= max_gpus_per_node; ++free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            if (!allows(spec.gpu_types, type)) continue;
            const auto& nodes = state.nodes_with(type, free);
            for (auto id = nodes.first(); id; id = nodes.next(id)) {
                const auto& node = state.at<Node>(id);
                const auto part = part_on(spec, id, lowest(node.free(), gpus));
                // A node that can never hold them together is no reason to wait for it.
                if (part.cpus > node.shape.cpus || part.memory > node.shape.memory) continue;
                const auto why = host_fits(node, part);
                if (why.why == Why::none) {
                    result.parts.push_back(part);
                    return result;
                }
                keep_closest(closest, why);
            }
        }
    }
    const auto have = state.free_gpus(spec.gpu_types);
    if (closest.why != Why::none) {
        result.why = closest;
    } else {
        result.why = {have >= gpus ? Why::fragmented : Why::no_gpus, gpus, have, 0};
    }
    return result;
}

Placement place_share(const State& state, const JobSpec& spec) {
    Placement result;
    const SharedGpu* best = nullptr;
    state.table<SharedGpu>().for_each([&](const SharedGpu& row) {
        const auto& node = state.at<Node>(row.node);
        if (row.tenant != spec.tenant || row.used + spec.share > 1000 || !node.takes_work()) return;
        if (!allows(spec.gpu_types, node.shape.gpu_type)) return;
        if (host_fits(node, part_on(spec, row.node, GpuMask{1} << row.gpu)).why != Why::none) return;
        if (best == nullptr || row.used > best->used) best = &row;
    });
    if (best != nullptr) {
        result.parts.push_back(part_on(spec, best->node, GpuMask{1} << best->gpu));
        return result;
    }
    return place_on_one_node(state, spec, 1);
}

/// For how many GPUs' worth of ranks the host has CPUs and memory left.
std::int32_t room_of_host(const Node& node, const JobSpec& spec) {
    std::int64_t room = max_gpus_per_node;
    if (spec.cpus_per_rank > MilliCpus{}) {
        const auto left = node.shape.cpus - node.cpus_leased - node.cpus_claimed;
        room = std::min(room, left.count() / spec.cpus_per_rank.count());
    }
    if (spec.memory_per_rank > Bytes{}) {
        const auto left = node.shape.memory - node.memory_leased - node.memory_claimed;
        room = std::min(room, left.count() / spec.memory_per_rank.count());
    }
    return static_cast<std::int32_t>(std::max<std::int64_t>(room, 0));
}

/// Fills whole nodes first, so that the gang touches as few as can be.
Placement place_in_domain(const State& state, const JobSpec& spec, const std::vector<NodeId>& nodes,
                          std::int32_t gpus) {
    struct Candidate {
        std::int32_t free;
        NodeId node;
    };
    std::vector<Candidate> candidates;
    for (const auto id : nodes) {
        const auto& node = state.at<Node>(id);
        if (!node.takes_work() || !allows(spec.gpu_types, node.shape.gpu_type)) continue;
        if (const auto free = std::popcount(node.free()); free > 0) candidates.push_back({free, id});
        if (candidates.size() >= max_nodes_tried) break;
    }
    std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
        return a.free != b.free ? a.free > b.free : a.node < b.node;
    });
    Placement result;
    auto left = gpus;
    for (const auto& candidate : candidates) {
        if (left == 0) break;
        const auto& node = state.at<Node>(candidate.node);
        const auto most = std::min(left, candidate.free);
        const auto room = std::min(most, room_of_host(node, spec));
        if (room < most) {
            const auto all = part_on(spec, candidate.node, lowest(node.free(), most));
            keep_closest(result.why, host_fits(node, all));
        }
        if (room == 0) continue;
        const auto part = part_on(spec, candidate.node, lowest(node.free(), room));
        left -= part.gpu_count();
        result.parts.push_back(part);
    }
    if (left == 0) {
        result.why = {};
    } else if (result.why.why == Why::none) {
        result.why = {Why::fragmented, gpus, gpus - left, 0};
    }
    return result;
}

Placement place_over_nodes(const State& state, const JobSpec& spec, std::int32_t gpus) {
    Placement refused;
    for (auto level = Level::rack; level <= spec.require; level = static_cast<Level>(static_cast<int>(level) + 1)) {
        const Domain* best = nullptr;
        std::int32_t best_free = 0;
        for (const auto& domain : state.domains(level)) {
            std::int32_t free = 0;
            for (std::uint32_t type = 0; type < domain.free.size(); ++type) {
                if (allows(spec.gpu_types, type)) free += domain.free[type];
            }
            if (free >= gpus && (best == nullptr || free < best_free)) {
                best = &domain;
                best_free = free;
            }
        }
        if (best == nullptr) continue;
        auto placed = place_in_domain(state, spec, best->nodes, gpus);
        if (placed.found()) return placed;
        keep_closest(refused.why, placed.why);
    }
    if (refused.why.why == Why::none) {
        const auto have = state.free_gpus(spec.gpu_types);
        refused.why = {have >= gpus ? Why::fragmented : Why::no_gpus, gpus, have, 0};
    }
    return refused;
}

}  // namespace

GpuMask lowest(GpuMask mask, std::int32_t count) {
    GpuMask taken = 0;
    for (; count > 0 && mask != 0; --count) {
        taken |= mask & (~mask + 1);
        mask &= mask - 1;
    }
    return taken;
}

Part part_on(const JobSpec& spec, NodeId node, GpuMask gpus) {
    Part part;
    part.node = node;
    part.gpus = gpus;
    part.share = spec.share;
    part.ranks = spec.one_rank_a_node || spec.share > 0 ? 1 : std::max(1, std::popcount(gpus));
    // Counted by GPU even where one rank serves them all, so that a resize changes what is asked of the host alike.
    const auto times = std::max(1, spec.share > 0 ? 1 : std::popcount(gpus));
    part.cpus = spec.cpus_per_rank * times;
    part.memory = spec.memory_per_rank * times;
    return part;
}

Refusal host_fits(const Node& node, const Part& part) {
    const auto cpus_free = node.shape.cpus - node.cpus_leased - node.cpus_claimed;
    if (part.cpus > MilliCpus{} && part.cpus > cpus_free) {
        return {Why::no_cpus, part.cpus.count(), cpus_free.count(), node.id.value};
    }
    const auto memory_free = node.shape.memory - node.memory_leased - node.memory_claimed;
    if (part.memory > Bytes{} && part.memory > memory_free) {
        return {Why::no_memory, part.memory.count(), memory_free.count(), node.id.value};
    }
    return {};
}

Placement place(const State& state, const JobSpec& spec, std::int32_t gpus) {
    if (spec.share > 0) return place_share(state, spec);
    if (gpus > 0 && state.free_gpus(spec.gpu_types) < gpus) {
        return {{}, {Why::no_gpus, gpus, state.free_gpus(spec.gpu_types), 0}};
    }
    if (gpus <= max_gpus_per_node) {
        auto placed = place_on_one_node(state, spec, gpus);
        if (placed.found() || gpus == 0 || spec.require == Level::node) return placed;
        // Lack of host CPUs or memory is no reason to tear a gang apart that a node could hold.
        if (placed.why.why != Why::fragmented) return placed;
    }
    if (spec.require == Level::node) return {{}, {Why::fragmented, gpus, state.free_gpus(spec.gpu_types), 0}};
    return place_over_nodes(state, spec, gpus);
}

Placement place_elastic(const State& state, const JobSpec& spec) {
    const auto least = spec.min_gpus.count();
    const auto most = std::min(spec.max_gpus.count(), state.free_gpus(spec.gpu_types));
    for (auto gpus = most; gpus > least; --gpus) {
        auto placed = place(state, spec, gpus);
        if (placed.found()) return placed;
    }
    return place(state, spec, least);
}

Parts extend(const State& state, const JobSpec& spec, const Parts& parts, std::int32_t more) {
    Parts added;
    const auto take = [&](NodeId id) {
        const auto& node = state.at<Node>(id);
        if (!node.takes_work() || !allows(spec.gpu_types, node.shape.gpu_type)) return;
        const auto gpus = lowest(node.free(), more);
        if (gpus == 0) return;
        const auto part = part_on(spec, id, gpus);
        if (host_fits(node, part).why != Why::none) return;
        added.push_back(part);
        more -= part.gpu_count();
    };
    for (const auto& part : parts) take(part.node);
    if (spec.require == Level::node || more <= 0) return added;
    const auto& home = state.at<Node>(parts.front().node).shape;
    const auto& racks = state.domains(Level::rack);
    for (const auto id : racks[home.rack].nodes) {
        if (more <= 0) break;
        const auto known = [&](const Part& part) { return part.node == id; };
        if (std::none_of(parts.begin(), parts.end(), known)) take(id);
    }
    return added;
}

}  // namespace stargate
