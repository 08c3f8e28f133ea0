#include "core/serving.hpp"

#include <algorithm>
#include <bit>

#include "core/attempts.hpp"
#include "core/policy/seats.hpp"
#include "core/schedule.hpp"

namespace stargate {

namespace {

const Attempt* attempt_of(const State& state, const Job& job) {
    const auto* active = std::get_if<Active>(&job.phase);
    return active == nullptr ? nullptr : &state.at<Attempt>(active->attempt);
}

/// The replicas that have not ended, in order of id.
std::vector<JobId> replicas_of(const State& state, const Service& service) {
    std::vector<JobId> replicas;
    const auto count = state.at<Spec>(service.first).count;
    for (std::int32_t task = 0; task < count; ++task) {
        const JobId id{service.first.value + static_cast<std::uint64_t>(task)};
        const auto* job = state.find<Job>(id);
        if (job != nullptr && !std::holds_alternative<Finished>(job->phase)) replicas.push_back(id);
    }
    return replicas;
}

/// Whether all that are to serve do.
bool all_serve(const State& state, const Service& service) {
    const auto replicas = replicas_of(state, service);
    const auto serving = std::count_if(replicas.begin(), replicas.end(), [&](JobId id) {
        const auto* attempt = attempt_of(state, state.at<Job>(id));
        return attempt != nullptr && attempt->is_ready;
    });
    return serving >= service.awake;
}

/// Fewer are not to serve after all, or nobody does any more.
void forget_shrink(Core& core, Instant now, JobId id) {
    if (core.state().at<Service>(id).shrink_at != Instant{}) core.apply(now, ShrinkPlanned{id, {}});
}

void forget_help(Core& core, Instant now, JobId id) {
    if (core.state().at<Service>(id).help_at != Instant{}) core.apply(now, HelpPlanned{id, {}});
}

/// One more serves where all do that the numbers ask for and still somebody waits too long.
void help(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    const auto& service = state.at<Service>(id);
    const bool needs_help =
        service.is_known && service.over_limit && service.awake < service.spec.max && all_serve(state, service);
    if (!needs_help) {
        forget_help(core, now, id);
    } else if (service.help_at == Instant{}) {
        core.apply(now, HelpPlanned{id, now + time_to_help});
    } else if (service.help_at <= now) {
        core.apply(now, Scaled{id, service.awake + 1, ScaleCause::over_limit});
    }
}

void shrink(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    const auto& service = state.at<Service>(id);
    const auto down = std::max(service.spec.min, std::min(service.keep, service.spec.max));
    if (!service.is_known || service.over_limit || down >= service.awake) {
        forget_shrink(core, now, id);
    } else if (service.shrink_at == Instant{}) {
        core.apply(now, ShrinkPlanned{id, now + state.settings().service_quiet});
    } else if (service.shrink_at <= now) {
        core.apply(now, Scaled{id, down, ScaleCause::quiet});
    }
}

void scale(Core& core, Instant now, JobId id) {
    const auto& service = core.state().at<Service>(id);
    const auto need = service.is_known ? std::min(service.need, service.spec.max) : 0;
    if (service.awake < service.spec.min || service.awake < need) {
        const auto by_demand = service.by_tokens ? ScaleCause::tokens : ScaleCause::demand;
        const auto why = service.awake < need ? by_demand : ScaleCause::minimum;
        return core.apply(now, Scaled{id, std::max(service.spec.min, need), why});
    }
    help(core, now, id);
    shrink(core, now, id);
}

/// Whether the node that the replica sleeps on will not take it back: it is drained, or came back without its seat.
bool has_lost_its_seat(const State& state, const Attempt& attempt) {
    if (attempt.presence != Presence::asleep) return false;
    const auto& node = state.at<Node>(attempt.seat.front().node);
    return node.draining || (attempt.seat.front().gpus & ~node.all()) != 0;
}

/// Whether the replica sleeps where nothing may start now: nobody could wake it.
bool sleeps_in_vain(const State& state, const Attempt& attempt) {
    return attempt.presence == Presence::asleep &&
           (!state.at<Node>(attempt.seat.front().node).takes_work() || has_lost_its_seat(state, attempt));
}

/// Which of two replicas is to serve rather: one that does, and there one on GPUs of nobody else's; then one that
/// sleeps, then one that is there at all.
int distance_to_serving(const State& state, JobId id) {
    const auto& job = state.at<Job>(id);
    const auto* attempt = attempt_of(state, job);
    if (attempt == nullptr) return job.held ? 8 : job.wish == Wish::awake ? 3 : 7;
    if (attempt->ending) return 6;
    if (sleeps_in_vain(state, *attempt)) return 5;
    if (job.wish == Wish::awake) return attempt->loans.empty() ? 0 : 1;
    return attempt->presence == Presence::asleep ? 2 : 4;
}

/// Says of each replica what it is to be; those that serve first, as does the order of what is returned.
std::vector<JobId> wish(Core& core, Instant now, JobId id, std::vector<JobId> replicas) {
    const auto& state = core.state();
    const auto& service = state.at<Service>(id);
    std::stable_sort(replicas.begin(), replicas.end(),
                     [&](JobId a, JobId b) { return distance_to_serving(state, a) < distance_to_serving(state, b); });
    const auto awake = static_cast<std::size_t>(service.awake);
    const auto there = awake + static_cast<std::size_t>(service.cannot_sleep ? 0 : service.spec.standby);
    for (std::size_t i = 0; i < replicas.size(); ++i) {
        const auto is = i < awake ? Wish::awake : i < there ? Wish::asleep : Wish::off;
        if (state.at<Job>(replicas[i]).wish != is) core.apply(now, Wished{replicas[i], is});
    }
    return replicas;
}

/// How many of these GPUs, all of one node, the attempt lets go of when it keeps no more than `keep`.
std::int32_t lent_by(const Attempt& giver, const Parts& keep, const Parts& to) {
    const auto on = [&](const Parts& parts) {
        GpuMask gpus = 0;
        for (const auto& part : parts) gpus |= part.node == to.front().node ? part.gpus : 0;
        return gpus;
    };
    return std::popcount(on(giver.ending ? giver.ending->next : giver.parts) & ~on(keep) & on(to));
}

/// Claims a place for a replica that is to start or wake; why not, where there is none.
Refusal find_room(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    if (state.find<Claim>(id) != nullptr) return {};
    const auto& job = state.at<Job>(id);
    auto room = room_for_replica(state, now, job);
    const auto* attempt = attempt_of(state, job);
    if (!room.plan) return room.why;
    Claim claim;
    claim.job = id;
    claim.wakes = attempt == nullptr ? AttemptId{} : attempt->id;
    claim.parts = room.plan->parts;
    for (auto& part : claim.parts) {
        if (attempt == nullptr) break;
        part.cpus = {};  // one that sleeps holds its host's already
        part.memory = {};
    }
    auto latest = std::max(now, room.plan->leaving_by);
    for (const auto& victim : room.plan->victims) {
        const auto& giver = state.at<Attempt>(victim.attempt);
        claim.lenders.push_back({giver.job, lent_by(giver, victim.keep, claim.parts)});
        latest = std::max(latest, now + state.spec_of(state.at<Job>(giver.job)).grace);
    }
    claim.deadline = latest + state.settings().claim_slack;
    core.apply(now, Claimed{claim});
    for (auto& victim : room.plan->victims) {
        const auto cause = victim.keep.empty() ? EndCause::preempt : EndCause::resize;
        warn(core, now, victim.attempt, cause, std::move(victim.keep), id);
    }
    return {};
}

void fall_asleep(Core& core, Instant now, const Attempt& attempt) {
    const auto& state = core.state();
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    core.apply(now, SleepBegun{attempt.id, attempt.job, now + spec.grace + state.settings().claim_slack});
}

/// Brings one replica nearer to what is wished of it; why it can be neither started nor woken.
Refusal bring_about(Core& core, Instant now, JobId id) {
    const auto& state = core.state();
    const auto& job = state.at<Job>(id);
    const auto* attempt = attempt_of(state, job);
    const bool waits = attempt == nullptr;
    if (job.wish == Wish::off || (job.wish == Wish::asleep && !waits)) {
        if (state.find<Claim>(id) != nullptr) core.apply(now, ClaimDropped{id});
    }
    if (waits) {
        const bool is_ripe = std::get<Waiting>(job.phase).not_before == Instant{} && !job.held;
        return job.wish != Wish::off && is_ripe ? find_room(core, now, id) : Refusal{};
    }
    if (attempt->ending) return {};
    const bool sleeps = attempt->presence == Presence::asleep;
    if (has_lost_its_seat(state, *attempt)) {
        warn(core, now, attempt->id, EndCause::node_drained, {}, {});
    } else if (job.wish == Wish::awake) {
        if (sleeps) return find_room(core, now, id);
    } else if (attempt->is_ready) {
        fall_asleep(core, now, *attempt);  // and so without losing a request
    } else if (job.wish == Wish::off && (sleeps || attempt->presence == Presence::awake)) {
        warn(core, now, attempt->id, EndCause::scaled, {}, {});
    }
    return {};
}

/// Those that are to serve come first to what room there is, and one refusal stands for all.
void serve_one(Core& core, Instant now, JobId id) {
    if (core.state().at<Service>(id).spec.is_external()) return;
    auto replicas = replicas_of(core.state(), core.state().at<Service>(id));
    if (replicas.empty()) {  // cancelled
        forget_help(core, now, id);
        return forget_shrink(core, now, id);
    }
    scale(core, now, id);
    bool is_noted = false;
    for (const auto replica : wish(core, now, id, std::move(replicas))) {
        const auto why = bring_about(core, now, replica);
        if (why.why == Why::none) continue;
        core.state().look_again_at(id);  // other work, or time, may make room
        if (is_noted || attempt_of(core.state(), core.state().at<Job>(replica)) != nullptr) continue;
        note_blocked(core, now, replica, why);
        is_noted = true;
    }
}

std::int64_t divided_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// How often `load` fills what one replica carries.
Wanted filled_by(std::int64_t load, std::int64_t one_carries) {
    return {divided_up(load, one_carries), divided_up(load * 100, one_carries * carried_percent)};
}

/// Tokens wake nobody before half of the places are taken: what came within seconds says little where there is room for
/// long. And of a service that nobody asks anything right now they keep no replica.
Wanted bounded(Wanted by_tokens, std::int64_t load, std::int64_t places) {
    return {std::min(by_tokens.need, divided_up(load, divided_up(places, 2))), load > 0 ? by_tokens.keep : 0};
}

}  // namespace

Wanted wanted_by_tokens(const ServiceDemand& told) {
    constexpr std::int64_t most = 1'000'000'000'000;  // a second, far above what is: its product with 100 fits
    if (told.replica_tokens_per_s <= 0) return {};
    return filled_by(std::clamp<std::int64_t>(told.wanted_tokens_per_s, 0, most),
                     std::min(told.replica_tokens_per_s, most));
}

Answer service_demand(Core& core, Instant now, const ServiceDemand& told) {
    const auto* service = core.state().find<Service>(told.service);
    if (service == nullptr) return {{Why::not_found, 0, 0, told.service.value}, {}};
    if (service->spec.is_external()) return {};  // there is nothing to scale
    DemandNoted fact;
    fact.service = told.service;
    if (told.is_known) {
        const auto load = std::clamp<std::int64_t>(told.queued, 0, INT32_MAX) +
                          std::clamp<std::int64_t>(told.in_flight, 0, INT32_MAX);
        const auto places = std::int64_t{service->spec.max_concurrency};
        const auto by_requests = filled_by(load, places);
        const auto by_tokens = bounded(wanted_by_tokens(told), load, places);
        const auto at_most = [](std::int64_t replicas) {
            return static_cast<std::int32_t>(std::min<std::int64_t>(replicas, max_replicas));
        };
        fact.is_known = true;
        fact.need = at_most(std::max(by_requests.need, by_tokens.need));
        fact.keep = at_most(std::max(by_requests.keep, by_tokens.keep));
        fact.over_limit = told.over_limit;
        fact.by_tokens = by_tokens.need > by_requests.need;
    } else {
        fact.need = service->need;
        fact.keep = service->keep;
        fact.by_tokens = service->by_tokens;
    }
    // Whether tokens or requests ask for more may change often, and changes nothing.
    const bool same = std::tie(fact.is_known, fact.need, fact.keep, fact.over_limit) ==
                      std::tie(service->is_known, service->need, service->keep, service->over_limit);
    if (!same) core.apply(now, fact);
    return {};
}

void replica_ready(Core& core, Instant now, const ReplicaReady& report) {
    const auto* attempt = core.state().find<Attempt>(report.attempt);
    if (attempt == nullptr || attempt->is_ready || attempt->ending || attempt->port == 0) return;
    if (report.telling != attempt->tellings) return;  // it answered what it was told before
    if (attempt->presence != Presence::awake && attempt->presence != Presence::waking) return;
    if (attempt->gang_deadline != never) return;  // heard from somebody else: ours do not run yet
    core.apply(now, Ready{attempt->id, attempt->job});
}

void replica_asleep(Core& core, Instant now, const ReplicaAsleep& report) {
    const auto* found = core.state().find<Attempt>(report.attempt);
    if (found == nullptr || found->presence != Presence::falling_asleep || found->ending) return;
    if (report.telling != found->tellings) return;  // else one that has woken since would lose its GPUs in use
    const auto attempt = *found;
    const auto& job = core.state().at<Job>(attempt.job);
    if (!report.can_sleep) {
        const auto& service = core.state().at<Service>(job.spec);
        if (!service.cannot_sleep) core.apply(now, SleepRefused{service.first});
        return warn(core, now, attempt.id, EndCause::scaled, {}, {});
    }
    Seated fact{
        attempt.id, attempt.job, attempt.parts, {}, charge_of(attempt, now), charged_until(core.state(), attempt, now)};
    for (auto& part : fact.parts) {
        if (part.gpus != 0) fact.seat.push_back(part);
        part.gpus = 0;
    }
    return_loans(core, now, attempt.id);
    core.apply(now, fact);
}

void first_answer(Core& core, Instant now, const ReplicaAnswered& report) {
    const auto* attempt = core.state().find<Attempt>(report.attempt);
    if (attempt == nullptr || !attempt->is_ready || attempt->has_answered || attempt->ending) return;
    if (report.telling != attempt->tellings) return;  // it is about a time before
    core.apply(now, Answered{attempt->id, attempt->job});
}

void replica_failed(Core& core, Instant now, const ReplicaFailed& report) {
    const auto* attempt = core.state().find<Attempt>(report.attempt);
    if (attempt == nullptr || attempt->ending || attempt->port == 0 || report.telling != attempt->tellings) return;
    if (attempt->gang_deadline != never) return;  // ours do not run yet
    core.apply(now, Failing{attempt->id, attempt->job, report.detail});
    warn(core, now, report.attempt, EndCause::unanswered, {}, {});
}

void serve(Core& core, Instant now) {
    const auto& state = core.state();
    if (state.table<Service>().size() == 0) return;
    auto services = state.take_changed_services();
    for (const auto& deadline : state.deadlines()) {
        if (deadline.at > now) break;
        const bool is_ours = deadline.kind == DeadlineKind::shrink || deadline.kind == DeadlineKind::help;
        if (is_ours) services.insert(JobId{deadline.id});
    }
    for (const auto id : services) {
        if (state.find<Service>(id) != nullptr) serve_one(core, now, id);
    }
}

void put_scaling_off(Core& core, Instant now) {
    std::vector<Service> due;
    core.state().table<Service>().for_each([&](const Service& service) {
        if (std::min(service.shrink_at == Instant{} ? never : service.shrink_at,
                     service.help_at == Instant{} ? never : service.help_at) <= now) {
            due.push_back(service);
        }
    });
    for (const auto& service : due) {
        forget_shrink(core, now, service.first);
        forget_help(core, now, service.first);
    }
}

void wake(Core& core, Instant now, const Claim& claim) {
    const auto& state = core.state();
    const auto attempt = state.at<Attempt>(claim.wakes);
    auto parts = attempt.parts;
    for (auto& part : parts) {
        for (const auto& seat : attempt.seat) {
            if (seat.node == part.node) part.gpus = seat.gpus;
        }
    }
    core.apply(now, Woken{attempt.id, attempt.job, std::move(parts), now + state.settings().ready_limit,
                          charge_of(attempt, now), charged_until(state, attempt, now)});
}

void note_lenders(Core& core, Instant now, JobId borrower, const Loans& lenders) {
    const auto& job = core.state().at<Job>(borrower);
    if (job.wish != Wish::awake) return;  // one that is born to sleep gives back at once
    const auto attempt = std::get<Active>(job.phase).attempt;
    for (const auto& loan : lenders) core.apply(now, Lent{loan.lender, borrower, attempt, loan.gpus});
}

JobId borrower_from(const State& state, JobId lender) {
    JobId borrower;
    state.table<Claim>().for_each([&](const Claim& claim) {
        if (borrower || state.at<Job>(claim.job).wish != Wish::awake) return;
        const bool lends = std::any_of(claim.lenders.begin(), claim.lenders.end(),
                                       [&](const Loan& loan) { return loan.lender == lender && loan.gpus > 0; });
        if (lends) borrower = claim.job;
    });
    return borrower;
}

void return_loans(Core& core, Instant now, AttemptId id) {
    const auto attempt = core.state().at<Attempt>(id);
    for (const auto& loan : attempt.loans) core.apply(now, Returned{loan.lender, attempt.job, id, loan.gpus});
}

bool is_replica(const State& state, const Job& job) {
    return state.spec_of(job).kind == Kind::service && !is_external(state, job);
}

std::vector<JobId> routed_services(const State& state) {
    std::vector<JobId> routed;
    state.table<Service>().for_each([&](const Service& service) {
        const auto* job = state.find<Job>(service.first);
        if (job != nullptr && std::holds_alternative<Routed>(job->phase)) routed.push_back(job->id);
    });
    return routed;
}

bool is_external(const State& state, const Job& job) {
    const auto* service = state.find<Service>(job.spec);
    return service != nullptr && service->spec.is_external();
}

}  // namespace stargate
