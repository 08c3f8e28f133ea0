#include "core/transitions.hpp"

#include <algorithm>
#include <functional>
#include <tuple>

#include "base/overloaded.hpp"
#include "core/evolve.hpp"

namespace stargate {

namespace {
using Found = std::optional<std::string>;

std::string of(const std::string& what, std::uint64_t id) { return what + " " + std::to_string(id); }

const Part* part_on(const Parts& parts, NodeId node) {
    const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.node == node; });
    return found == parts.end() ? nullptr : &*found;
}

bool is_waiting(const State& state, JobId id) {
    const auto* job = state.find<Job>(id);
    return job != nullptr && std::holds_alternative<Waiting>(job->phase);
}

bool is_routed(const State& state, JobId id) {
    const auto* job = state.find<Job>(id);
    return job != nullptr && std::holds_alternative<Routed>(job->phase);
}

/// By the rows themselves, not by what is derived from them.
bool has_what_it_comes_after(const State& state, const JobSpec& spec) {
    const auto is_met = [&](JobId before) {
        const auto* job = state.find<Job>(before);
        return job == nullptr || State::has_succeeded(*job);  // one that retired had succeeded, or it took us along
    };
    return std::all_of(spec.after.begin(), spec.after.end(), is_met) &&
           std::all_of(spec.comes_after.begin(), spec.comes_after.end(), [&](Elements array) {
               for (; array.count > 0; --array.count, ++array.first.value) {
                   if (!is_met(array.first)) return false;
               }
               return true;
           });
}

/// Whether `would_be` thousandths of GPUs are more than the quota of a tenant of the job, or of one above, allows.
Found beyond_quota(const State& state, JobId job, const std::function<std::int64_t(const TenantRow&)>& would_be) {
    Found what;
    for_each_tenant(state, state.spec_of(state.at<Job>(job)).tenant, [&](TenantId id) {
        const auto& row = state.at<TenantRow>(id);
        if (row.tenant.quota >= 0 && would_be(row) > row.tenant.quota)
            what = of("beyond the quota of tenant", id.value);
    });
    return what;
}

/// Nobody is given what the node does not have, or its CPUs and memory twice. `held`: what the attempt has there now.
Found beyond_node(const State& state, const Part& part, const Part& held) {
    const auto& node = state.at<Node>(part.node);
    if ((part.gpus & ~held.gpus & ~node.all()) != 0)
        return of("a GPU is leased that the node does not have:", part.node.value);
    const bool lacks_cpus =
        part.cpus > held.cpus && node.cpus_leased + node.cpus_foreign + part.cpus - held.cpus > node.shape.cpus;
    const bool lacks_memory = part.memory > held.memory &&
                              node.memory_leased + node.memory_foreign + part.memory - held.memory > node.shape.memory;
    if (lacks_cpus || lacks_memory) return of("more CPUs or memory leased than there is:", part.node.value);
    return std::nullopt;
}

Found illegal_start(const State& state, Instant at, const Started& f) {
    if (!is_waiting(state, f.job)) return of("a start of a job that does not wait:", f.job.value);
    const auto& job = state.at<Job>(f.job);
    if (job.held) return of("a start of a held job:", f.job.value);
    if (std::get<Waiting>(job.phase).not_before != Instant{})
        return of("a start before its back-off is over:", f.job.value);
    if (!has_what_it_comes_after(state, state.spec_of(job)))
        return of("a start before what it comes after:", f.job.value);
    if (f.attempt.value != state.counters().attempts + 1) return of("an attempt out of turn:", f.attempt.value);
    if (f.limit <= at || f.gang_deadline <= at) return of("an attempt without time:", f.attempt.value);
    const auto* claim = state.find<Claim>(f.job);
    for (const auto& part : f.parts) {
        const auto& node = state.at<Node>(part.node);
        if (!node.takes_work()) return of("a start on a node that takes no work:", part.node.value);
        if (auto what = beyond_node(state, part, nothing_on(part.node))) return what;
        const auto* own = claim == nullptr ? nullptr : part_on(claim->parts, part.node);
        if ((node.claimed & part.gpus & ~(own == nullptr ? 0 : own->gpus)) != 0) {
            return of("a start on what is promised to another:", part.node.value);
        }
    }
    const auto more = milli_gpus(f.parts);
    return beyond_quota(state, f.job, [&](const TenantRow& row) { return row.used + more; });
}

Found illegal_claim(const State& state, Instant at, const Claim& claim) {
    if (state.find<Claim>(claim.job) != nullptr) return of("a second claim of job", claim.job.value);
    if (claim.deadline <= at) return of("a claim without time: job", claim.job.value);
    for (const auto& part : claim.parts) {
        const auto& node = state.at<Node>(part.node);
        if (!node.takes_work()) return of("a claim on a node that takes no work:", part.node.value);
        if ((part.gpus & (node.claimed | node.foreign)) != 0)
            return of("a claim on what others wait for: node", part.node.value);
    }
    // A waiting job may be promised what its own tenant's work is told to let go of: the start looks again.
    const auto more = milli_gpus(claim.parts);
    return beyond_quota(state, claim.job,
                        [&](const TenantRow& row) { return row.claimed + more + (claim.grows ? row.used : 0); });
}

Found illegal_warning(const State& state, const Warned& f) {
    const auto* attempt = state.find<Attempt>(f.attempt);
    if (attempt == nullptr || attempt->generation != f.generation) return of("a warning to nobody:", f.attempt.value);
    if (attempt->ending && f.ending.deadline > attempt->ending->deadline) {
        return of("a second warning gives more time: attempt", f.attempt.value);
    }
    const auto* claim = state.find<Claim>(attempt->job);
    for (const auto& part : f.ending.next) {
        const auto* here = part_on(attempt->parts, part.node);
        const auto* claimed = claim == nullptr ? nullptr : part_on(claim->parts, part.node);
        const auto may_have = (here == nullptr ? 0 : here->gpus) | (claimed == nullptr ? 0 : claimed->gpus);
        if ((part.gpus & ~may_have) != 0) return of("a resize to what is not promised: attempt", f.attempt.value);
    }
    return std::nullopt;
}

Found illegal_end_of_part(const State& state, const PartEnded& f) {
    const auto* attempt = state.find<Attempt>(f.attempt);
    const auto* part = attempt == nullptr ? nullptr : part_on(attempt->parts, f.node);
    if (part == nullptr || attempt->generation != f.generation)
        return of("a part ended that does not live:", f.attempt.value);
    if (part->phase == PartPhase::ended) return of("a part ended twice:", f.attempt.value);
    if (f.acknowledged && !attempt->ending) return of("a warning was acknowledged that nobody gave:", f.attempt.value);
    return std::nullopt;
}

Found illegal_resize(const State& state, const Resized& f) {
    const auto* attempt = state.find<Attempt>(f.attempt);
    if (attempt == nullptr || !attempt->ending || attempt->ending->next.empty())
        return of("a resize of nothing:", f.attempt.value);
    if (f.generation != attempt->generation + 1) return of("a generation out of turn: attempt", f.attempt.value);
    const auto& next = attempt->ending->next;
    const auto same = [](const Part& a, const Part& b) { return a.node == b.node && a.gpus == b.gpus; };
    if (!std::equal(f.parts.begin(), f.parts.end(), next.begin(), next.end(), same)) {
        return of("a resize to something else than was told: attempt", f.attempt.value);
    }
    const auto& spec = state.spec_of(state.at<Job>(attempt->job));
    for (const auto& part : attempt->parts) {
        const bool is_gone = part.phase == PartPhase::ended ||
                             (part.phase == PartPhase::thinned && staying_ranks(spec, *attempt->ending, part) > 0);
        if (!is_gone && staying_ranks(spec, *attempt->ending, part) < part.ranks) {
            return of("a resize before the ranks were gone: attempt", f.attempt.value);
        }
    }
    for (const auto& part : f.parts) {
        const auto* held = part_on(attempt->parts, part.node);
        if (held == nullptr && !state.at<Node>(part.node).takes_work()) {
            return of("growth onto a node that takes no work:", part.node.value);
        }
        if (auto what = beyond_node(state, part, held == nullptr ? nothing_on(part.node) : *held)) return what;
    }
    const auto more = milli_gpus(f.parts) - milli_gpus(attempt->parts);
    if (more <= 0) return std::nullopt;  // giving back is always right, also where a quota was lowered
    return beyond_quota(state, attempt->job, [&](const TenantRow& row) { return row.used + more; });
}

/// The attempt may only be closed when none of its ranks is left.
Found illegal_close(const State& state, AttemptId id, JobId job) {
    const auto* attempt = state.find<Attempt>(id);
    if (attempt == nullptr || attempt->job != job) return of("an end of an attempt that does not live:", id.value);
    for (const auto& part : attempt->parts) {
        if (part.phase != PartPhase::ended) return of("an end before the ranks were gone: attempt", id.value);
    }
    return std::nullopt;
}

/// A job has used what the fact charges more than before, and nothing that was lost comes back.
Found illegal_account(const State& state, AttemptId id, std::int64_t charge, const JobAccount& now) {
    const auto* attempt = state.find<Attempt>(id);
    const auto& before = state.at<Job>(attempt->job).account;
    if (now.charged != before.charged + charge)
        return of("a charge is not in the account of the job of attempt", id.value);
    const auto more_lost = now.lost - before.lost;
    if (more_lost < 0 || more_lost > std::max<std::int64_t>(0, now.charged - before.saved)) {
        return of("something else is lost than what was not saved: attempt", id.value);
    }
    return std::nullopt;
}

/// Who it is and whom it belongs to stay; who runs is asked for nothing before it.
Found illegal_edit(const State& state, const Edited& f) {
    const auto* array = state.find<Spec>(f.job);
    if (array == nullptr) return of("an edit of nothing:", f.job.value);
    const auto& spec = array->spec;
    if (spec.kind == Kind::service || f.spec.kind == Kind::service) return of("an edit of a service:", f.job.value);
    if (std::tie(spec.name, spec.tenant, spec.owner) != std::tie(f.spec.name, f.spec.tenant, f.spec.owner)) {
        return of("an edit makes another job of it:", f.job.value);
    }
    for (std::int32_t task = 0; task < array->count; ++task) {
        const JobId id{f.job.value + static_cast<std::uint64_t>(task)};
        if (is_waiting(state, id) && state.find<Claim>(id) != nullptr)
            return of("an edit of what is promised something: job", id.value);
        const auto* job = state.find<Job>(id);
        const bool runs = job != nullptr && std::holds_alternative<Active>(job->phase);
        if (runs && spec.comes_after != f.spec.comes_after)
            return of("it runs, and is to come after others: job", id.value);
    }
    return std::nullopt;
}

Found illegal_change(const State& state, const NodeChanged& f) {
    const auto* node = state.find<Node>(f.node);
    if (node == nullptr) return of("no such node:", f.node.value);
    const bool takes_work = f.reach == Reach::up && !f.draining;
    if (!takes_work && node->claimed != 0) return of("a claim is kept on a node that takes no work:", f.node.value);
    if (f.reach != Reach::dead) return std::nullopt;
    for (const auto id : state.attempts_on(f.node)) {
        const auto* part = part_on(state.at<Attempt>(id).parts, f.node);
        if (part->phase != PartPhase::ended) return of("work lives on a dead node: attempt", id.value);
    }
    return std::nullopt;
}

const Attempt* replica(const State& state, AttemptId id, JobId job) {
    const auto* attempt = state.find<Attempt>(id);
    return attempt != nullptr && attempt->job == job && attempt->port != 0 ? attempt : nullptr;
}

Found illegal_wake(const State& state, const Woken& f) {
    const auto* attempt = replica(state, f.attempt, f.job);
    if (attempt == nullptr || attempt->presence != Presence::asleep || attempt->ending) {
        return of("one wakes who does not sleep: attempt", f.attempt.value);
    }
    for (const auto& part : f.parts) {
        const auto* seat = part_on(attempt->seat, part.node);
        if (seat == nullptr || seat->gpus != part.gpus) return of("one wakes elsewhere: attempt", f.attempt.value);
        const auto& node = state.at<Node>(part.node);
        if (((node.leased | node.foreign) & part.gpus) != 0) {
            return of("one wakes where others compute: attempt", f.attempt.value);
        }
        if (!node.takes_work()) return of("one wakes on a node that takes no work: attempt", f.attempt.value);
        const auto* claim = state.find<Claim>(f.job);
        const auto* own = claim == nullptr || claim->wakes != f.attempt ? nullptr : part_on(claim->parts, part.node);
        if (own == nullptr || (node.claimed & part.gpus & ~own->gpus) != 0) {
            return of("one wakes on what is not promised to it: attempt", f.attempt.value);
        }
    }
    return beyond_quota(state, f.job, [&](const TenantRow& row) { return row.used + milli_gpus(f.parts); });
}

Found illegal_scale(const State& state, Instant at, const Scaled& f) {
    const auto* service = state.find<Service>(f.service);
    if (service == nullptr) return of("no such service:", f.service.value);
    if (f.awake > service->spec.max || f.awake < service->spec.min)
        return of("too many or too few serve:", f.service.value);
    if (f.awake >= service->awake) return std::nullopt;
    if (!service->is_known || service->over_limit) return of("a service shrinks on demand unknown:", f.service.value);
    if (service->shrink_at == Instant{} || service->shrink_at > at)
        return of("a service shrinks too soon:", f.service.value);
    if (f.awake < service->keep) return of("a service shrinks below what could carry its demand:", f.service.value);
    return std::nullopt;
}

Found when(bool is_wrong, const char* what, std::uint64_t id) { return is_wrong ? Found{of(what, id)} : std::nullopt; }
}  // namespace

std::optional<std::string> illegal(const State& before, Instant at, const Fact& fact) {
    const auto never_wrong = [](const auto&) { return Found{}; };
    return std::visit(
        overloaded{
            [&](const Configured& f) { return never_wrong(f); },
            [&](const TenantSet& f) { return never_wrong(f); },
            [&](const NodeJoined& f) {
                const bool is_new = before.find<Node>(f.node) == nullptr;
                return when(is_new && f.node.value != before.counters().nodes + 1, "a node out of turn:", f.node.value);
            },
            [&](const NodeChanged& f) { return illegal_change(before, f); },
            [&](const Submitted& f) {
                return when(f.first.value != before.counters().jobs + 1, "a job out of turn:", f.first.value);
            },
            [&](const HoldChanged& f) {
                const bool could = is_waiting(before, f.job) || (f.held && is_routed(before, f.job));
                return when(!could, "a hold of no waiting job:", f.job.value);
            },
            [&](const BackoffOver& f) {
                const auto* job = before.find<Job>(f.job);
                const auto* waiting = job == nullptr ? nullptr : std::get_if<Waiting>(&job->phase);
                return when(waiting == nullptr || waiting->not_before == Instant{} || waiting->not_before > at,
                            "a back-off that is not over: job", f.job.value);
            },
            [&](const BlockedBecause& f) {
                return when(!is_waiting(before, f.job), "blocked, but not waiting: job", f.job.value);
            },
            [&](const Reserved& f) {
                return when(!is_waiting(before, f.job), "reserved, but not waiting: job", f.job.value);
            },
            [&](const ReservationDropped& f) {
                return when(before.find<Reservation>(f.job) == nullptr, "no reservation of job", f.job.value);
            },
            [&](const Claimed& f) { return illegal_claim(before, at, f.claim); },
            [&](const ClaimDropped& f) {
                return when(before.find<Claim>(f.job) == nullptr, "no claim of job", f.job.value);
            },
            [&](const Started& f) { return illegal_start(before, at, f); },
            [&](const Running& f) {
                const auto* attempt = before.find<Attempt>(f.attempt);
                const auto* part = attempt == nullptr ? nullptr : part_on(attempt->parts, f.node);
                return when(part == nullptr || attempt->generation != f.generation || part->phase != PartPhase::owed,
                            "ranks run that were not to start: attempt", f.attempt.value);
            },
            [&](const Warned& f) { return illegal_warning(before, f); },
            [&](const PartEnded& f) { return illegal_end_of_part(before, f); },
            [&](const Resized& f) {
                if (const auto illegal = illegal_resize(before, f)) return illegal;
                return illegal_account(before, f.attempt, f.charge, f.account);
            },
            [&](const Edited& f) { return illegal_edit(before, f); },
            [&](const SizeWanted& f) {
                return when(before.find<Attempt>(f.attempt) == nullptr, "no attempt", f.attempt.value);
            },
            [&](const Progressed& f) {
                const auto* attempt = before.find<Attempt>(f.attempt);
                return when(attempt == nullptr || before.at<Job>(attempt->job).step >= f.step, "no progress: attempt",
                            f.attempt.value);
            },
            [&](const Requeued& f) {
                if (const auto illegal = illegal_close(before, f.attempt, f.job)) return illegal;
                return illegal_account(before, f.attempt, f.charge, f.account);
            },
            [&](const Ended& f) {
                if (const auto illegal = illegal_close(before, f.attempt, f.job)) return illegal;
                if (const auto illegal = illegal_account(before, f.attempt, f.charge, f.account)) return illegal;
                return when(f.started != before.at<Attempt>(f.attempt).started, "another start than it had: attempt",
                            f.attempt.value);
            },
            [&](const Dropped& f) {
                return when(!is_waiting(before, f.job) && !is_routed(before, f.job), "dropped, but not waiting: job",
                            f.job.value);
            },
            [&](const Retired& f) {
                const auto* job = before.find<Job>(f.job);
                return when(job == nullptr || !std::holds_alternative<Finished>(job->phase),
                            "retired, but not over: job", f.job.value);
            },
            [&](const TookOffice& f) {
                return when(f.term <= before.counters().term, "the term did not rise:", f.term);
            },
            [&](const Settled& f) {
                const auto* attempt = before.find<Attempt>(f.attempt);
                return when(attempt == nullptr || attempt->settled > at, "settled too early: attempt", f.attempt.value);
            },
            [&](const GrowthPlanned& f) { return never_wrong(f); },
            [&](const PassCutOff& f) {
                return when(f.job ? !is_waiting(before, f.job) : f.left > 0,
                            "cut off before one that is not waiting: job", f.job.value);
            },
            [&](const ForeignNoted& f) {
                return when(before.find<Node>(f.node) == nullptr, "no such node:", f.node.value);
            },
            [&](const DemandNoted& f) {
                return when(before.find<Service>(f.service) == nullptr, "no such service:", f.service.value);
            },
            [&](const Scaled& f) { return illegal_scale(before, at, f); },
            [&](const ShrinkPlanned& f) {
                return when(before.find<Service>(f.service) == nullptr, "no such service:", f.service.value);
            },
            [&](const HelpPlanned& f) {
                return when(before.find<Service>(f.service) == nullptr, "no such service:", f.service.value);
            },
            [&](const Wished& f) {
                const auto* job = before.find<Job>(f.job);
                return when(job == nullptr || before.find<Service>(job->spec) == nullptr, "no replica:", f.job.value);
            },
            [&](const Ready& f) {
                const auto* attempt = replica(before, f.attempt, f.job);
                const bool could = attempt != nullptr && !attempt->is_ready && attempt->gang_deadline == never &&
                                   attempt->presence != Presence::asleep &&
                                   attempt->presence != Presence::falling_asleep;
                return when(!could, "one is ready who was not asked: attempt", f.attempt.value);
            },
            [&](const SleepBegun& f) {
                const auto* attempt = replica(before, f.attempt, f.job);
                return when(attempt == nullptr || !attempt->is_ready || attempt->presence != Presence::awake,
                            "one is put to sleep who does not serve: attempt", f.attempt.value);
            },
            [&](const Seated& f) {
                const auto* attempt = replica(before, f.attempt, f.job);
                if (attempt == nullptr || attempt->presence != Presence::falling_asleep) {
                    return Found{of("one sleeps who was not told to: attempt", f.attempt.value)};
                }
                return illegal_account(before, f.attempt, f.charge, f.account);
            },
            [&](const Woken& f) {
                if (const auto illegal = illegal_wake(before, f)) return illegal;
                return illegal_account(before, f.attempt, f.charge, f.account);
            },
            [&](const Answered& f) {
                const auto* attempt = replica(before, f.attempt, f.job);
                return when(attempt == nullptr || !attempt->is_ready || attempt->has_answered,
                            "a first answer of one that does not serve, or once more: attempt", f.attempt.value);
            },
            [&](const Failing& f) {
                const auto* attempt = replica(before, f.attempt, f.job);
                return when(attempt == nullptr || attempt->ending.has_value(),
                            "one fails who is no replica or has been told to end: attempt", f.attempt.value);
            },
            [&](const SleepRefused& f) {
                return when(before.find<Service>(f.service) == nullptr, "no such service:", f.service.value);
            },
            [&](const Lent& f) {
                const auto* attempt = replica(before, f.attempt, f.borrower);
                const bool has_been = f.lender && f.lender.value <= before.counters().jobs;
                return when(attempt == nullptr || !has_been || f.gpus <= 0,
                            "a loan without lender or borrower: attempt", f.attempt.value);
            },
            [&](const Returned& f) {
                const auto* attempt = replica(before, f.attempt, f.borrower);
                const bool is_owed =
                    attempt != nullptr && std::any_of(attempt->loans.begin(), attempt->loans.end(),
                                                      [&](const Loan& loan) { return loan.lender == f.lender; });
                return when(!is_owed, "what nobody lent is returned: attempt", f.attempt.value);
            },
        },
        fact);
}

}  // namespace stargate
