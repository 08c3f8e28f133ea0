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

/// An attempt that could give GPUs on the nodes looked at.
struct Candidate {
    const Attempt* attempt;
    const JobSpec* spec;
    std::int64_t lost_gpu_seconds;
};

/// GPUs that one victim gives, by the position of their node.
struct Given {
    std::size_t at;
    GpuMask gpus;
};

/// One way to make room on some nodes. Takes free GPUs first, then what elastic attempts can do without, then whole
/// attempts of lower classes, and at last lets go of every victim that turned out not to be needed.
class Plan {
public:
    Plan(const State& state, Instant now, const JobSpec& spec) : state_{state}, now_{now}, spec_{spec} {}

    /// Whether `want` GPUs can be had on these nodes, each named once.
    [[nodiscard]] bool make(const std::vector<NodeId>& nodes, std::int32_t want) {
        for (const auto id : nodes) {
            const auto& node = state_.at<Node>(id);
            if (!node.takes_work() || !allows(spec_.gpu_types, node.shape.gpu_type)) continue;
            nodes_.push_back(id);
            free_.push_back(node.free());
            lacking_ -= std::popcount(node.free());
        }
        lacking_ += want;
        if (lacking_ > 0) shrink_some();
        if (lacking_ > 0) preempt_some();
        if (lacking_ > 0) return false;
        drop_useless();
        choose_parts(want);
        return host_fits_all();
    }
    [[nodiscard]] Cost cost() const {
        Cost cost;
        for (const auto& victim : reclaim_.victims) {
            const auto& attempt = state_.at<Attempt>(victim.attempt);
            if (victim.keep.empty()) {
                ++cost.preempted;
                cost.lost_gpu_seconds += lost_by(attempt);
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
    [[nodiscard]] std::int64_t lost_by(const Attempt& attempt) const {
        return std::chrono::duration_cast<std::chrono::seconds>(now_ - attempt.started).count() * attempt.gpu_count();
    }
    [[nodiscard]] std::optional<std::size_t> position(NodeId node) const {
        if (nodes_.size() == 1) return nodes_[0] == node ? std::optional<std::size_t>{0} : std::nullopt;
        const auto found = std::find(nodes_.begin(), nodes_.end(), node);
        return found == nodes_.end() ? std::nullopt : std::optional{static_cast<std::size_t>(found - nodes_.begin())};
    }

    /// Attempts on these nodes that nobody has warned and whose lease is settled. Lower classes first; within a class
    /// those that lose least, then the newest.
    template <class May>
    [[nodiscard]] std::vector<Candidate> candidates(May may) const {
        std::vector<Candidate> found;
        for (const auto node : nodes_) {
            for (const auto id : state_.attempts_on(node)) {
                const auto& attempt = state_.at<Attempt>(id);
                if (attempt.ending || attempt.settled > now_ || attempt.gang_deadline != never) continue;
                const auto& spec = state_.spec_of(state_.at<Job>(attempt.job));
                if (spec.share > 0 || attempt.gpu_count() == 0 || !may(spec)) continue;
                found.push_back({&attempt, &spec, lost_by(attempt)});
            }
        }
        std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
            return std::tuple{a.spec->priority, a.lost_gpu_seconds, b.attempt->id} <
                   std::tuple{b.spec->priority, b.lost_gpu_seconds, a.attempt->id};
        });
        const auto same = [](const Candidate& a, const Candidate& b) { return a.attempt == b.attempt; };
        found.erase(std::unique(found.begin(), found.end(), same), found.end());
        return found;
    }

    void shrink_some() {
        const auto may = [&](const JobSpec& spec) { return spec.is_elastic() && spec.priority <= spec_.priority; };
        for (const auto& candidate : candidates(may)) {
            if (lacking_ <= 0) return;
            shrink(candidate);
        }
    }

    /// GPUs here that the attempt can do without, its last ranks' first: rank order follows the order of parts.
    void shrink(const Candidate& candidate) {
        const auto& attempt = *candidate.attempt;
        // An attempt of minimum 0 never shrinks to nothing: that would be a preemption.
        auto surplus = attempt.gpu_count() - std::max(1, candidate.spec->min_gpus.count());
        Parts keep = attempt.parts;
        std::vector<Given> given;
        for (auto part = keep.rbegin(); part != keep.rend() && surplus > 0 && lacking_ > 0; ++part) {
            const auto at = position(part->node);
            if (!at) continue;
            const auto here = std::popcount(part->gpus);
            const auto leaving = std::min({surplus, lacking_, here});
            const auto staying = lowest(part->gpus, here - leaving);
            given.push_back({*at, part->gpus & ~staying});
            *part = part_on(*candidate.spec, part->node, staying);
            surplus -= leaving;
            lacking_ -= leaving;
        }
        if (given.empty()) return;
        Parts kept;
        for (const auto& part : keep) {
            if (part.gpus != 0) kept.push_back(part);
        }
        reclaim_.victims.push_back({attempt.id, std::move(kept)});
        given_.push_back(std::move(given));
    }

    void preempt_some() {
        const auto lower = state_.settings().may_preempt[rank_of(spec_.priority)];
        const auto may = [&](const JobSpec& spec) { return (lower & bit_of(spec.priority)) != 0; };
        for (const auto& candidate : candidates(may)) {
            if (lacking_ <= 0) return;
            auto at = index_of(candidate.attempt->id);
            if (at == reclaim_.victims.size()) {
                reclaim_.victims.push_back({candidate.attempt->id, {}});
                given_.emplace_back();
            }
            reclaim_.victims[at].keep.clear();
            lacking_ += gpus_in(given_[at]);
            given_[at].clear();
            for (const auto& part : candidate.attempt->parts) {
                if (const auto node = position(part.node)) given_[at].push_back({*node, part.gpus});
            }
            lacking_ -= gpus_in(given_[at]);
        }
    }

    [[nodiscard]] std::size_t index_of(AttemptId attempt) const {
        const auto found = std::find_if(reclaim_.victims.begin(), reclaim_.victims.end(),
                                        [&](const Victim& victim) { return victim.attempt == attempt; });
        return static_cast<std::size_t>(found - reclaim_.victims.begin());
    }
    static std::int32_t gpus_in(const std::vector<Given>& given) {
        std::int32_t sum = 0;
        for (const auto& one : given) sum += std::popcount(one.gpus);
        return sum;
    }

    /// Nobody is a victim without need: those that lose most are let go first.
    void drop_useless() {
        const auto drop_where = [&](bool preempted) {
            for (auto i = reclaim_.victims.size(); i-- > 0;) {
                const auto gives = gpus_in(given_[i]);
                if (reclaim_.victims[i].keep.empty() != preempted || lacking_ + gives > 0) continue;
                lacking_ += gives;
                reclaim_.victims.erase(reclaim_.victims.begin() + static_cast<std::ptrdiff_t>(i));
                given_.erase(given_.begin() + static_cast<std::ptrdiff_t>(i));
            }
        };
        drop_where(true);
        drop_where(false);
    }

    /// Fullest nodes first, so that the job lies on few.
    void choose_parts(std::int32_t want) {
        auto room = free_;
        for (const auto& given : given_) {
            for (const auto& one : given) room[one.at] |= one.gpus;
        }
        std::vector<std::size_t> order(nodes_.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return std::popcount(room[a]) > std::popcount(room[b]); });
        for (const auto i : order) {
            if (want == 0) break;
            auto gpus = lowest(room[i] & free_[i], want);
            gpus |= lowest(room[i] & ~free_[i], want - std::popcount(gpus));
            if (gpus == 0) break;
            want -= std::popcount(gpus);
            reclaim_.parts.push_back(part_on(spec_, nodes_[i], gpus));
        }
    }

    [[nodiscard]] bool host_fits_all() const {
        const auto give = [](Node& node, const Parts& parts, int sign) {
            for (const auto& part : parts) {
                if (part.node != node.id) continue;
                node.cpus_leased -= part.cpus * sign;
                node.memory_leased -= part.memory * sign;
            }
        };
        for (const auto& part : reclaim_.parts) {
            auto node = state_.at<Node>(part.node);
            for (const auto& victim : reclaim_.victims) {
                give(node, state_.at<Attempt>(victim.attempt).parts, 1);
                give(node, victim.keep, -1);
            }
            if (host_fits(node, part).why != Why::none) return false;
        }
        return true;
    }

    const State& state_;
    Instant now_;
    const JobSpec& spec_;
    std::vector<NodeId> nodes_;
    std::vector<GpuMask> free_;  // of each node
    std::int32_t lacking_ = 0;
    std::vector<std::vector<Given>> given_;  // by each victim
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
        if (plan.victims() > static_cast<std::size_t>(state.settings().max_victims)) return;
        if (const auto cost = plan.cost(); !best || cost < best_cost) {
            best = std::move(plan).result();
            best_cost = cost;
        }
    };
    for (const auto node : nodes_to_try(state, spec)) {
        if (state.at<Node>(node).shape.gpus.count() < want) continue;
        Plan plan{state, now, spec};
        if (plan.make({node}, want)) consider(std::move(plan));
        if (best && best_cost.preempted == 0) break;  // shrinking alone is enough
    }
    if (best || spec.require == Level::node) return best;
    for (const auto& domain : state.domains(spec.require)) {
        Plan plan{state, now, spec};
        if (plan.make(domain.nodes, want)) consider(std::move(plan));
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
