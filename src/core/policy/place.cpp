#include "core/policy/place.hpp"

#include <algorithm>
#include <utility>

#include "core/evolve.hpp"

namespace stargate {

namespace {
/// A gang that spans nodes looks at no more nodes than this in one domain before it gives up on it.
constexpr std::size_t max_nodes_tried = 100'000;
/// Domains of one level tried for one gang, the best fit first: where the hosts of so many are full, the next one's
/// seldom is not.
constexpr std::size_t max_domains_tried = 8;

/// Remembers the refusal that came closest: a lack of host resources says more than a lack of GPUs together.
void keep_closest(Refusal& kept, const Refusal& next) {
    if (kept.why == Why::none || (kept.why == Why::fragmented && next.why != Why::none)) kept = next;
}

/// What to say when no node or domain has so many GPUs free. A job without GPUs fits every host that takes work and is
/// large enough, unless that is full.
Refusal too_few(const State& state, const JobSpec& spec, std::int32_t gpus) {
    if (gpus == 0) return {Why::node_down, 0, 0, 0};
    const auto working = state.working_gpus(spec.gpu_types);
    if (state.working_nodes() == 0 || (working < gpus && state.all_gpus(spec.gpu_types) >= gpus)) {
        return {Why::node_down, gpus, working, 0};
    }
    const auto have = state.free_gpus(spec.gpu_types);
    return {have >= gpus ? Why::fragmented : Why::no_gpus, gpus, have, 0};
}

/// GPUs of this node that the job could have now, its hosts' CPUs and memory too.
std::int32_t room_on(const Node& node, const JobSpec& spec) {
    return room_for(spec, std::popcount(node.free()), node.free_cpus(), node.free_memory());
}

bool may_use(const Node& node, const JobSpec& spec, const OffLimits& off_limits) {
    return node.takes_work() && allows(spec.gpu_types, node.shape.gpu_type) && !off_limits.holds(node);
}

Placement place_on_one_node(const State& state, const JobSpec& spec, std::int32_t gpus, const OffLimits& off_limits) {
    Placement result;
    Refusal closest;
    for (auto free = gpus; free <= max_gpus_per_node; ++free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            if (!allows(spec.gpu_types, type)) continue;
            const auto& nodes = state.nodes_with(type, free);
            for (auto id = nodes.first(); id; id = nodes.next(id)) {
                const auto& node = state.at<Node>(id);
                if (off_limits.holds(node)) continue;
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
    result.why = closest.why != Why::none ? closest : too_few(state, spec, gpus);
    return result;
}

/// The fullest of the tenant's shared GPUs that has room, else a GPU of its own.
Placement place_share(const State& state, const JobSpec& spec, const OffLimits& off_limits) {
    Placement result;
    const auto& shared = state.shared_by_use();
    for (auto at = shared.lower_bound({spec.tenant, spec.share - 1000, SharedKey{}}); at != shared.end(); ++at) {
        const auto& [tenant, minus_used, gpu] = *at;
        if (tenant != spec.tenant) break;
        const auto& node = state.at<Node>(gpu.first);
        const auto mask = GpuMask{1} << gpu.second;
        if (!may_use(node, spec, off_limits) || (node.claimed & mask) != 0 || (node.all() & mask) == 0) continue;
        const auto part = part_on(spec, gpu.first, mask);
        if (host_fits(node, part).why != Why::none) continue;
        result.parts.push_back(part);
        return result;
    }
    return place_on_one_node(state, spec, 1, off_limits);
}

/// Fills whole nodes first, so that the gang touches as few as can be.
Placement place_in_domain(const State& state, const JobSpec& spec, const std::vector<NodeId>& nodes, std::int32_t gpus,
                          const OffLimits& off_limits) {
    struct Candidate {
        std::int32_t free;
        NodeId node;
    };
    std::vector<Candidate> candidates;
    for (const auto id : nodes) {
        const auto& node = state.at<Node>(id);
        if (!may_use(node, spec, off_limits)) continue;
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
        const auto room = std::min(most, room_on(node, spec));
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

std::int32_t free_in(const Domain& domain, const JobSpec& spec) {
    std::int32_t free = 0;
    for (std::uint32_t type = 0; type < domain.free.size(); ++type) {
        if (allows(spec.gpu_types, type)) free += domain.free[type];
    }
    return free;
}

/// Domains of this level with so many GPUs free: the best fit first, then in order of their index.
std::vector<const Domain*> domains_to_try(const State& state, const JobSpec& spec, Level level, std::int32_t gpus) {
    std::vector<std::pair<std::int32_t, const Domain*>> fitting;
    for (const auto& domain : state.domains(level)) {
        if (const auto free = free_in(domain, spec); free >= gpus) fitting.emplace_back(free, &domain);
    }
    const auto count = std::min(fitting.size(), max_domains_tried);
    std::partial_sort(fitting.begin(), fitting.begin() + static_cast<std::ptrdiff_t>(count), fitting.end());
    std::vector<const Domain*> domains;
    for (std::size_t i = 0; i < count; ++i) domains.push_back(fitting[i].second);
    return domains;
}

Placement place_over_nodes(const State& state, const JobSpec& spec, std::int32_t gpus, const OffLimits& off_limits) {
    Placement refused;
    for (auto level = Level::rack; level <= spec.require; level = static_cast<Level>(static_cast<int>(level) + 1)) {
        for (const auto* domain : domains_to_try(state, spec, level, gpus)) {
            auto placed = place_in_domain(state, spec, domain->nodes, gpus, off_limits);
            if (placed.found()) return placed;
            keep_closest(refused.why, placed.why);
        }
    }
    if (refused.why.why == Why::none) refused.why = too_few(state, spec, gpus);
    return refused;
}

/// The most GPUs, but no more than `most`, that one node could give now.
Placement place_most_on_a_node(const State& state, const JobSpec& spec, std::int32_t most,
                               const OffLimits& off_limits) {
    NodeId best;
    std::int32_t best_room = 0;
    for (auto free = max_gpus_per_node; free > best_room; --free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            const auto& nodes = state.nodes_with(type, free);
            for (auto id = nodes.first(); id && best_room < most; id = nodes.next(id)) {
                const auto& node = state.at<Node>(id);
                if (!may_use(node, spec, off_limits)) continue;
                if (const auto room = std::min(most, room_on(node, spec)); room > best_room) {
                    best = id;
                    best_room = room;
                }
            }
        }
    }
    Placement result;
    if (best) result.parts.push_back(part_on(spec, best, lowest(state.at<Node>(best).free(), best_room)));
    return result;
}

/// The same within one domain of the level that the job requires.
Placement place_most_in_a_domain(const State& state, const JobSpec& spec, std::int32_t most,
                                 const OffLimits& off_limits) {
    const Domain* best = nullptr;
    std::int32_t best_room = 0;
    for (const auto& domain : state.domains(spec.require)) {
        if (free_in(domain, spec) <= best_room) continue;
        std::int32_t room = 0;
        for (const auto id : domain.nodes) {
            const auto& node = state.at<Node>(id);
            if (may_use(node, spec, off_limits)) room += room_on(node, spec);
        }
        if (room > best_room) {
            best = &domain;
            best_room = room;
        }
    }
    if (best == nullptr) return {};
    const auto gpus = std::min(best_room, most);
    auto packed = place(state, spec, gpus, off_limits);  // a smaller domain may do
    return packed.found() ? packed : place_in_domain(state, spec, best->nodes, gpus, off_limits);
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
    if (part.cpus > MilliCpus{} && part.cpus > node.free_cpus()) {
        return {Why::no_cpus, part.cpus.count(), node.free_cpus().count(), node.id.value};
    }
    if (part.memory > Bytes{} && part.memory > node.free_memory()) {
        return {Why::no_memory, part.memory.count(), node.free_memory().count(), node.id.value};
    }
    return {};
}

std::int32_t room_for(const JobSpec& spec, std::int32_t gpus, MilliCpus cpus, Bytes memory) {
    std::int64_t room = gpus;
    if (spec.cpus_per_rank > MilliCpus{}) room = std::min(room, cpus.count() / spec.cpus_per_rank.count());
    if (spec.memory_per_rank > Bytes{}) room = std::min(room, memory.count() / spec.memory_per_rank.count());
    return static_cast<std::int32_t>(std::max<std::int64_t>(room, 0));
}

Placement place(const State& state, const JobSpec& spec, std::int32_t gpus, const OffLimits& off_limits) {
    if (spec.share > 0) return place_share(state, spec, off_limits);
    if (gpus > 0 && state.free_gpus(spec.gpu_types) < gpus) return {{}, too_few(state, spec, gpus)};
    if (gpus <= max_gpus_per_node) {
        auto placed = place_on_one_node(state, spec, gpus, off_limits);
        if (placed.found() || gpus <= 1 || spec.require == Level::node) return placed;
        auto spread = place_over_nodes(state, spec, gpus, off_limits);
        // That no one node has room for all of them is said only where its host is what lacks.
        if (!spread.found() && placed.why.why != Why::fragmented) return placed;
        return spread;
    }
    if (spec.require == Level::node) return {{}, too_few(state, spec, gpus)};
    return place_over_nodes(state, spec, gpus, off_limits);
}

Placement place_elastic(const State& state, const JobSpec& spec, std::int32_t most, const OffLimits& off_limits) {
    const auto least = spec.min_gpus.count();
    most = std::min(most, state.free_gpus(spec.gpu_types));
    if (most > least) {
        auto placed = place(state, spec, most, off_limits);
        if (placed.found()) return placed;
        placed = spec.require == Level::node ? place_most_on_a_node(state, spec, most, off_limits)
                                             : place_most_in_a_domain(state, spec, most, off_limits);
        if (placed.found() && milli_gpus(placed.parts) > std::int64_t{1000} * least) return placed;
    }
    return place(state, spec, least, off_limits);
}

Parts extend(const State& state, const JobSpec& spec, const Parts& parts, std::int32_t more,
             const OffLimits& off_limits) {
    Parts added;
    const auto take = [&](NodeId id) {
        const auto& node = state.at<Node>(id);
        if (!may_use(node, spec, off_limits)) return;
        const auto room = std::min(more, room_on(node, spec));
        if (room == 0) return;
        added.push_back(part_on(spec, id, lowest(node.free(), room)));
        more -= room;
    };
    for (const auto& part : parts) take(part.node);
    if (spec.require == Level::node || more <= 0) return added;
    const auto& rack = state.domains(Level::rack)[state.at<Node>(parts.front().node).shape.rack];
    if (free_in(rack, spec) == 0) return added;
    for (const auto id : rack.nodes) {
        if (more <= 0) break;
        const auto known = [&](const Part& part) { return part.node == id; };
        if (std::none_of(parts.begin(), parts.end(), known)) take(id);
    }
    return added;
}

}  // namespace stargate
