#include "core/explain.hpp"

#include <algorithm>
#include <bit>

#include "core/policy/place.hpp"
#include "core/policy/quota.hpp"
#include "core/policy/reservation.hpp"
#include "core/policy/seats.hpp"
#include "core/schedule.hpp"
#include "core/serving.hpp"

namespace stargate {

namespace {
/// What stands before a job may even try: a hold, a back-off, jobs it comes after.
std::vector<Refusal> not_ready(const State& state, const Job& job, const Waiting& waiting) {
    std::vector<Refusal> reasons;
    if (job.held) reasons.push_back({Why::held, 0, 0, 0});
    if (job.wish == Wish::off) reasons.push_back({Why::not_needed, 0, 0, 0});
    if (waiting.not_before != Instant{}) {
        reasons.push_back({Why::backing_off, job.failures, state.spec_of(job).retries, 0});
    }
    if (state.unmet(job.spec) == 0) return reasons;
    const auto before = state.first_unmet(state.spec_of(job));
    if (before) reasons.push_back({Why::dependency, 0, 0, before.value});
    return reasons;
}
/// Of what the hosts of these GPUs lack, one thing: that of the node which has most of it; nothing when one has enough.
Refusal host_lacks(const State& state, const JobSpec& spec) {
    Refusal closest;
    bool has_room = false;
    state.table<Node>().for_each([&](const Node& node) {
        if (has_room || !node.takes_work() || !allows(spec.gpu_types, node.shape.gpu_type)) return;
        auto gpus = node.all();
        while (std::popcount(gpus) > spec.min_gpus.count()) gpus &= gpus - 1;
        const auto why = host_fits(node, part_on(spec, node.id, gpus));
        has_room = why.why == Why::none;
        if (closest.why == Why::none || why.have > closest.have) closest = why;
    });
    return has_room ? Refusal{} : closest;
}

/// One look for a place ends at the first thing that is short. People are told all.
void add_lacks(const State& state, const JobSpec& spec, std::vector<Refusal>& reasons) {
    if (reasons.empty()) return;
    const auto found = reasons.back().why;
    const bool is_short =
        found == Why::no_gpus || found == Why::fragmented || found == Why::no_cpus || found == Why::no_memory;
    auto of_cpus = spec;
    of_cpus.memory_per_rank = {};
    auto of_memory = spec;
    of_memory.cpus_per_rank = {};
    for (const auto& one : {of_cpus, of_memory}) {
        const auto why = is_short ? host_lacks(state, one) : Refusal{};
        if (why.why != Why::none && why.why != found) reasons.push_back(why);
    }
}
}  // namespace

std::vector<Refusal> explain(const State& state, Instant now, JobId id) {
    const auto* job = state.find<Job>(id);
    if (job == nullptr) return {};
    const auto* waiting = std::get_if<Waiting>(&job->phase);
    if (waiting == nullptr) return {};
    auto reasons = not_ready(state, *job, *waiting);
    if (is_external(state, *job)) return reasons;  // a hold, and nothing else
    const auto collect = [&](Refusal why) {
        if (why.why != Why::none) reasons.push_back(why);
    };
    const auto& spec = state.spec_of(*job);
    if (const auto* claim = state.find<Claim>(id)) {
        std::int64_t free = 0;
        for (const auto& part : claim->parts) { free += std::popcount(part.gpus & ~state.at<Node>(part.node).leased); }
        reasons.push_back({Why::claim_pending, spec.min_gpus.count(), free, 0});
        return reasons;
    }
    if (is_replica(state, *job)) {
        collect(room_for_replica(state, now, *job).why);
        return reasons;
    }
    collect(quota_allows(state, spec.tenant, least_of(spec)));
    collect(reservation_allows(state, now, id, spec, spec.min_gpus.count()));
    collect(find_place(state, now, id, spec).why);
    add_lacks(state, spec, reasons);
    return reasons;
}

Refusal recorded_reason(const State& state, const Job& job) {
    const auto* waiting = std::get_if<Waiting>(&job.phase);
    if (waiting == nullptr) return {};
    if (const auto reasons = not_ready(state, job, *waiting); !reasons.empty()) return reasons.front();
    if (state.find<Claim>(job.id) != nullptr) return {Why::claim_pending, 0, 0, 0};
    if (const auto* blocked = state.find<Blocked>(job.spec)) return blocked->why;
    if (is_replica(state, job)) return {};
    const auto& ready = state.shape_of_job(job).ready;
    if (!ready.empty() && *ready.begin() != job.id) return {Why::behind_same, 0, 0, ready.begin()->value};
    if (state.counters().cut_off) return {Why::pass_bound, 0, 0, 0};  // nobody has looked at it yet
    return {};
}

}  // namespace stargate
