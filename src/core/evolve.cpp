#include "core/evolve.hpp"

#include <algorithm>

#include "base/overloaded.hpp"

namespace stargate {

void lease(State& state, const Parts& parts, TenantId tenant, int sign) {
    for (const auto& part : parts) {
        GpuMask whole = part.gpus;
        if (part.share > 0) {
            const SharedKey key{part.node, std::countr_zero(part.gpus)};
            if (sign > 0) {
                if (state.find<SharedGpu>(key) == nullptr) {
                    state.put(SharedGpu{part.node, key.second, tenant, part.share});
                } else {
                    state.change<SharedGpu>(key, [&](SharedGpu& row) { row.used += part.share; });
                    whole = 0;  // opened already
                }
            } else if (state.at<SharedGpu>(key).used > part.share) {
                state.change<SharedGpu>(key, [&](SharedGpu& row) { row.used -= part.share; });
                whole = 0;  // others still share it
            } else {
                state.erase<SharedGpu>(key);
            }
        }
        state.change<Node>(part.node, [&](Node& node) {
            if (sign > 0) {
                CHECK((node.leased & whole) == 0);
                node.leased |= whole;
                node.cpus_leased += part.cpus;
                node.memory_leased += part.memory;
            } else {
                CHECK((node.leased & whole) == whole);
                node.leased &= ~whole;
                node.cpus_leased -= part.cpus;
                node.memory_leased -= part.memory;
            }
        });
    }
    const auto amount = milli_gpus(parts) * sign;
    if (amount == 0) return;
    for_each_tenant(state, tenant,
                    [&](TenantId id) { state.change<TenantRow>(id, [&](TenantRow& row) { row.used += amount; }); });
}

std::int32_t staying_ranks(const JobSpec& spec, const Ending& ending, const Part& part) {
    if (!spec.resize_in_place || ending.next.empty()) return 0;
    const auto after =
        std::find_if(ending.next.begin(), ending.next.end(), [&](const Part& next) { return next.node == part.node; });
    if (after == ending.next.end()) return 0;
    if (part.gpus == after->gpus) return part.ranks;
    // One process over all GPUs of a node cannot change them under its feet.
    if (spec.one_rank_a_node || part.gpus == 0) return 0;
    return std::popcount(part.gpus & after->gpus);
}

namespace {

void reserve(State& state, const Parts& parts, int sign) {
    for (const auto& part : parts) {
        state.change<Node>(part.node, [&](Node& node) {
            if (sign > 0) {
                CHECK((node.claimed & part.gpus) == 0);
                node.claimed |= part.gpus;
                node.cpus_claimed += part.cpus;
                node.memory_claimed += part.memory;
            } else {
                CHECK((node.claimed & part.gpus) == part.gpus);
                node.claimed &= ~part.gpus;
                node.cpus_claimed -= part.cpus;
                node.memory_claimed -= part.memory;
            }
        });
    }
}

/// Marks the claim's GPUs and its tenants' quota, or takes the marks away.
void promise(State& state, const Claim& claim, int sign) {
    reserve(state, claim.parts, sign);
    const auto amount = milli_gpus(claim.parts) * sign;
    if (amount == 0) return;
    for_each_tenant(state, state.spec_of(state.at<Job>(claim.job)).tenant,
                    [&](TenantId id) { state.change<TenantRow>(id, [&](TenantRow& row) { row.claimed += amount; }); });
}

void drop_claim(State& state, JobId job) {
    if (const auto* claim = state.find<Claim>(job)) {
        promise(state, *claim, -1);
        state.erase<Claim>(job);
    }
}

template <class Row>
void drop(State& state, JobId job) {
    if (state.find<Row>(job) != nullptr) state.erase<Row>(job);
}

/// The job no longer waits for a place: what was noted about its waiting goes.
void forget_waiting(State& state, JobId job) {
    drop_claim(state, job);
    drop<Reservation>(state, job);
}

void charge(State& state, TenantId tenant, std::int64_t amount) {
    if (amount == 0) return;
    for_each_tenant(state, tenant,
                    [&](TenantId id) { state.change<TenantRow>(id, [&](TenantRow& row) { row.charged += amount; }); });
}

void mark_seat(State& state, const Parts& seat, bool is_taken) {
    for (const auto& part : seat) {
        state.change<Node>(part.node, [&](Node& node) {
            CHECK((node.seats & part.gpus) == (is_taken ? 0 : part.gpus));
            node.seats ^= part.gpus;
        });
    }
}

/// Puts another lease in the place of the attempt's, in one step.
void lease_instead(State& state, Instant at, AttemptId id, const Parts& parts, std::int64_t charged,
                   const JobAccount& account) {
    const auto& attempt = state.at<Attempt>(id);
    const auto job = attempt.job;
    const auto tenant = state.spec_of(state.at<Job>(job)).tenant;
    const Parts old = attempt.parts;
    drop_claim(state, job);
    lease(state, old, tenant, -1);
    lease(state, parts, tenant, 1);
    charge(state, tenant, charged);
    state.change<Job>(job, [&](Job& row) { row.account = account; });
    state.change<Attempt>(id, [&](Attempt& row) {
        row.parts = parts;
        row.leased_since = at;
    });
}

/// Ends the lease of a live attempt and takes its row away.
void close(State& state, AttemptId id, std::int64_t charged, const JobAccount& account) {
    const auto attempt = state.at<Attempt>(id);
    const auto tenant = state.spec_of(state.at<Job>(attempt.job)).tenant;
    state.change<Job>(attempt.job, [&](Job& job) {
        job.last_generation = attempt.generation;
        job.last_gpus = attempt.gpu_count();
        job.account = account;
    });
    state.erase<Attempt>(id);
    lease(state, attempt.parts, tenant, -1);
    mark_seat(state, attempt.seat, false);
    charge(state, tenant, charged);
    drop_claim(state, attempt.job);  // a growth that was under way
}

/// What a job is before it has an attempt. The servers of an external service are there already: it has nothing to wait
/// for but its release.
Phase first_phase(Instant at, const std::optional<ServiceSpec>& service, bool held) {
    if (service && service->is_external() && !held) return Routed{at};
    return Waiting{at, {}};
}

void hold(State& state, Instant at, const HoldChanged& fact) {
    if (fact.held) forget_waiting(state, fact.job);
    const auto* service = state.find<Service>(state.at<Job>(fact.job).spec);
    state.change<Job>(fact.job, [&](Job& job) {
        job.held = fact.held;
        if (service != nullptr && service->spec.is_external()) job.phase = first_phase(at, service->spec, fact.held);
    });
}

void submit(State& state, Instant at, const Submitted& fact) {
    state.put(Spec{fact.first, fact.spec, fact.count, fact.count, at, 0});
    if (fact.service) {
        Service service;
        service.first = fact.first;
        service.spec = *fact.service;
        state.put(std::move(service));
    }
    for (std::int32_t task = 0; task < fact.count; ++task) {
        Job job;
        job.id = JobId{fact.first.value + static_cast<std::uint64_t>(task)};
        job.spec = fact.first;
        job.task = task;
        job.held = fact.held;
        job.phase = first_phase(at, fact.service, fact.held);
        if (fact.service && !fact.service->is_external()) job.wish = Wish::off;
        state.put(std::move(job));
    }
    state.change<Counters>(0, [&](Counters& row) { row.jobs += static_cast<std::uint64_t>(fact.count); });
}

void retire(State& state, JobId id) {
    const auto& job = state.at<Job>(id);
    const auto spec = job.spec;
    const bool failed = std::get<Finished>(job.phase).outcome != Outcome::succeeded;
    state.erase<Job>(id);
    if (state.at<Spec>(spec).left == 1) {
        state.erase<Spec>(spec);
        drop<Blocked>(state, spec);
        drop<Service>(state, spec);
    } else {
        state.count_gone(spec, failed);
    }
}

void start(State& state, Instant at, const Started& fact) {
    forget_waiting(state, fact.job);
    Attempt attempt;
    attempt.id = fact.attempt;
    attempt.job = fact.job;
    attempt.parts = fact.parts;
    attempt.started = at;
    attempt.leased_since = at;
    attempt.limit = fact.limit;
    attempt.gang_deadline = fact.gang_deadline;
    attempt.settled = fact.settled;
    attempt.want_gpus = state.at<Job>(fact.job).want_gpus;
    attempt.port = fact.port;
    attempt.reply_by = fact.reply_by;
    state.change<Job>(fact.job, [&](Job& job) {
        job.phase = Active{fact.attempt};
        job.last_attempt = fact.attempt;
        job.last_generation = 1;
        job.last_gpus = attempt.gpu_count();
    });
    lease(state, fact.parts, state.spec_of(state.at<Job>(fact.job)).tenant, 1);
    state.put(std::move(attempt));
    state.change<Counters>(0, [&](Counters& row) { row.attempts = fact.attempt.value; });
}

void resize(State& state, Instant at, const Resized& fact) {
    lease_instead(state, at, fact.attempt, fact.parts, fact.charge, fact.account);
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        row.generation = fact.generation;
        row.ending.reset();
        row.gang_deadline = fact.gang_deadline;
        row.settled = fact.settled;
        row.exit.reset();
        row.interrupted = false;
    });
    state.change<Job>(state.at<Attempt>(fact.attempt).job, [&](Job& row) {
        row.last_generation = fact.generation;
        row.last_gpus = fact.gpus;
        if (fact.step > row.step) row.step = fact.step;
    });
}

void forget_trouble(State& state, JobId replica) {
    const auto spec = state.at<Job>(replica).spec;
    const auto* service = state.find<Service>(spec);
    if (service == nullptr || service->troubles.empty()) return;
    state.change<Service>(spec, [&](Service& row) {
        std::erase_if(row.troubles, [&](const Trouble& trouble) { return trouble.job == replica; });
    });
}

void note_trouble(State& state, JobId job, const std::string& detail) {
    const auto spec = state.at<Job>(job).spec;
    if (detail.empty() || state.find<Service>(spec) == nullptr) return;
    forget_trouble(state, job);
    state.change<Service>(spec, [&](Service& row) { row.troubles.push_back({job, detail}); });
}

void note_demand(State& state, const DemandNoted& fact) {
    state.change<Service>(fact.service, [&](Service& row) {
        row.is_known = fact.is_known;
        row.need = fact.need;
        row.keep = fact.keep;
        row.over_limit = fact.over_limit;
        row.by_tokens = fact.by_tokens;
    });
}

void note_ready(State& state, const Ready& fact) {
    state.change<Attempt>(fact.attempt, [](Attempt& row) {
        row.presence = Presence::awake;
        row.is_ready = true;
        row.has_answered = false;
        row.reply_by = {};
    });
    state.change<Job>(fact.job, [](Job& row) { row.failures = 0; });
    forget_trouble(state, fact.job);
}

void begin_sleep(State& state, const SleepBegun& fact) {
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        row.presence = Presence::falling_asleep;
        row.is_ready = false;
        row.reply_by = fact.reply_by;
        ++row.tellings;
    });
}

void seat(State& state, Instant at, const Seated& fact) {
    lease_instead(state, at, fact.attempt, fact.parts, fact.charge, fact.account);
    mark_seat(state, fact.seat, true);
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        row.presence = Presence::asleep;
        row.reply_by = {};
        row.seat = fact.seat;
    });
}

void wake(State& state, Instant at, const Woken& fact) {
    mark_seat(state, state.at<Attempt>(fact.attempt).seat, false);
    lease_instead(state, at, fact.attempt, fact.parts, fact.charge, fact.account);
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        row.presence = Presence::waking;
        row.reply_by = fact.reply_by;
        ++row.tellings;
        row.seat.clear();
    });
}

void note_loan(State& state, const Lent& fact) {
    state.change<Attempt>(fact.attempt, [&](Attempt& row) { row.loans.push_back({fact.lender, fact.gpus}); });
}

void end_loan(State& state, const Returned& fact) {
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        std::erase_if(row.loans, [&](const Loan& loan) { return loan.lender == fact.lender; });
    });
}

void note_running(State& state, const Running& fact) {
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        bool all = true;
        for (auto& part : row.parts) {
            if (part.node == fact.node && part.phase == PartPhase::owed) {
                part.phase = PartPhase::running;
                part.first = false;
            }
            all = all && part.phase != PartPhase::owed;
        }
        if (all) row.gang_deadline = never;
    });
}

bool is_worse(const Exit& a, const std::optional<Exit>& b) {
    if (!b) return true;
    const auto failed = [](const Exit& exit) { return exit.kind != ExitKind::exited || exit.code != 0; };
    return failed(a) && !failed(*b);
}

void note_end_of_part(State& state, const PartEnded& fact) {
    const auto job = state.at<Attempt>(fact.attempt).job;
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        bool all_met = true;
        for (auto& part : row.parts) {
            if (part.node == fact.node) {
                part.phase = fact.left > 0 ? PartPhase::thinned : PartPhase::ended;
                part.first = false;
            }
            all_met = all_met && part.phase != PartPhase::owed;
        }
        if (all_met) row.gang_deadline = never;  // else the rest of the gang must still run by then
        row.interrupted = row.interrupted || fact.acknowledged;
        if (!fact.acknowledged && is_worse(fact.exit, row.exit)) row.exit = fact.exit;
        row.infrastructure_failed = row.infrastructure_failed || fact.infrastructure;
    });
    const auto& before = state.at<Job>(job);
    if (fact.step <= before.step && fact.saved <= before.account.saved) return;
    state.change<Job>(job, [&](Job& row) {
        row.step = std::max(row.step, fact.step);
        row.account.saved = std::max(row.account.saved, fact.saved);
    });
}

void change_node(State& state, const NodeChanged& fact) {
    state.change<Node>(fact.node, [&](Node& node) {
        node.reach = fact.reach;
        node.draining = fact.draining;
        node.boot = fact.boot;
    });
}

void join(State& state, const NodeJoined& fact) {
    if (state.find<Node>(fact.node) != nullptr) {  // the same machine with another inventory
        state.change<Node>(fact.node, [&](Node& node) {
            node.shape = fact.shape;
            node.boot = fact.boot;
            node.reach = Reach::up;
        });
        return;
    }
    Node node;
    node.id = fact.node;
    node.shape = fact.shape;
    node.boot = fact.boot;
    state.put(std::move(node));
    state.change<Counters>(0, [&](Counters& row) { row.nodes = fact.node.value; });
}

void note_foreign(State& state, const ForeignNoted& fact) {
    state.change<Node>(fact.node, [&](Node& node) {
        node.foreign = fact.gpus;
        node.foreign_attempts = fact.attempts;
        node.foreign_running = fact.running;
        node.cpus_foreign = fact.cpus;
        node.memory_foreign = fact.memory;
    });
    std::uint64_t newest = 0;
    for (const auto attempt : fact.attempts) newest = std::max(newest, attempt.value);
    if (newest > state.counters().attempts) {
        state.change<Counters>(0, [&](Counters& row) { row.attempts = newest; });
    }
}

void set_tenant(State& state, const Tenant& tenant) {
    if (state.find<TenantRow>(tenant.id) != nullptr) {
        state.change<TenantRow>(tenant.id, [&](TenantRow& row) { row.tenant = tenant; });
        return;
    }
    state.put(TenantRow{tenant, 0, 0});
    state.change<Counters>(0, [&](Counters& row) { row.tenants = tenant.id.value; });
}

void warn(State& state, const Warned& fact) {
    const auto job = state.at<Attempt>(fact.attempt).job;
    state.change<Attempt>(fact.attempt, [&](Attempt& row) {
        for (auto& part : row.parts) {  // ranks that were to survive a resize in place must end too
            if (part.phase == PartPhase::thinned) part.phase = PartPhase::running;
        }
        row.ending = fact.ending;
        row.gang_deadline = never;
    });
    if (fact.ending.next.empty()) drop_claim(state, job);  // a growth that was under way ends with the attempt
}

void requeue(State& state, Instant at, const Requeued& fact) {
    close(state, fact.attempt, fact.charge, fact.account);
    state.change<Job>(fact.job, [&](Job& job) {
        job.failures = fact.failures;
        job.phase = Waiting{at, fact.not_before};
    });
    note_trouble(state, fact.job, fact.detail);
}

void take_office(State& state, const TookOffice& fact) {
    state.change<Counters>(0, [&](Counters& row) {
        row.term = fact.term;
        row.attempts = std::max(row.attempts, fact.newest_attempt);
    });
    std::vector<AttemptId> attempts;
    std::vector<JobId> claims;
    state.table<Attempt>().for_each([&](const Attempt& row) {
        if (row.gang_deadline < fact.fresh || row.reply_by != Instant{}) attempts.push_back(row.id);
    });
    state.table<Claim>().for_each([&](const Claim& row) {
        if (row.deadline < fact.fresh) claims.push_back(row.job);
    });
    for (const auto id : attempts) {
        state.change<Attempt>(id, [&](Attempt& row) {
            row.gang_deadline = std::max(row.gang_deadline, fact.fresh);
            if (row.reply_by != Instant{}) row.reply_by = std::max(row.reply_by, fact.fresh);
        });
    }
    std::vector<JobId> services;
    state.table<Service>().for_each([&](const Service& row) { services.push_back(row.first); });
    for (const auto id : services) {  // nobody has heard yet what is asked of them
        state.change<Service>(id, [](Service& row) { row.is_known = false; });
    }
    for (const auto job : claims) {
        state.change<Claim>(job, [&](Claim& row) { row.deadline = fact.fresh; });
    }
}

/// Who runs has the new time limit from its start on; who was to have a size that it may not have any more has the
/// nearest that it may.
void edit(State& state, const Edited& fact) {
    const auto count = state.at<Spec>(fact.job).count;
    const auto before = state.at<Spec>(fact.job).spec;
    state.edit_spec(fact.job, fact.spec);
    drop<Blocked>(state, fact.job);
    const auto within = [&](std::int32_t wanted) {
        if (wanted == 0 || !fact.spec.is_elastic()) return 0;
        return std::clamp(wanted, std::max(1, fact.spec.min_gpus.count()), fact.spec.max_gpus.count());
    };
    for (std::int32_t task = 0; task < count; ++task) {
        const JobId id{fact.job.value + static_cast<std::uint64_t>(task)};
        const auto* job = state.find<Job>(id);
        if (job == nullptr || std::holds_alternative<Finished>(job->phase)) continue;
        const auto wanted = within(job->want_gpus);
        if (wanted != job->want_gpus) state.change<Job>(id, [&](Job& row) { row.want_gpus = wanted; });
        const auto* active = std::get_if<Active>(&job->phase);
        if (active == nullptr) continue;
        state.change<Attempt>(active->attempt, [&](Attempt& row) {
            row.want_gpus = within(row.want_gpus);
            if (fact.spec.time_limit != before.time_limit) row.limit = row.started + fact.spec.time_limit;
        });
    }
}

void finish(State& state, JobId id, Finished finished) {
    state.change<Job>(id, [&](Job& job) { job.phase = std::move(finished); });
}

}  // namespace

void evolve(State& state, Instant at, const Fact& fact) {
    std::visit(
        overloaded{
            [&](const Configured& f) { state.change<Settings>(0, [&](Settings& row) { row = f.settings; }); },
            [&](const TenantSet& f) { set_tenant(state, f.tenant); },
            [&](const NodeJoined& f) { join(state, f); },
            [&](const NodeChanged& f) { change_node(state, f); },
            [&](const Submitted& f) { submit(state, at, f); },
            [&](const HoldChanged& f) { hold(state, at, f); },
            [&](const BackoffOver& f) {
                state.change<Job>(f.job, [&](Job& job) { std::get<Waiting>(job.phase).not_before = {}; });
            },
            [&](const BlockedBecause& f) {
                drop<Blocked>(state, f.spec);
                state.put(Blocked{f.spec, f.job, f.why});
            },
            [&](const Reserved& f) {
                drop<Reservation>(state, f.job);
                state.put(Reservation{f.job, f.at, f.spare, f.level, f.domain});
            },
            [&](const ReservationDropped& f) { drop<Reservation>(state, f.job); },
            [&](const Claimed& f) {
                promise(state, f.claim, 1);
                state.put(f.claim);
            },
            [&](const ClaimDropped& f) { drop_claim(state, f.job); },
            [&](const Started& f) { start(state, at, f); },
            [&](const Running& f) { note_running(state, f); },
            [&](const Warned& f) { warn(state, f); },
            [&](const PartEnded& f) { note_end_of_part(state, f); },
            [&](const Resized& f) { resize(state, at, f); },
            [&](const SizeWanted& f) {
                const auto job = state.at<Attempt>(f.attempt).job;
                state.change<Attempt>(f.attempt, [&](Attempt& row) { row.want_gpus = f.gpus; });
                state.change<Job>(job, [&](Job& row) { row.want_gpus = f.gpus; });  // of its next attempts too
            },
            [&](const Progressed& f) {
                state.change<Job>(state.at<Attempt>(f.attempt).job, [&](Job& job) {
                    job.step = f.step;
                    job.account.saved = std::max(job.account.saved, f.saved);
                });
            },
            [&](const Requeued& f) { requeue(state, at, f); },
            [&](const Ended& f) {
                close(state, f.attempt, f.charge, f.account);
                forget_trouble(state, f.job);
                finish(state, f.job, {at, f.outcome, f.exit_status, f.detail, f.started, f.nodes});
                // Old logs do not tell them here.
                state.change<Job>(f.job, [&](Job& job) { job.failures = std::max(job.failures, f.failures); });
            },
            [&](const Dropped& f) {
                forget_waiting(state, f.job);
                forget_trouble(state, f.job);
                finish(state, f.job, {at, f.outcome, 0, f.detail, {}, {}});
            },
            [&](const Retired& f) { retire(state, f.job); },
            [&](const TookOffice& f) { take_office(state, f); },
            [&](const Settled& f) { state.change<Attempt>(f.attempt, [](Attempt& row) { row.settled = {}; }); },
            [&](const PassCutOff& f) {
                state.change<Counters>(0, [&](Counters& row) {
                    row.cut_off = f.job;
                    row.left = f.left;
                });
            },
            [&](const GrowthPlanned& f) { state.change<Counters>(0, [&](Counters& row) { row.grow_at = f.at; }); },
            [&](const ForeignNoted& f) { note_foreign(state, f); },
            [&](const DemandNoted& f) { note_demand(state, f); },
            [&](const Scaled& f) {
                state.change<Service>(f.service, [&](Service& row) {
                    row.awake = f.awake;
                    row.help_at = {};
                    row.shrink_at = {};
                });
            },
            [&](const ShrinkPlanned& f) {
                state.change<Service>(f.service, [&](Service& row) { row.shrink_at = f.at; });
            },
            [&](const HelpPlanned& f) { state.change<Service>(f.service, [&](Service& row) { row.help_at = f.at; }); },
            [&](const Wished& f) { state.change<Job>(f.job, [&](Job& row) { row.wish = f.wish; }); },
            [&](const Ready& f) { note_ready(state, f); },
            [&](const SleepBegun& f) { begin_sleep(state, f); },
            [&](const Seated& f) { seat(state, at, f); },
            [&](const Woken& f) { wake(state, at, f); },
            [&](const SleepRefused& f) {
                state.change<Service>(f.service, [](Service& row) { row.cannot_sleep = true; });
            },
            [&](const Lent& f) { note_loan(state, f); },
            [&](const Returned& f) { end_loan(state, f); },
            [&](const Answered& f) { state.change<Attempt>(f.attempt, [](Attempt& row) { row.has_answered = true; }); },
            [&](const Edited& f) { edit(state, f); },
            [&](const Failing& f) { state.change<Attempt>(f.attempt, [&](Attempt& row) { row.trouble = f.detail; }); },
        },
        fact);
    if (at > state.counters().now) state.change<Counters>(0, [&](Counters& row) { row.now = at; });
}

}  // namespace stargate
