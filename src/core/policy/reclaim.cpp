#include "core/policy/reclaim.hpp"

#include <algorithm>
#include <tuple>

#include "core/policy/place.hpp"

namespace stargate {

namespace {
/// Nodes looked at for one job in one pass. The fullest of free GPUs come first, so more seldom finds better.
constexpr std::size_t max_nodes_tried = 256;

struct Cost {
    std::size_t preempted = 0;          // attempts
    std::int64_t lost_gpu_seconds = 0;  // by those, since they started: an upper bound of what a checkpoint saves
    std::int32_t shrunk = 0;            // GPUs
    friend auto operator<=>(const Cost&, const Cost&) = default;
};

struct Candidate {
    const Attempt* attempt;
    const JobSpec* spec;
    bool may_preempt;
    bool may_shrink;
};

/// What is left of the attempts while a plan is being made: GPUs that each still holds.
class Plan {
public:
    Plan(const State& state, Instant now, const JobSpec& spec) : state_{state}, now_{now}, spec_{spec} {}

    /// Takes `want` GPUs on these nodes, or as many as there are.
    std::int32_t take(const std::vector<NodeId>& nodes, std::int32_t want) {
        for (const auto id : nodes) {
            if (want == 0) break;
            const auto& node = state_.at<Node>(id);
            if (!node.takes_work() || !allows(spec_.gpu_types, node.shape.gpu_type)) continue;
            want -= take_on(node, want);
        }
        return want;
    }

    [[nodiscard]] bool host_fits_all() const {
        for (const auto& part : reclaim_.parts) {
            auto node = state_.at<Node>(part.node);
            for (const auto& victim : reclaim_.victims) {
                for (const auto& held : state_.at<Attempt>(victim.attempt).parts) give(node, held, 1);
                for (const auto& kept : victim.keep) give(node, kept, -1);
            }
            if (host_fits(node, part).why != Why::none) return false;
        }
        return true;
    }
    [[nodiscard]] Cost cost() const {
        Cost cost;
        for (const auto& victim : reclaim_.victims) {
            const auto& attempt = state_.at<Attempt>(victim.attempt);
            if (victim.keep.empty()) {
                ++cost.preempted;
                const auto ran = std::chrono::duration_cast<std::chrono::seconds>(now_ - attempt.started).count();
                cost.lost_gpu_seconds += ran * attempt.gpu_count();
            } else {
                cost.shrunk += attempt.gpu_count();
                for (const auto& part : victim.keep) cost.shrunk -= part.gpu_count();
            }
        }
        return cost;
    }
    Reclaim result() && { return std::move(reclaim_); }
    [[nodiscard]] std::size_t victims() const { return reclaim_.victims.size(); }

private:
    static void give(Node& node, const Part& part, int sign) {
        if (part.node != node.id) return;
        node.cpus_leased -= part.cpus * sign;
        node.memory_leased -= part.memory * sign;
    }

    std::vector<Candidate> candidates_on(NodeId node) const {
        std::vector<Candidate> found;
        const auto& settings = state_.settings();
        for (const auto id : state_.attempts_on(node)) {
            const auto& attempt = state_.at<Attempt>(id);
            if (attempt.ending || attempt.settled > now_ || attempt.gang_deadline != never) continue;
            const auto& spec = state_.spec_of(state_.at<Job>(attempt.job));
            if (spec.share > 0 || attempt.gpu_count() == 0) continue;
            const bool preempt = (settings.may_preempt[rank_of(spec_.priority)] & bit_of(spec.priority)) != 0;
            const bool shrink = spec.is_elastic() && spec.priority <= spec_.priority;
            if (preempt || shrink) found.push_back({&attempt, &spec, preempt, shrink});
        }
        std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
            // Lower classes first; within a class the newest, which has the least to lose.
            return std::tuple{a.spec->priority, b.attempt->id} < std::tuple{b.spec->priority, a.attempt->id};
        });
        return found;
    }

    Victim* known(AttemptId id) {
        for (auto& victim : reclaim_.victims) {
            if (victim.attempt == id) return &victim;
        }
        return nullptr;
    }
    static GpuMask mask_on(const Parts& parts, NodeId node) {
        for (const auto& part : parts) {
            if (part.node == node) return part.gpus;
        }
        return 0;
    }

    std::int32_t take_on(const Node& node, std::int32_t want) {
        GpuMask got = lowest(node.free(), want);
        const auto lacking = [&] { return want - std::popcount(got); };
        if (lacking() > 0) {
            const auto candidates = candidates_on(node.id);
            for (const auto& candidate : candidates) {
                if (lacking() > 0 && candidate.may_shrink) got |= shrink(candidate, node.id, lacking());
            }
            for (const auto& candidate : candidates) {
                if (lacking() > 0 && candidate.may_preempt) got |= preempt(candidate, node.id, got, lacking());
            }
        }
        if (got == 0) return 0;
        reclaim_.parts.push_back(part_on(spec_, node.id, got));
        return std::popcount(got);
    }

    /// GPUs on this node that the candidate can do without, its highest ranks' first.
    GpuMask shrink(const Candidate& candidate, NodeId node, std::int32_t want) {
        auto* victim = known(candidate.attempt->id);
        const Parts& now = victim != nullptr ? victim->keep : candidate.attempt->parts;
        std::int32_t holds = 0;
        for (const auto& part : now) holds += part.gpu_count();
        const auto surplus = std::min(want, holds - candidate.spec->min_gpus.count());
        const auto here = mask_on(now, node);
        const auto leaving_count = std::min(surplus, std::popcount(here));
        // A rank's place in the gang follows the order of parts, so an attempt of minimum 0 never shrinks to nothing.
        if (leaving_count <= 0 || holds - leaving_count <= 0) return 0;
        const auto staying = lowest(here, std::popcount(here) - leaving_count);
        Parts keep;
        for (const auto& part : now) {
            const auto gpus = part.node == node ? staying : part.gpus;
            if (gpus == 0) continue;
            keep.push_back(part_on(*candidate.spec, part.node, gpus));
        }
        if (victim != nullptr) {
            victim->keep = std::move(keep);
        } else {
            reclaim_.victims.push_back({candidate.attempt->id, std::move(keep)});
        }
        return here & ~staying;
    }

    GpuMask preempt(const Candidate& candidate, NodeId node, GpuMask got, std::int32_t want) {
        auto* victim = known(candidate.attempt->id);
        if (victim != nullptr && victim->keep.empty())
            return lowest(mask_on(candidate.attempt->parts, node) & ~got, want);
        if (victim != nullptr) {
            victim->keep.clear();
        } else {
            reclaim_.victims.push_back({candidate.attempt->id, {}});
        }
        return lowest(mask_on(candidate.attempt->parts, node) & ~got, want);
    }

    const State& state_;
    Instant now_;
    const JobSpec& spec_;
    Reclaim reclaim_;
};

bool could_help(const State& state, const JobSpec& spec) {
    auto sum = state.free_gpus(spec.gpu_types);
    for (std::size_t rank = 0; rank < priority_classes; ++rank) {
        const auto priority = static_cast<PriorityClass>(rank);
        if ((state.settings().may_preempt[rank_of(spec.priority)] & bit_of(priority)) != 0) {
            sum += state.held_by(priority);
        } else if (priority <= spec.priority) {
            sum += state.surplus_of(priority);
        }
    }
    return sum >= spec.min_gpus.count();
}

/// Nodes with most free GPUs first, then in order of id.
std::vector<NodeId> nodes_to_try(const State& state, const JobSpec& spec) {
    std::vector<NodeId> nodes;
    for (auto free = max_gpus_per_node; free >= 0; --free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            if (!allows(spec.gpu_types, type)) continue;
            const auto& bucket = state.nodes_with(type, free);
            for (auto id = bucket.first(); id; id = bucket.next(id)) {
                nodes.push_back(id);
                if (nodes.size() >= max_nodes_tried) return nodes;
            }
        }
    }
    return nodes;
}

}  // namespace

std::optional<Reclaim> reclaim(const State& state, Instant now, const JobSpec& spec) {
    const auto want = spec.min_gpus.count();
    if (spec.share > 0 || want == 0 || !could_help(state, spec)) return std::nullopt;
    std::optional<Reclaim> best;
    Cost best_cost;
    const auto consider = [&](Plan plan) {
        if (plan.victims() > static_cast<std::size_t>(state.settings().max_victims) || !plan.host_fits_all()) return;
        if (const auto cost = plan.cost(); !best || cost < best_cost) {
            best = std::move(plan).result();
            best_cost = cost;
        }
    };
    for (const auto node : nodes_to_try(state, spec)) {
        if (state.at<Node>(node).shape.gpus.count() < want) continue;
        Plan plan{state, now, spec};
        if (plan.take({node}, want) == 0) consider(std::move(plan));
        if (best && best_cost.preempted == 0) break;  // shrinking alone is enough
    }
    if (best || spec.require == Level::node) return best;
    for (const auto& domain : state.domains(spec.require)) {
        Plan plan{state, now, spec};
        if (plan.take(domain.nodes, want) == 0) consider(std::move(plan));
    }
    return best;
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
