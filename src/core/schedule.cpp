#include "core/schedule.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/attempts.hpp"
#include "core/policy/growth.hpp"
#include "core/policy/queue.hpp"
#include "core/policy/quota.hpp"
#include "core/policy/reclaim.hpp"
#include "core/policy/reservation.hpp"
#include "core/serving.hpp"

namespace stargate {

namespace {

/// A reservation goes at most so often in one pass; what it still keeps out then is left to the next one.
constexpr int most_runs = 8;

/// When a pass is cut off, so many steps more go to those that it would never come to.
int sweep_steps(const State& state) { return std::max(1, state.settings().pass_steps / 4); }

/// Whether every GPU of the parts has been let go and their nodes can start work. A replica that wakes has its host's
/// CPUs and memory already.
bool is_free(const State& state, const Parts& parts, AttemptId wakes = {}) {
    return std::all_of(parts.begin(), parts.end(), [&](const Part& part) {
        const auto& node = state.at<Node>(part.node);
        if (!node.takes_work() || (node.leased & part.gpus) != 0) return false;
        return wakes || (node.cpus_leased + node.cpus_foreign + part.cpus <= node.shape.cpus &&
                         node.memory_leased + node.memory_foreign + part.memory <= node.shape.memory);
    });
}

void start_free_claims(Core& core, Instant now) {
    const auto& state = core.state();
    std::vector<Claim> ready;
    state.table<Claim>().for_each([&](const Claim& claim) {
        if (!claim.grows && is_free(state, claim.parts, claim.wakes)) ready.push_back(claim);
    });
    for (auto& claim : ready) {
        if (!is_free(state, claim.parts, claim.wakes)) continue;  // one before it has taken the host's last
        const auto& spec = state.spec_of(state.at<Job>(claim.job));
        const auto why = quota_allows(state, spec.tenant, 0);
        if (why.why == Why::none && claim.wakes) {
            wake(core, now, claim);
            note_lenders(core, now, claim.job, claim.lenders);
        } else if (why.why == Why::none) {
            start(core, now, claim.job, std::move(claim.parts));
            note_lenders(core, now, claim.job, claim.lenders);
        } else if (!is_being_returned_to(state, TenantId{why.about})) {  // lowered since it was claimed
            core.apply(now, ClaimDropped{claim.job});
        }
    }
}

/// Claims what the victims will let go of and warns them.
void take(Core& core, Instant now, JobId job, const Reclaim& plan) {
    const auto& state = core.state();
    auto latest = std::max(now, plan.leaving_by);
    for (const auto& victim : plan.victims) {
        latest = std::max(latest, now + state.spec_of(state.at<Job>(state.at<Attempt>(victim.attempt).job)).grace);
    }
    core.apply(now, Claimed{{job, {}, plan.parts, latest + state.settings().claim_slack}});
    for (const auto& victim : plan.victims) {
        warn(core, now, victim.attempt, victim.keep.empty() ? EndCause::preempt : EndCause::resize, victim.keep, job);
    }
}

/// GPUs that the jobs of this shape, but for one, wait for, as far as `quota` thousandths let them.
std::int32_t wanted_by_others(const State& state, const Job& job, const JobSpec& spec, std::int64_t quota) {
    const auto& shape = state.shape_of_job(job);
    auto others = static_cast<std::int64_t>(shape.ready.size()) - 1;
    state.table<Claim>().for_each([&](const Claim& claim) {
        if (shape.ready.contains(claim.job)) --others;
    });
    const auto least = least_of(spec);
    if (others <= 0 || spec.share > 0 || least == 0) return 0;
    others = std::min({others, quota / least - 1, std::int64_t{state.settings().max_victims}});
    return static_cast<std::int32_t>(std::max<std::int64_t>(others, 0) * spec.min_gpus.count());
}

struct Tried {
    Refusal why;
    bool may_change_with_time = false;  // the same State could say something else a moment later
};

/// Starts the job, or claims a place for it, or says why not.
Tried try_to_start(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    const auto& spec = state.spec_of(state.at<Job>(id));
    auto why = quota_allows(state, spec.tenant, least_of(spec));
    Need need;
    need.spec = &spec;
    need.off_limits = off_limits_for(state, now, id, spec, now + spec.time_limit);
    if (why.why == Why::tenant_quota) {
        need.under = TenantId{why.about};
        need.quota = least_of(spec) - quota_left(state, spec.tenant);
    }
    const auto reserved = reservation_allows(state, now, id, spec, spec.min_gpus.count());
    if (reserved.why != Why::none) return {why.why == Why::none ? reserved : why};
    const auto start_in = [&](Parts parts) {
        use_up_spare(core, now, id, now + spec.time_limit, parts);
        start(core, now, id, std::move(parts));
    };
    if (why.why == Why::none) {
        auto placed = find_place(state, now, id, spec);
        if (placed.found()) return start_in(std::move(placed.parts)), Tried{};
        why = placed.why;
    }
    // What the tenant's own work gives, it gives to its quota too.
    const auto quota = need.under ? no_limit : quota_left(state, spec.tenant);
    need.more_gpus = wanted_by_others(state, state.at<Job>(id), spec, quota);
    auto found = reclaim(state, now, need);
    if (!found.plan) return {why, found.too_many_victims};
    if (found.plan->victims.empty() && !need.under && is_free(state, found.plan->parts)) {
        start_in(std::move(found.plan->parts));
    } else {
        take(core, now, id, *found.plan);
    }
    return {};
}

/// The job of the shape that goes first; none when each that is ready holds a claim.
JobId head_of(const State& state, const Shape& shape) {
    for (const auto job : shape.ready) {
        if (state.find<Claim>(job) == nullptr) return job;
    }
    return {};
}

/// Until when time alone cannot bring this job before or behind a reservation that it ends before by now.
Instant same_until(const State& state, Instant now, JobId job) {
    auto until = never;
    const auto limit = state.spec_of(state.at<Job>(job)).time_limit;
    state.table<Reservation>().for_each([&](const Reservation& held) {
        if (held.job != job && now + limit <= held.at) until = std::min(until, held.at - limit);
    });
    return until;
}

/// The job of the shape that holds no claim and has the shortest time limit.
JobId shortest_of(const State& state, const Shape& shape) {
    for (const auto& [limit, job] : shape.by_limit) {
        if (state.find<Claim>(job) == nullptr) return job;
    }
    return {};
}

/// Whether trying this shape again, with `oldest` ahead, is sure to say what it said last.
bool is_remembered(const State& state, Instant now, const Shape& shape, JobId oldest) {
    const auto& refused = shape.refused;
    return refused.version == state.placement_version() && now <= refused.until && refused.oldest == oldest &&
           refused.shortest == shortest_of(state, shape) &&
           (state.deadlines().empty() || state.deadlines().begin()->at > now);
}

void remember(const State& state, Instant now, const Shape& shape, JobId oldest, std::uint64_t version, bool waits,
              bool asked) {
    const auto shortest = shortest_of(state, shape);
    const auto until = std::min(same_until(state, now, oldest), same_until(state, now, shortest));
    shape.refused = {version, oldest, shortest, until, waits, asked};
}

/// Waiting jobs try in order. The first that waits for room holds the reservation.
class Trying {
public:
    /// goes_on  nothing has changed since the last pass, which was cut off
    Trying(Core& core, Instant now, bool goes_on) : core_{core}, now_{now}, queue_{core.state()}, goes_on_{goes_on} {}

    /// True when a reservation went that may have kept out some of those who had tried by then.
    bool run() {
        const auto& state = core_.state();
        for (int step = 0; step < state.settings().pass_steps; ++step) {
            const auto id = queue_.next();
            if (!id) break;
            try_next(id);
        }
        const auto next = queue_.next();
        const auto cut_off = next ? sweep(next) : PassCutOff{};
        const auto& before = state.counters();
        if (cut_off.job != before.cut_off || cut_off.left != before.left) core_.apply(now_, cut_off);
        if (!reservation_went_) look_at_holder();
        return reservation_went_;
    }

private:
    void try_next(JobId id) {
        const auto& state = core_.state();
        const auto& shape = queue_.shape();
        const bool is_oldest = !queue_.is_shortest();
        if (is_oldest && is_remembered(state, now_, shape, id)) {
            if (shape.refused.for_want_of_room && !reserved_) {
                reserved_ = true;
                if (!shape.refused.asked_for_reservation) reserve(id, state.spec_of(state.at<Job>(id)));
            }
            return queue_.blocked();
        }
        const auto version = state.placement_version();
        const auto tried = try_one(id);
        if (tried.why.why == Why::none) return queue_.placed();
        const auto& spec = state.spec_of(state.at<Job>(id));
        const bool waits = waits_for_room(spec, tried.why.why);
        const bool asks = waits && !reserved_;
        if (asks) {
            reserved_ = true;
            reserve(id, spec);
        }
        if (tried.why.why == Why::reserved_for_other && queue_.too_long()) return;
        if (tried.why.why != Why::reserved_for_other) queue_.blocked();
        if (is_oldest && !tried.may_change_with_time) remember(state, now_, shape, id, version, waits, asks);
    }

    /// notes  it speaks for its array: the reason of one that does not would take turns with the reason of one that
    /// does
    Tried try_one(JobId id, bool notes = true) {
        const auto& state = core_.state();
        const bool held = state.find<Reservation>(id) != nullptr;
        const auto tried = try_to_start(core_, now_, id);
        if (tried.why.why == Why::none) {
            reservation_went_ |= held;
            return tried;
        }
        if (notes) note_blocked(core_, now_, id, tried.why);
        // Something else keeps it: nobody needs to wait for its sake.
        const bool waits = waits_for_room(state.spec_of(state.at<Job>(id)), tried.why.why);
        if (!waits && held) {
            core_.apply(now_, ReservationDropped{id});
            reservation_went_ = true;
        }
        return tried;
    }

    /// What started after the job that holds the reservation had tried may have used up its tenant's quota.
    void look_at_holder() {
        const auto& state = core_.state();
        JobId holder;
        state.table<Reservation>().for_each([&](const Reservation& held) { holder = held.job; });
        if (!holder || state.find<Claim>(holder) != nullptr) return;
        const auto& shape = state.shape_of_job(state.at<Job>(holder));
        if (!shape.ready.contains(holder) || is_remembered(state, now_, shape, holder)) return;
        try_one(holder, holder == head_of(state, shape));
    }

    void reserve(JobId id, const JobSpec& spec) { reservation_went_ |= reserve_for(core_, now_, id, spec); }

    /// The pass was cut off at `next`. Where so many are blocked ahead of others, those would never be tried: a few
    /// more steps go through the shapes in the order of their keys, from where the last such pass was cut off.
    PassCutOff sweep(JobId next) {
        const auto& state = core_.state();
        const auto& shapes = state.shapes();
        const auto last = state.counters().cut_off;
        const bool is_there = state.find<Job>(last) != nullptr;
        if (is_there) next = last;
        auto left = goes_on_ && is_there ? state.counters().left : shapes.size();
        auto shape = shapes.find(state.shape_of_job(state.at<Job>(next)).key);
        const auto go_on = [&] {
            if (++shape == shapes.end()) shape = shapes.begin();
            left -= left > 0 ? 1 : 0;
        };
        for (int steps = sweep_steps(state); steps > 0 && left > 0;) {
            const auto head = head_of(state, shape->second);
            if (head) --steps;
            if (!head || !starts_one_of(shape->second, head)) go_on();
        }
        for (auto all = shapes.size(); all > 0; --all, go_on()) {
            if (const auto head = head_of(state, shape->second)) return {head, left};
        }
        return {};
    }

    /// Whether the head of the shape starts or, where that would be in the way of others for too long, its shortest.
    bool starts_one_of(const Shape& shape, JobId head) {
        const auto& state = core_.state();
        if (is_remembered(state, now_, shape, head)) return false;
        const auto version = state.placement_version();
        const auto tried = try_one(head);
        if (tried.why.why == Why::none) return true;
        const auto shortest = shortest_of(state, shape);
        if (tried.why.why == Why::reserved_for_other && shortest != head) {
            return try_one(shortest).why.why == Why::none;
        }
        const bool waits = waits_for_room(state.spec_of(state.at<Job>(head)), tried.why.why);
        if (!tried.may_change_with_time) remember(state, now_, shape, head, version, waits, false);
        return false;
    }

    Core& core_;
    Instant now_;
    Queue queue_;
    bool goes_on_;
    bool reserved_ = false;
    bool reservation_went_ = false;
};

/// The ended job that is to leave State next; none as long as all may stay.
JobId next_to_retire(const State& state, Instant now) {
    if (state.finished().empty()) return {};
    const auto& settings = state.settings();
    const auto [at, job] = *state.finished().begin();
    const bool too_many = static_cast<std::int64_t>(state.finished().size()) > settings.max_finished;
    return too_many || at + settings.retention <= now ? job : JobId{};
}

void retire_old(Core& core, Instant now, std::int32_t most) {
    for (std::int32_t gone = 0; most == 0 || gone < most; ++gone) {
        const auto job = next_to_retire(core.state(), now);
        if (!job) return;
        core.apply(now, Retired{job});
    }
}

}  // namespace

void note_blocked(Core& core, Instant now, JobId id, Refusal why) {
    const auto& job = core.state().at<Job>(id);
    const auto* noted = core.state().find<Blocked>(job.spec);
    const bool same =
        noted != nullptr && noted->why.why == why.why && noted->why.need == why.need && noted->why.about == why.about;
    if (!same) core.apply(now, BlockedBecause{job.spec, id, why});
}

Placement find_place(const State& state, Instant now, JobId id, const JobSpec& spec) {
    const auto ends = now + spec.time_limit;
    const auto off_limits = off_limits_for(state, now, id, spec, ends);
    const auto least = spec.min_gpus.count();
    const auto place_outside = [&](const OffLimits& outside) {
        if (!spec.is_elastic()) return place(state, spec, least, outside);
        const auto wanted = state.at<Job>(id).want_gpus;
        std::int64_t most = wanted > 0 ? wanted : spec.max_gpus.count();
        most = std::min(most, quota_left(state, spec.tenant) / 1000);
        const auto* held = reservation_binding(state, now, id, spec, ends);
        if (held != nullptr && held->level == Level::fleet) most = std::min<std::int64_t>(most, held->spare);
        return place_elastic(state, spec, static_cast<std::int32_t>(most), outside);
    };
    auto placed = place_outside(off_limits);
    if (!placed.found() && off_limits.any() && place_outside({}).found()) {
        const auto* held = reservation_binding(state, now, id, spec, ends);
        CHECK(held != nullptr);  // whose domain is off limits
        placed.why = {Why::reserved_for_other, least, 0, held->job.value};
    }
    return placed;
}

void put_growth_off(Core& core, Instant now) {
    const auto planned = core.state().counters().grow_at;
    if (planned != Instant{} && planned <= now) core.apply(now, GrowthPlanned{});
    put_scaling_off(core, now);
}

bool is_cut_off(const State& state, Instant now) { return state.counters().left > 0 || next_to_retire(state, now); }

void schedule(Core& core, Instant now, const Pass& pass) {
    const auto& state = core.state();
    const auto from = core.batch().size();
    start_free_claims(core, now);
    serve(core, now);
    start_free_claims(core, now);  // those that wait for nobody
    const bool is_due = !state.deadlines().empty() && state.deadlines().begin()->at <= now;
    const bool changed = std::any_of(core.batch().begin() + static_cast<std::ptrdiff_t>(from), core.batch().end(),
                                     [](const Fact& fact) { return !std::holds_alternative<BlockedBecause>(fact); });
    if (Trying{core, now, pass.goes_on && !is_due && !changed}.run()) {
        for (int again = 0; again < most_runs && Trying{core, now, false}.run(); ++again) {}
    }
    retire_old(core, now, pass.retires);
    grow_elastic(core, now);
}

}  // namespace stargate
