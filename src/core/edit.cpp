#include "core/edit.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "core/evolve.hpp"

namespace stargate {

namespace {

/// Arrays looked at before it is taken for granted that one leads back to where it began.
constexpr std::size_t most_arrays_seen = 10'000;

/// Calls `visit(job)` for each element that has not ended.
template <class Visit>
void for_each_living(const State& state, const Spec& array, Visit visit) {
    for (std::int32_t task = 0; task < array.count; ++task) {
        const auto* job = state.find<Job>(JobId{array.first.value + static_cast<std::uint64_t>(task)});
        if (job != nullptr && !std::holds_alternative<Finished>(job->phase)) visit(*job);
    }
}

/// Whether one of these, or what they come after in turn, is `array`.
bool leads_to(const State& state, const JobSpec& spec, JobId array) {
    std::set<JobId> seen;
    std::vector<JobId> next;
    const auto look_at = [&](JobId first) {
        if (state.find<Spec>(first) != nullptr && seen.insert(first).second) next.push_back(first);
    };
    const auto look_behind = [&](const JobSpec& one) {
        for (const auto& before : one.comes_after) look_at(before.first);
        for (const auto element : one.after) {
            if (const auto* job = state.find<Job>(element)) look_at(job->spec);
        }
    };
    look_behind(spec);
    while (!next.empty() && seen.size() <= most_arrays_seen) {
        const auto first = next.back();
        next.pop_back();
        if (first == array) return true;
        look_behind(state.at<Spec>(first).spec);
    }
    return !next.empty();
}

/// Why those that run cannot go on as this; nothing where they can.
Refusal held_otherwise(const State& state, const Spec& array, const JobSpec& spec) {
    const bool same_size = spec.min_gpus == array.spec.min_gpus && spec.max_gpus == array.spec.max_gpus;
    const bool same_before = spec.comes_after == array.spec.comes_after && spec.after == array.spec.after;
    Refusal why;
    for_each_living(state, array, [&](const Job& job) {
        const auto* active = std::get_if<Active>(&job.phase);
        if (active == nullptr || why.why != Why::none) return;
        if (!same_before) why = {Why::wrong_state, 0, 0, job.id.value};
        if (same_size) return;
        if (!array.spec.is_elastic()) why = {Why::not_elastic, 0, array.spec.min_gpus.count(), 0};
        const auto& attempt = state.at<Attempt>(active->attempt);
        const auto is_allowed = [&](std::int32_t gpus) {
            return gpus >= spec.min_gpus.count() && gpus <= spec.max_gpus.count();
        };
        std::int32_t after = attempt.gpu_count();
        if (attempt.ending && !attempt.ending->next.empty()) {
            after = 0;
            for (const auto& part : attempt.ending->next) after += part.gpu_count();
        }
        for (const auto held : {attempt.gpu_count(), after}) {
            if (!is_allowed(held) && why.why == Why::none)
                why = {Why::size_held, spec.max_gpus.count(), held, job.id.value};
        }
    });
    return why;
}

/// What the array is to ask for, or why it cannot.
Refusal changed(const State& state, const Spec& array, const Edit& in, JobSpec& spec) {
    if (in.priority) spec.priority = *in.priority;
    if (in.time_limit) spec.time_limit = *in.time_limit;
    if (in.gpus) {
        if (spec.share > 0) return {Why::not_elastic, 0, 0, 0};
        spec.min_gpus = in.gpus->least;
        spec.max_gpus = in.gpus->most;
    }
    if (in.after) {
        if (const auto why = find_what_comes_before(state, *in.after, spec); why.why != Why::none) return why;
        if (leads_to(state, spec, array.first)) return {Why::comes_after_itself, 0, 0, array.first.value};
    }
    const bool is_sensible =
        spec.time_limit > Duration{} && spec.min_gpus >= GpuCount{} && spec.max_gpus >= spec.min_gpus;
    if (!is_sensible) return {Why::never_fits, spec.min_gpus.count(), spec.max_gpus.count(), 0};
    if ((state.at<TenantRow>(spec.tenant).tenant.may_use & bit_of(spec.priority)) == 0 && in.priority) {
        return {Why::class_not_allowed, 0, 0, spec.tenant.value};
    }
    if (const auto why = held_otherwise(state, array, spec); why.why != Why::none) return why;
    return in.gpus ? can_ever_run(state, spec) : Refusal{};
}

/// What has been promised to its elements was promised to what they asked for, and what is kept for one job counts on
/// the time limits of others.
void give_up_promises(Core& core, Instant now, const Spec& array) {
    const auto& state = core.state();
    std::vector<JobId> claims, reservations;
    state.table<Claim>().for_each([&](const Claim& claim) {
        const auto& job = state.at<Job>(claim.job);
        if (job.spec == array.first && std::holds_alternative<Waiting>(job.phase)) claims.push_back(claim.job);
    });
    state.table<Reservation>().for_each([&](const Reservation& held) { reservations.push_back(held.job); });
    for (const auto job : claims) core.apply(now, ClaimDropped{job});
    for (const auto job : reservations) core.apply(now, ReservationDropped{job});
}

}  // namespace

Answer edit(Core& core, Instant now, const Edit& in) {
    const auto& state = core.state();
    const auto* job = state.find<Job>(in.job);
    if (job == nullptr) return {{Why::not_found, 0, 0, 0}, {}};
    const auto array = state.at<Spec>(job->spec);
    if (array.spec.kind == Kind::service) return {{Why::not_editable, 0, 0, array.first.value}, {}};
    bool lives = false;
    for_each_living(state, array, [&](const Job&) { lives = true; });
    if (!lives) return {{Why::wrong_state, 0, 0, in.job.value}, {}};
    auto spec = array.spec;
    if (const auto why = changed(state, array, in, spec); why.why != Why::none) return {why, {}};
    if (spec == array.spec) return {};
    give_up_promises(core, now, array);
    core.apply(now, Edited{array.first, std::move(spec)});
    return {};
}

}  // namespace stargate
