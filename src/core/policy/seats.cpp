#include "core/policy/seats.hpp"

#include <algorithm>
#include <bit>

#include "core/evolve.hpp"
#include "core/policy/clearing.hpp"
#include "core/policy/quota.hpp"

namespace stargate {

namespace {
/// Nodes looked at for a replica that is born, those with most free GPUs first.
constexpr int max_nodes_tried = 256;

/// What is wanted on one node.
struct Wanted {
    const JobSpec* spec;
    NodeId node;
    GpuMask among;  // of these GPUs
    bool may_preempt;
};

/// Gathers GPUs of one node, the cheapest first.
class Gathering {
public:
    Gathering(const State& state, Instant now, const Wanted& wanted)
        : state_{state}, now_{now}, wanted_{wanted}, node_{state.at<Node>(wanted.node)} {
        need_.spec = wanted.spec;
        want_ = wanted.spec->min_gpus.count();
    }

    std::optional<Reclaim> result() && {
        if (!node_.takes_work() || !allows(wanted_.spec->gpu_types, node_.shape.gpu_type)) return std::nullopt;
        take(lowest(node_.free() & wanted_.among, want_));
        if (want_ > 0) take_leaving();
        if (want_ > 0) shrink_some();
        if (want_ > 0 && wanted_.may_preempt) preempt_some();
        if (want_ > 0) return std::nullopt;
        found_.parts.push_back(part_on(*wanted_.spec, node_.id, taken_));
        return std::move(found_);
    }

private:
    void take(GpuMask gpus) {
        taken_ |= gpus;
        want_ -= std::popcount(gpus);
    }
    [[nodiscard]] GpuMask useful(GpuMask gpus) const {
        return gpus & wanted_.among & node_.all() & ~node_.claimed & ~node_.foreign & ~taken_;
    }

    void take_leaving() {
        for (const auto id : state_.attempts_on(node_.id)) {
            const auto& attempt = state_.at<Attempt>(id);
            if (want_ == 0 || !is_leaving(state_, now_, attempt)) continue;
            for (const auto& part : attempt.parts) {
                if (part.node != node_.id || part.share > 0) continue;
                take(lowest(useful(attempt.leaving(part).gpus), want_));
            }
            found_.leaving_by = std::max(found_.leaving_by, attempt.ending->deadline);
        }
    }

    /// Whether the attempt, which is about to shrink for somebody, can shrink further with the same warning: its ranks
    /// have not gone yet, and are all started anew.
    [[nodiscard]] bool shrinks_further(const Attempt& attempt) const {
        const auto& ending = attempt.ending;
        if (!ending || ending->cause != EndCause::resize || ending->next.empty() || ending->deadline <= now_ ||
            attempt.settled > now_) {
            return false;
        }
        const auto& spec = spec_of(attempt);
        return spec.is_elastic() && !spec.resize_in_place && spec.priority <= wanted_.spec->priority &&
               state_.find<Claim>(attempt.job) == nullptr &&
               std::all_of(attempt.parts.begin(), attempt.parts.end(), [&](const Part& part) {
                   return part.phase == PartPhase::running && state_.at<Node>(part.node).reach == Reach::up;
               });
    }

    /// Who could give, lower classes first, the newest first within one.
    template <class Fits>
    [[nodiscard]] std::vector<const Attempt*> givers(Fits fits) const {
        std::vector<const Attempt*> found;
        for (const auto id : state_.attempts_on(node_.id)) {
            const auto& attempt = state_.at<Attempt>(id);
            if (fits(attempt)) found.push_back(&attempt);
        }
        std::sort(found.begin(), found.end(), [&](const Attempt* a, const Attempt* b) {
            return std::pair{spec_of(*a).priority, b->id} < std::pair{spec_of(*b).priority, a->id};
        });
        return found;
    }
    [[nodiscard]] const JobSpec& spec_of(const Attempt& attempt) const {
        return state_.spec_of(state_.at<Job>(attempt.job));
    }

    /// What one who shrinks lets go of here: no more than is useful, but where ranks survive it is the last that leave.
    [[nodiscard]] GpuMask given_of(const JobSpec& spec, GpuMask gpus, std::int32_t surplus) const {
        const auto most = std::min(want_, surplus);
        if (!spec.resize_in_place) return lowest(useful(gpus), most);
        GpuMask given = 0;
        for (std::int32_t i = 1; i <= surplus && std::popcount(useful(given)) < most; ++i) {
            given = gpus & ~lowest(gpus, std::popcount(gpus) - i);
        }
        return given;
    }

    void shrink_some() {
        const auto could = [&](const Attempt& attempt) {
            return shrinks_further(attempt) ||
                   (spec_of(attempt).is_elastic() && gives(state_, now_, need_, attempt) != Gives::nothing);
        };
        for (const auto* attempt : givers(could)) {
            if (want_ == 0) return;
            const auto& spec = spec_of(*attempt);
            const auto& held = attempt->ending ? attempt->ending->next : attempt->parts;
            std::int32_t surplus = -std::max(1, spec.min_gpus.count());
            for (const auto& part : held) surplus += part.gpu_count();
            if (surplus <= 0) continue;
            Victim victim{attempt->id, {}};
            GpuMask given = 0;
            for (const auto& part : held) {
                if (part.node == node_.id) given = given_of(spec, part.gpus, surplus);
                const auto staying = part.gpus & ~(part.node == node_.id ? given : 0);
                if (staying != 0) victim.keep.push_back(part_on(spec, part.node, staying));
            }
            if (useful(given) == 0) continue;
            take(lowest(useful(given), want_));
            found_.victims.push_back(std::move(victim));
        }
    }

    void preempt_some() {
        const auto could = [&](const Attempt& attempt) {
            return gives(state_, now_, need_, attempt) == Gives::everything;
        };
        for (const auto* attempt : givers(could)) {
            if (want_ == 0) return;
            GpuMask given = 0;
            for (const auto& part : attempt->parts) {
                if (part.node == node_.id && part.share == 0) given |= useful(part.gpus);
            }
            const bool is_known = std::any_of(found_.victims.begin(), found_.victims.end(),
                                              [&](const Victim& victim) { return victim.attempt == attempt->id; });
            if (given == 0 || is_known) continue;
            take(lowest(given, want_));
            found_.victims.push_back({attempt->id, {}});
        }
    }

    const State& state_;
    Instant now_;
    const Wanted& wanted_;
    const Node& node_;
    Need need_;
    std::int32_t want_ = 0;
    GpuMask taken_ = 0;
    Reclaim found_;
};

/// Whether the quotas of the replica's tenant, and of those above it, hold what it takes, with what the victims below
/// them return.
Refusal quota_after(const State& state, const JobSpec& spec, const Reclaim& plan) {
    Refusal refused;
    const auto more = milli_gpus(plan.parts);
    for_each_tenant(state, spec.tenant, [&](TenantId id) {
        const auto& row = state.at<TenantRow>(id);
        if (row.tenant.quota < 0 || refused.why != Why::none) return;
        auto returned = std::int64_t{0};
        for (const auto& victim : plan.victims) {
            const auto& attempt = state.at<Attempt>(victim.attempt);
            if (!is_under(state, state.spec_of(state.at<Job>(attempt.job)).tenant, id)) continue;
            returned += milli_gpus(attempt.ending ? attempt.ending->next : attempt.parts) - milli_gpus(victim.keep);
        }
        const auto left = row.tenant.quota - row.used - row.claimed + returned;
        if (left < more) refused = {Why::tenant_quota, more, left, id.value};
    });
    return refused;
}

Room checked(const State& state, const JobSpec& spec, std::optional<Reclaim> plan) {
    if (!plan) return {};
    if (const auto why = quota_after(state, spec, *plan); why.why != Why::none) return {std::nullopt, why};
    return {std::move(plan), {}};
}

/// The nodes that are worth a look: those with most free GPUs, then those where somebody could give.
std::vector<NodeId> nodes_for_birth(const State& state, const JobSpec& spec) {
    std::vector<NodeId> nodes;
    for (auto free = max_gpus_per_node; free >= 0; --free) {
        for (std::uint32_t type = 0; type < state.settings().gpu_types.size(); ++type) {
            if (!allows(spec.gpu_types, type)) continue;
            const auto& bucket = state.nodes_with(type, free);
            for (auto id = bucket.first(); id; id = bucket.next(id)) {
                if (static_cast<int>(nodes.size()) >= max_nodes_tried) return nodes;
                nodes.push_back(id);
            }
        }
    }
    return nodes;
}

Room room_for_birth(const State& state, Instant now, const JobSpec& spec, bool may_preempt) {
    Room best;
    Refusal why{Why::no_gpus, spec.min_gpus.count(), state.free_gpus(spec.gpu_types), 0};
    for (const auto id : nodes_for_birth(state, spec)) {
        const auto& node = state.at<Node>(id);
        const auto part = part_on(spec, id, lowest(node.all(), spec.min_gpus.count()));
        if (const auto lacks = host_fits(node, part); lacks.why != Why::none) {
            why = lacks;
            continue;
        }
        auto room =
            checked(state, spec, Gathering{state, now, {&spec, id, node.all() & ~node.seats, may_preempt}}.result());
        if (room.why.why != Why::none) why = room.why;
        if (!room.plan) continue;
        if (room.plan->victims.empty()) return room;
        if (!best.plan || room.plan->victims.size() < best.plan->victims.size()) best = std::move(room);
    }
    if (!best.plan) best.why = why;
    return best;
}

}  // namespace

Room room_for_replica(const State& state, Instant now, const Job& job) {
    const auto& spec = state.spec_of(job);
    const auto* active = std::get_if<Active>(&job.phase);
    if (active == nullptr) return room_for_birth(state, now, spec, job.wish == Wish::awake);
    const auto& seat = state.at<Attempt>(active->attempt).seat.front();
    auto room = checked(state, spec, Gathering{state, now, {&spec, seat.node, seat.gpus, true}}.result());
    if (room.plan) {
        room.plan->parts = {seat};
    } else if (room.why.why == Why::none) {
        const auto& node = state.at<Node>(seat.node);
        room.why = {Why::no_gpus, seat.gpu_count(), std::popcount(node.free() & seat.gpus), 0};
    }
    return room;
}

}  // namespace stargate
