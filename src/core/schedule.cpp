#include "core/schedule.hpp"

#include <algorithm>
#include <bit>
#include <optional>

#include "core/attempts.hpp"
#include "core/policy/place.hpp"
#include "core/policy/reclaim.hpp"

namespace stargate {

namespace {

/// Whether every GPU of the claim has been let go and its nodes can start work.
bool is_free(const State& state, const Claim& claim) {
    return std::all_of(claim.parts.begin(), claim.parts.end(), [&](const Part& part) {
        const auto& node = state.at<Node>(part.node);
        return node.takes_work() && (node.leased & part.gpus) == 0 && node.cpus_leased + part.cpus <= node.shape.cpus &&
               node.memory_leased + part.memory <= node.shape.memory;
    });
}

void start_free_claims(Core& core, Instant now) {
    std::vector<Claim> ready;
    core.state().table<Claim>().for_each([&](const Claim& claim) {
        if (!claim.grows && is_free(core.state(), claim)) ready.push_back(claim);
    });
    for (auto& claim : ready) {
        const auto& spec = core.state().spec_of(core.state().at<Job>(claim.job));
        if (quota_allows(core.state(), spec.tenant, 0).why != Why::none) {  // lowered since it was claimed
            core.apply(now, ClaimDropped{claim.job});
        } else {
            start(core, now, claim.job, std::move(claim.parts));
        }
    }
}

/// Waiting jobs in the order in which they may try, one equivalence class blocked after another.
class Queue {
public:
    explicit Queue(const State& state) : state_{state} {
        for (const auto& [key, shape] : state.shapes()) {
            if (!shape.ready.empty()) shapes_.push_back(&shape);
        }
    }
    /// The job that goes next; none when every class is empty or blocked. Cost O(classes not yet blocked).
    JobId next() {
        JobId best_job;
        std::size_t best = 0;
        for (std::size_t i = 0; i < shapes_.size();) {
            const auto job = head(*shapes_[i]);
            if (!job) {
                block(i);
                continue;
            }
            if (!best_job || goes_first(*shapes_[i], job, *shapes_[best], best_job)) {
                best = i;
                best_job = job;
            }
            ++i;
        }
        last_ = best;
        return best_job;
    }
    /// The class of the job that next() gave cannot be placed in this pass.
    void block_last() { block(last_); }

private:
    void block(std::size_t i) {
        shapes_[i] = shapes_.back();
        shapes_.pop_back();
    }
    [[nodiscard]] JobId head(const Shape& shape) const {
        for (const auto job : shape.ready) {
            if (state_.find<Claim>(job) == nullptr) return job;
        }
        return {};
    }
    [[nodiscard]] bool goes_first(const Shape& a, JobId a_job, const Shape& b, JobId b_job) const {
        if (a.key.class_order != b.key.class_order) return a.key.class_order < b.key.class_order;
        if (a.key.tenant != b.key.tenant) {
            const auto& ta = state_.at<TenantRow>(a.key.tenant);
            const auto& tb = state_.at<TenantRow>(b.key.tenant);
            if (goes_before(ta, tb)) return true;
            if (goes_before(tb, ta)) return false;
        }
        return a_job < b_job;
    }
    const State& state_;
    std::vector<const Shape*> shapes_;
    std::size_t last_ = 0;
};

/// When the job can count on its GPUs, if everyone runs to the time limit; nothing when that never happens.
std::optional<Reserved> when_by_limits(const State& state, JobId job, const JobSpec& spec) {
    const auto want = spec.min_gpus.count();
    auto free = state.free_gpus(spec.gpu_types);
    for (const auto& deadline : state.deadlines()) {
        if (deadline.kind != DeadlineKind::time_limit) continue;
        for (const auto& part : state.at<Attempt>(AttemptId{deadline.id}).parts) {
            const auto& node = state.at<Node>(part.node);
            if (node.takes_work() && allows(spec.gpu_types, node.shape.gpu_type)) free += part.gpu_count();
        }
        if (free >= want) return Reserved{job, deadline.at, free - want};
    }
    return std::nullopt;
}

/// Keeps the one reservation with the first gang that is blocked for want of GPUs.
void reserve_for(Core& core, Instant now, JobId job, const JobSpec& spec) {
    const auto& state = core.state();
    const Reservation* held = nullptr;
    state.table<Reservation>().for_each([&](const Reservation& row) { held = &row; });
    if (held != nullptr && held->job == job && held->at > now) return;
    if (held != nullptr) core.apply(now, ReservationDropped{held->job});
    if (const auto when = when_by_limits(state, job, spec)) core.apply(now, *when);
}

void note_blocked(Core& core, Instant now, const Job& job, Refusal why) {
    const auto* noted = core.state().find<Blocked>(job.spec);
    const bool same =
        noted != nullptr && noted->why.why == why.why && noted->why.need == why.need && noted->why.about == why.about;
    if (!same) core.apply(now, BlockedBecause{job.spec, job.id, why});
}

/// Claims what the victims will let go of and warns them.
void take(Core& core, Instant now, JobId job, const Reclaim& plan) {
    const auto& state = core.state();
    Instant latest = now;
    for (const auto& victim : plan.victims) {
        latest = std::max(latest, now + state.spec_of(state.at<Job>(state.at<Attempt>(victim.attempt).job)).grace);
    }
    core.apply(now, Claimed{{job, {}, plan.parts, latest + state.settings().claim_slack}});
    for (const auto& victim : plan.victims) {
        warn(core, now, victim.attempt, victim.keep.empty() ? EndCause::preempt : EndCause::resize, victim.keep, job);
    }
}

/// What starts beside a reservation and does not end before it takes of what is spare then.
void use_up_spare(Core& core, Instant now, JobId job, const JobSpec& spec, const Parts& parts) {
    std::optional<Reservation> moved;
    core.state().table<Reservation>().for_each([&](const Reservation& held) {
        if (held.job == job || held.at <= now || now + spec.time_limit <= held.at) return;
        const auto& theirs = core.state().spec_of(core.state().at<Job>(held.job));
        std::int32_t taken = 0;
        for (const auto& part : parts) {
            const auto type = core.state().at<Node>(part.node).shape.gpu_type;
            if (allows(theirs.gpu_types, type)) taken += std::popcount(part.gpus);
        }
        if (taken > 0) moved = Reservation{held.job, held.at, held.spare - taken};
    });
    if (moved) core.apply(now, Reserved{moved->job, moved->at, moved->spare});
}

/// Starts the job, or claims a place for it, or says why not.
Refusal try_to_start(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    const auto& spec = state.spec_of(state.at<Job>(id));
    const auto least = spec.share > 0 ? spec.share : std::int64_t{1000} * spec.min_gpus.count();
    if (const auto why = quota_allows(state, spec.tenant, least); why.why != Why::none) return why;
    if (const auto why = reservation_allows(state, now, id, spec, spec.min_gpus.count()); why.why != Why::none)
        return why;
    auto placed = spec.is_elastic() ? place_elastic(state, spec) : place(state, spec, spec.min_gpus.count());
    if (placed.found()) {
        const auto gpus = static_cast<std::int32_t>(milli_gpus(placed.parts) / 1000);
        if (spec.is_elastic() && (quota_allows(state, spec.tenant, milli_gpus(placed.parts)).why != Why::none ||
                                  reservation_allows(state, now, id, spec, gpus).why != Why::none)) {
            placed = place(state, spec, spec.min_gpus.count());
        }
        use_up_spare(core, now, id, spec, placed.parts);
        start(core, now, id, std::move(placed.parts));
        return {};
    }
    if (const auto plan = reclaim(state, now, spec)) {
        take(core, now, id, *plan);
        return {};
    }
    return placed.why;
}

void start_waiting(Core& core, Instant now) {
    const auto& state = core.state();
    Queue queue{state};
    bool reserved = false;
    for (int step = 0; step < state.settings().pass_steps; ++step) {
        const auto id = queue.next();
        if (!id) break;
        const auto why = try_to_start(core, now, id);
        if (why.why == Why::none) continue;
        queue.block_last();
        const auto& job = state.at<Job>(id);
        note_blocked(core, now, job, why);
        const auto& spec = state.spec_of(job);
        if (!reserved && spec.min_gpus.count() > 1 && (why.why == Why::no_gpus || why.why == Why::fragmented)) {
            reserved = true;
            reserve_for(core, now, id, spec);
        }
    }
}

void retire_old(Core& core, Instant now) {
    const auto& state = core.state();
    const auto& settings = state.settings();
    while (!state.finished().empty()) {
        const auto [at, job] = *state.finished().begin();
        const bool too_many = static_cast<std::int64_t>(state.finished().size()) > settings.max_finished;
        if (!too_many && at + settings.retention > now) return;
        core.apply(now, Retired{job});
    }
}

Parts merged(const JobSpec& spec, const Parts& held, const Parts& added) {
    Parts result = held;
    for (const auto& part : added) {
        const auto same =
            std::find_if(result.begin(), result.end(), [&](const Part& p) { return p.node == part.node; });
        if (same == result.end()) {
            result.push_back(part);
        } else {
            *same = part_on(spec, part.node, same->gpus | part.gpus);
        }
    }
    return result;
}

/// What the attempt could grow by now; empty when it is not ready, big enough, or nothing is spare.
Parts growth_of(const State& state, Instant now, const Attempt& attempt) {
    if (attempt.ending || attempt.gang_deadline != never || attempt.settled > now) return {};
    if (state.find<Claim>(attempt.job) != nullptr) return {};
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    const auto most = attempt.want_gpus > 0 ? attempt.want_gpus : spec.max_gpus.count();
    const auto more = most - attempt.gpu_count();
    if (more <= 0) return {};
    auto added = extend(state, spec, attempt.parts, more);
    if (added.empty() || quota_allows(state, spec.tenant, milli_gpus(added)).why != Why::none) return {};
    return added;
}

void grow(Core& core, Instant now, AttemptId id, Parts added) {
    const auto& state = core.state();
    const auto attempt = state.at<Attempt>(id);
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    auto next = merged(spec, attempt.parts, added);
    core.apply(now, Claimed{{attempt.job, id, std::move(added), now + spec.grace + state.settings().claim_slack}});
    warn(core, now, id, EndCause::resize, std::move(next), {});
}

/// A person wanted it smaller while it was still starting.
bool is_to_be_cut(const Attempt& attempt) {
    return attempt.want_gpus > 0 && attempt.want_gpus < attempt.gpu_count() && !attempt.ending &&
           attempt.gang_deadline == never;
}

/// Spare GPUs go to elastic work, but only once they have been spare for a quiet period; a person's wish goes at once.
void grow_elastic(Core& core, Instant now) {
    const auto& state = core.state();
    const auto planned = state.counters().grow_at;
    const bool ripe = planned != Instant{} && planned <= now;
    bool could_grow = false;
    const auto attempts = state.elastic_attempts();  // a copy: growing edits the set
    for (const auto id : attempts) {
        const auto& attempt = state.at<Attempt>(id);
        if (is_to_be_cut(attempt)) {
            const auto& spec = state.spec_of(state.at<Job>(attempt.job));
            warn(core, now, id, EndCause::resize, cut_to(spec, attempt.parts, attempt.want_gpus), {});
            continue;
        }
        if (state.free_gpus(0) == 0) continue;
        auto added = growth_of(state, now, attempt);
        if (added.empty()) continue;
        if (ripe || attempt.want_gpus > attempt.gpu_count()) {
            grow(core, now, id, std::move(added));
        } else {
            could_grow = true;
        }
    }
    if (could_grow && planned == Instant{}) {
        core.apply(now, GrowthPlanned{now + state.settings().quiet_period});
    } else if (!could_grow && planned != Instant{}) {
        core.apply(now, GrowthPlanned{});
    }
}

}  // namespace

bool goes_before(const TenantRow& a, const TenantRow& b) {
    const auto share_a = a.used * b.tenant.weight;
    const auto share_b = b.used * a.tenant.weight;
    if (share_a != share_b) return share_a < share_b;
    // Cross-multiplied in 128 bits: a fleet's GPU-milliseconds of a year times a weight do not fit 64.
    __extension__ using Wide = __int128;
    return Wide{a.charged} * b.tenant.weight < Wide{b.charged} * a.tenant.weight;
}

Refusal quota_allows(const State& state, TenantId tenant, std::int64_t milli_gpus) {
    Refusal why;
    for_each_tenant(state, tenant, [&](TenantId id) {
        const auto& row = state.at<TenantRow>(id);
        const auto left = row.tenant.quota - row.used - row.claimed;
        if (row.tenant.quota >= 0 && milli_gpus > left && why.why == Why::none) {
            why = {Why::tenant_quota, milli_gpus, left, id.value};
        }
    });
    return why;
}

Refusal reservation_allows(const State& state, Instant now, JobId job, const JobSpec& spec, std::int32_t gpus) {
    Refusal why;
    if (gpus == 0 || spec.share > 0) return why;
    state.table<Reservation>().for_each([&](const Reservation& held) {
        if (held.job == job || held.at <= now) return;
        const auto* waiting = state.find<Job>(held.job);
        const auto& theirs = state.spec_of(*waiting);
        if (theirs.priority < spec.priority) return;
        if ((state.settings().may_preempt[rank_of(theirs.priority)] & bit_of(spec.priority)) != 0) return;
        if (theirs.gpu_types != 0 && spec.gpu_types != 0 && (theirs.gpu_types & spec.gpu_types) == 0) return;
        const bool ends_before = now + spec.time_limit <= held.at;
        if (!ends_before && gpus > held.spare) why = {Why::reserved_for_other, gpus, held.spare, held.job.value};
    });
    return why;
}

void schedule(Core& core, Instant now) {
    start_free_claims(core, now);
    start_waiting(core, now);
    retire_old(core, now);
    grow_elastic(core, now);
}

}  // namespace stargate
