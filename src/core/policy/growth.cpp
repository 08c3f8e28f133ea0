#include "core/policy/growth.hpp"

#include <algorithm>
#include <bit>

#include "core/attempts.hpp"
#include "core/policy/place.hpp"
#include "core/policy/quota.hpp"
#include "core/policy/reclaim.hpp"
#include "core/policy/reservation.hpp"

namespace stargate {

namespace {

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

std::int32_t size_wanted(const JobSpec& spec, const Attempt& attempt) {
    return attempt.want_gpus > 0 ? attempt.want_gpus : spec.max_gpus.count();
}

bool may_grow(const State& state, Instant now, const Attempt& attempt) {
    if (attempt.ending || attempt.gang_deadline != never || attempt.settled > now) return false;
    // Where one of its nodes is silent it could not let go, so what it is to grow into would lie idle.
    const bool answers = std::all_of(attempt.parts.begin(), attempt.parts.end(),
                                     [&](const Part& part) { return state.at<Node>(part.node).reach == Reach::up; });
    if (!answers) return false;
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    return attempt.gpu_count() < size_wanted(spec, attempt) && state.find<Claim>(attempt.job) == nullptr;
}

/// What the attempt could grow by now; empty when it is not ready, big enough, or nothing is spare but what somebody
/// who goes before it counts on.
Parts growth_of(const State& state, Instant now, const Attempt& attempt) {
    if (!may_grow(state, now, attempt)) return {};
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    auto more =
        std::min<std::int64_t>(size_wanted(spec, attempt) - attempt.gpu_count(), quota_left(state, spec.tenant) / 1000);
    const auto* held = reservation_binding(state, now, attempt.job, spec, attempt.limit);
    if (held != nullptr && held->level == Level::fleet) more = std::min<std::int64_t>(more, held->spare);
    if (more <= 0) return {};
    const auto off_limits = off_limits_for(state, now, attempt.job, spec, attempt.limit);
    return extend(state, spec, attempt.parts, static_cast<std::int32_t>(more), off_limits);
}

void grow(Core& core, Instant now, AttemptId id, Parts added) {
    const auto& state = core.state();
    const auto attempt = state.at<Attempt>(id);
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    auto next = merged(spec, attempt.parts, added);
    use_up_spare(core, now, attempt.job, attempt.limit, added);
    core.apply(now, Claimed{{attempt.job, id, std::move(added), now + spec.grace + state.settings().claim_slack}});
    warn(core, now, id, EndCause::resize, std::move(next), {});
}

/// A person wanted it smaller while it was still starting.
bool is_to_be_cut(const Attempt& attempt) {
    return attempt.want_gpus > 0 && attempt.want_gpus < attempt.gpu_count() && !attempt.ending &&
           attempt.gang_deadline == never;
}

}  // namespace

void grow_elastic(Core& core, Instant now) {
    const auto& state = core.state();
    const auto planned = state.counters().grow_at;
    const bool ripe = planned != Instant{} && planned <= now;
    bool could_grow = false;
    const auto free = state.free_gpus(0);
    std::vector<AttemptId> attempts;  // those that may change: warning them edits the set
    for (const auto id : state.elastic_attempts()) {
        const auto& attempt = state.at<Attempt>(id);
        if (is_to_be_cut(attempt) || (free > 0 && may_grow(state, now, attempt))) attempts.push_back(id);
    }
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

}  // namespace stargate
