#include "core/policy/reclaim.hpp"

#include <algorithm>
#include <bit>

#include "core/evolve.hpp"
#include "core/policy/clearing.hpp"

namespace stargate {

namespace {
/// Nodes with somebody who could give that are planned for one job in one pass. Those with most free GPUs come first,
/// so more seldom finds better.
constexpr std::size_t max_nodes_tried = 256;
/// Nodes asked whether they have anybody who could, before those are found.
constexpr std::size_t max_nodes_asked = 16 * max_nodes_tried;

std::uint32_t preemptible(const State& state, const JobSpec& spec) {
    return state.settings().may_preempt[rank_of(spec.priority)];
}

/// Whether anybody holds anything that this class may take. Cost O(1).
bool could_preempt(const State& state, const JobSpec& spec) {
    for (std::size_t rank = 0; rank < priority_classes; ++rank) {
        const auto priority = static_cast<PriorityClass>(rank);
        if ((preemptible(state, spec) & bit_of(priority)) != 0 && state.attempts_of(priority) > 0) return true;
    }
    return false;
}

/// An upper bound of what there is to have, and false where nobody could give anything at all. Cost O(1).
bool could_help(const State& state, const Need& need) {
    const auto& spec = *need.spec;
    const auto leaving = state.leaving_gpus();
    bool anybody = !state.ending().empty();
    auto gpus = static_cast<std::int64_t>(state.free_gpus(spec.gpu_types)) + leaving;
    for (std::size_t rank = 0; rank < priority_classes; ++rank) {
        const auto priority = static_cast<PriorityClass>(rank);
        if ((preemptible(state, spec) & bit_of(priority)) != 0) {
            gpus += state.held_by(priority);
            anybody = anybody || state.attempts_of(priority) > 0;
        } else if (priority <= spec.priority) {
            gpus += state.surplus_of(priority);
            anybody = anybody || state.surplus_of(priority) > 0;
        }
    }
    if (could_preempt(state, spec)) gpus += static_cast<std::int64_t>(state.table<SharedGpu>().size());
    return anybody && gpus >= need.gpus();
}

/// The same for the quota of the tenant that blocks. Cost O(1), and O(attempts that are ending).
bool could_return(const State& state, const Need& need) {
    const auto& work = state.work_of(need.under);
    auto gpus = std::int64_t{1000} * state.leaving_gpus();
    for (std::size_t rank = 0; rank < priority_classes; ++rank) {
        const auto priority = static_cast<PriorityClass>(rank);
        if ((preemptible(state, *need.spec) & bit_of(priority)) != 0) {
            gpus += work.held[rank];
        } else if (priority <= need.spec->priority) {
            gpus += work.surplus[rank];
        }
    }
    return gpus >= need.quota;
}

bool has_candidate(const State& state, Instant now, const Need& need, NodeId node) {
    const auto& attempts = state.attempts_on(node);
    return std::any_of(attempts.begin(), attempts.end(),
                       [&](AttemptId id) { return gives(state, now, need, state.at<Attempt>(id)) != Gives::nothing; });
}

/// Attempts of this tenant and of those below it that could give.
std::vector<AttemptId> givers_under(const State& state, Instant now, const Need& need) {
    std::vector<AttemptId> givers;
    state.table<TenantRow>().for_each([&](const TenantRow& row) {
        if (!is_under(state, row.tenant.id, need.under)) return;
        for (const auto id : state.work_of(row.tenant.id).attempts) {
            if (gives(state, now, need, state.at<Attempt>(id)) != Gives::nothing) givers.push_back(id);
        }
    });
    return givers;
}

void add_nodes_of(const State& state, AttemptId id, std::vector<NodeId>& nodes) {
    for (const auto& part : state.at<Attempt>(id).parts) nodes.push_back(part.node);
}

/// Nodes where lower classes hold something that they could give, those with most free GPUs first.
void add_nodes_to_preempt_on(const State& state, Instant now, const Need& need, std::vector<NodeId>& nodes) {
    std::size_t asked = 0;
    const auto is_held = [&](NodeId id) {
        for (std::size_t rank = 0; rank < priority_classes; ++rank) {
            const auto priority = static_cast<PriorityClass>(rank);
            if ((preemptible(state, *need.spec) & bit_of(priority)) != 0 && state.nodes_holding(priority).contains(id))
                return true;
        }
        return false;
    };
    for (auto free = max_gpus_per_node; free >= 0; --free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            if (!allows(need.spec->gpu_types, type)) continue;
            const auto& bucket = state.nodes_with(type, free);
            for (auto id = bucket.first(); id; id = bucket.next(id)) {
                if (!is_held(id)) continue;
                if (has_candidate(state, now, need, id)) nodes.push_back(id);
                if (nodes.size() >= max_nodes_tried || ++asked >= max_nodes_asked) return;
            }
        }
    }
}

/// Nodes worth a plan of their own: those with most free GPUs first, then in order of id.
std::vector<NodeId> nodes_to_try(const State& state, Instant now, const Need& need) {
    std::vector<NodeId> nodes;
    if (!need.under) {
        for (const auto id : state.elastic_attempts()) {
            if (gives(state, now, need, state.at<Attempt>(id)) != Gives::nothing) add_nodes_of(state, id, nodes);
        }
        if (could_preempt(state, *need.spec)) add_nodes_to_preempt_on(state, now, need, nodes);
    } else {
        for (const auto id : givers_under(state, now, need)) add_nodes_of(state, id, nodes);
    }
    for (const auto id : state.ending()) add_nodes_of(state, id, nodes);
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    std::stable_sort(nodes.begin(), nodes.end(), [&](NodeId a, NodeId b) {
        return std::popcount(state.at<Node>(a).free()) > std::popcount(state.at<Node>(b).free());
    });
    if (nodes.size() > max_nodes_tried) nodes.resize(max_nodes_tried);
    return nodes;
}

/// The cheapest of the plans that are proposed to it.
class Cheapest {
public:
    explicit Cheapest(const Settings& settings) : most_{static_cast<std::size_t>(settings.max_victims)} {}
    void propose(Clearing clearing) {
        if (clearing.victims() > most_) {
            found_.too_many_victims = true;
        } else if (const auto cost = clearing.cost(); !found_.plan || cost < cost_) {
            found_.plan = std::move(clearing).result();
            cost_ = cost;
        }
    }
    [[nodiscard]] bool found() const { return found_.plan.has_value(); }
    /// Shrinking alone is enough: no other plan is looked for.
    [[nodiscard]] bool is_cheap() const { return found() && cost_.preempted == 0; }
    Reclaimed result() && { return std::move(found_); }

private:
    std::size_t most_;
    Reclaimed found_;
    ClearingCost cost_;
};

}  // namespace

Reclaimed reclaim(const State& state, Instant now, const Need& need) {
    const auto& spec = *need.spec;
    Cheapest cheapest{state.settings()};
    if (need.under) {
        if (!could_return(state, need)) return {};
        // A claim is of whole GPUs: a share does not wait for its part of one that others share.
        auto placed = spec.share > 0 ? Placement{} : place(state, spec, spec.min_gpus.count(), need.off_limits);
        if (placed.found() && !placed.parts.empty()) {
            Clearing clearing{state, now, need};
            if (clearing.make_quota(std::move(placed.parts), givers_under(state, now, need))) {
                cheapest.propose(std::move(clearing));
            }
            return std::move(cheapest).result();
        }
    }
    if (!could_help(state, need)) return {};
    for (const auto node : nodes_to_try(state, now, need)) {
        if (state.at<Node>(node).shape.gpus.count() < need.gpus()) continue;
        Clearing clearing{state, now, need};
        if (clearing.make({node})) cheapest.propose(std::move(clearing));
        if (cheapest.is_cheap()) break;
    }
    if (cheapest.found() || spec.require == Level::node || need.gpus() <= 1) return std::move(cheapest).result();
    for (const auto& domain : state.domains(spec.require)) {
        Clearing clearing{state, now, need};
        if (clearing.make(domain.nodes)) cheapest.propose(std::move(clearing));
    }
    return std::move(cheapest).result();
}

Parts cut_to(const JobSpec& spec, const Parts& parts, std::int32_t gpus) {
    Parts kept;
    for (const auto& part : parts) {
        if (gpus == 0) break;
        const auto here = lowest(part.gpus, gpus);
        gpus -= std::popcount(here);
        kept.push_back(part_on(spec, part.node, here));
    }
    return kept;
}

}  // namespace stargate
