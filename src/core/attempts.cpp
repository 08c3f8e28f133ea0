#include "core/attempts.hpp"

#include <algorithm>

#include "core/serving.hpp"

namespace stargate {

namespace {

const Part* part_on_node(const Parts& parts, NodeId node) {
    const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.node == node; });
    return found == parts.end() ? nullptr : &*found;
}

bool failed(const Exit& exit) { return exit.kind != ExitKind::exited || exit.code != 0; }

std::int32_t status_of(const Exit& exit) {
    switch (exit.kind) {
        case ExitKind::exited:
            return exit.code;
        case ExitKind::signalled:
            return 128 + exit.code;
        case ExitKind::could_not_start:
            return exit.code != 0 ? exit.code : 127;
        case ExitKind::killed:
            return 137;
        case ExitKind::refused:
            return 1;
    }
    return 1;
}

/// Whether this part has nothing more to give back for the ending that is under way.
bool is_done(const JobSpec& spec, const Attempt& attempt, const Part& part) {
    return part.phase == PartPhase::ended || part.phase == PartPhase::thinned ||
           (attempt.ending && !must_end(spec, *attempt.ending, part));
}

bool all_gone(const State& state, const Attempt& attempt) {
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    return std::all_of(attempt.parts.begin(), attempt.parts.end(),
                       [&](const Part& part) { return is_done(spec, attempt, part); });
}

/// Whether ranks of a resize in place still run, or may yet be started.
bool has_survivors(const Attempt& attempt) {
    return std::any_of(attempt.parts.begin(), attempt.parts.end(),
                       [](const Part& part) { return part.phase != PartPhase::ended; });
}

/// Whether the next generation was to be on a node that has died since its ranks left.
bool goes_on_the_dead(const State& state, const Attempt& attempt) {
    return attempt.ending &&
           std::any_of(attempt.ending->next.begin(), attempt.ending->next.end(),
                       [&](const Part& part) { return state.at<Node>(part.node).reach == Reach::dead; });
}

/// A replica is to run for ever: how it came to its end, in a sentence.
std::string how_it_ended(const Attempt& attempt, EndCause cause) {
    if (!attempt.trouble.empty()) return attempt.trouble;
    if (cause == EndCause::unanswered) return "it did not do in time what it was told";
    if (!attempt.exit) return "its ranks did not start in time";
    if (!attempt.exit->detail.empty()) return attempt.exit->detail;
    return "it ended with status " + std::to_string(status_of(*attempt.exit));
}

/// With everything lost that was charged and not saved: nobody goes on from there.
JobAccount with_the_rest_lost(const State& state, const Attempt& attempt, Instant now) {
    auto account = charged_until(state, attempt, now);
    const auto& job = state.at<Job>(attempt.job);
    if (!is_replica(state, job)) account.lost += account.charged - job.account.saved;
    return account;
}

/// Whether some of its ranks go on through the ending that is under way, with all that they have.
bool some_stay(const State& state, const Attempt& attempt) {
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    return attempt.ending && std::any_of(attempt.parts.begin(), attempt.parts.end(), [&](const Part& part) {
               return staying_ranks(spec, *attempt.ending, part) > 0;
           });
}

void end(Core& core, Instant now, const Attempt& attempt, Outcome outcome, std::int32_t status, std::string detail,
         std::int32_t more_failures = 0) {
    const auto job = attempt.job;
    const auto failures = core.state().at<Job>(job).failures + more_failures;
    NodeIds nodes;
    for (const auto& part : attempt.parts) nodes.push_back(part.node);
    const auto account = outcome == Outcome::succeeded ? charged_until(core.state(), attempt, now)
                                                       : with_the_rest_lost(core.state(), attempt, now);
    return_loans(core, now, attempt.id);
    core.apply(now, Ended{attempt.id, job, outcome, status, charge_of(attempt, now), std::move(detail), attempt.started,
                          std::move(nodes), failures, account});
    if (outcome != Outcome::succeeded) drop_dependents(core, now, job);
}

void requeue(Core& core, Instant now, const Attempt& attempt, EndCause cause, bool infrastructure, std::string detail) {
    const auto& state = core.state();
    const auto& job = state.at<Job>(attempt.job);
    const auto& spec = state.spec_of(job);
    auto failures = job.failures;
    Instant not_before{};
    if (infrastructure) {
        ++failures;
        if (failures > spec.retries && spec.kind != Kind::service) {
            end(core, now, attempt, Outcome::failed, 1,
                "gave up after " + std::to_string(failures) + " infrastructure failures; the last: " + detail, 1);
            return;
        }
        constexpr int most_doublings = 8;
        not_before = now + state.settings().retry_backoff * (1 << std::min(failures - 1, most_doublings));
    }
    auto account = with_the_rest_lost(state, attempt, now);
    if (infrastructure) {
        ++account.recovered;
    } else if (cause != EndCause::scaled) {
        ++account.preempted;
    }
    return_loans(core, now, attempt.id);
    core.apply(now, Requeued{attempt.id, attempt.job, cause, failures, not_before, charge_of(attempt, now),
                             std::move(detail), account});
}

/// A port of this node that no other replica there has. Who starts anew gets another one, so that what somebody else
/// listens on is in the way but once.
std::int32_t free_port(const State& state, NodeId node, AttemptId attempt) {
    constexpr std::uint64_t ports = 4'000;
    const auto& there = state.attempts_on(node);
    const auto port_at = [&](std::uint64_t step) {
        return state.settings().first_port + static_cast<std::int32_t>((attempt.value + step) % ports);
    };
    std::uint64_t step = 0;
    const auto is_taken = [&] {
        return std::any_of(there.begin(), there.end(),
                           [&](AttemptId id) { return state.at<Attempt>(id).port == port_at(step); });
    };
    while (is_taken() && step < ports) ++step;
    return port_at(step);
}

/// The ranks are gone as the resize wanted: the next generation holds the next lease.
void go_on(Core& core, Instant now, const Attempt& attempt) {
    const auto& state = core.state();
    const auto& settings = state.settings();
    Resized fact;
    fact.attempt = attempt.id;
    fact.generation = attempt.generation + 1;
    fact.parts = attempt.ending->next;
    fact.cause = attempt.ending->cause;
    fact.gpus_before = attempt.gpu_count();
    for (auto& part : fact.parts) {
        const auto* before = part_on_node(attempt.parts, part.node);
        part.first = before == nullptr || before->first;
        part.phase = PartPhase::owed;
        fact.gpus += part.gpu_count();
    }
    fact.step = state.at<Job>(attempt.job).step;
    fact.gang_deadline = now + settings.gang_limit;
    fact.settled = now + settings.quiet_period;
    fact.charge = charge_of(attempt, now);
    if (some_stay(state, attempt)) {
        fact.account = state.at<Job>(attempt.job).account;
        fact.account.charged += fact.charge;
    } else {
        fact.account = with_the_rest_lost(state, attempt, now);
    }
    fact.borrower = fact.gpus < fact.gpus_before ? borrower_from(state, attempt.job) : JobId{};
    if (fact.borrower) fact.lender = attempt.job;
    core.apply(now, fact);
}

/// What a shell would say of ranks that were told to end: SIGTERM ended them, or SIGKILL where they did not go.
/// last  how the last of them ended. All of them have one deadline, so one that was killed at it is the last to go.
std::int32_t status_when_told(const Exit& last) { return last.kind == ExitKind::killed ? 137 : 143; }

/// Every rank that was to go is gone: what becomes of the attempt.
/// last  how the ranks ended that were the last to go; by default they went before it was decided that this is the end
void conclude(Core& core, Instant now, AttemptId id, const Exit& last = {}) {
    const auto attempt = core.state().at<Attempt>(id);
    const auto cause = attempt.ending ? attempt.ending->cause : EndCause::none;
    const auto natural = attempt.exit && !attempt.infrastructure_failed;  // an end that no warning asked for
    const bool succeeded = natural && !failed(*attempt.exit) && !attempt.interrupted;
    const bool node_died = goes_on_the_dead(core.state(), attempt);
    const bool goes_on = attempt.ending && !attempt.ending->next.empty() && !attempt.infrastructure_failed &&
                         !node_died && (!natural || (!failed(*attempt.exit) && attempt.interrupted));
    if (is_replica(core.state(), core.state().at<Job>(attempt.job)) && cause != EndCause::cancel) {
        const bool is_told = cause == EndCause::scaled || cause == EndCause::preempt || cause == EndCause::node_drained;
        const bool has_failed = attempt.infrastructure_failed || !is_told;
        return requeue(core, now, attempt, cause, has_failed, has_failed ? how_it_ended(attempt, cause) : "");
    }
    // The survivors of a resize in place hold their GPUs until they are gone as well.
    if (!goes_on && has_survivors(attempt)) return warn(core, now, id, EndCause::gang_broken, {}, {});
    switch (cause) {
        case EndCause::cancel:
            return end(core, now, attempt, Outcome::cancelled, status_when_told(last), "cancelled");
        case EndCause::time_limit:
            if (natural && (failed(*attempt.exit) || succeeded)) break;  // it ended by itself before it was told
            return end(core, now, attempt, Outcome::failed, status_when_told(last), "its time limit ended it");
        case EndCause::none:
        case EndCause::gang_broken:
        case EndCause::superseded:
        case EndCause::scaled:
        case EndCause::unanswered:
            // A part that succeeded does not make up for the parts that had to be ended.
            if (attempt.infrastructure_failed || !attempt.exit || (attempt.interrupted && !failed(*attempt.exit))) {
                const auto detail = attempt.infrastructure_failed && attempt.exit
                                        ? attempt.exit->detail
                                        : std::string{"its ranks did not start in time"};
                return requeue(core, now, attempt, cause, true, detail);
            }
            break;
        case EndCause::resize:
        case EndCause::preempt:
        case EndCause::node_drained:
            if (attempt.infrastructure_failed) {
                return requeue(core, now, attempt, cause, true, attempt.exit ? attempt.exit->detail : "");
            }
            if (goes_on) return go_on(core, now, attempt);
            if (natural && (failed(*attempt.exit) || succeeded)) break;
            if (node_died) return requeue(core, now, attempt, cause, true, "its node died");
            return requeue(core, now, attempt, cause, false, "");
    }
    const auto& exit = *attempt.exit;
    end(core, now, attempt, failed(exit) ? Outcome::failed : Outcome::succeeded, status_of(exit), exit.detail);
}

void part_is_gone(Core& core, Instant now, const PartEnded& fact) {
    core.apply(now, fact);
    const auto& attempt = core.state().at<Attempt>(fact.attempt);
    if (all_gone(core.state(), attempt)) return conclude(core, now, fact.attempt, fact.exit);
    // One part failed while others run: a gang is whole or not at all.
    const bool bad = !fact.acknowledged && (fact.infrastructure || failed(fact.exit));
    if (bad && (!attempt.ending || !attempt.ending->next.empty())) {
        warn(core, now, fact.attempt, EndCause::gang_broken, {}, {});
    }
}

/// The live attempt of this generation whose part on this node has not ended; nothing when the report is late,
/// doubled or about something else.
const Attempt* expecting(const State& state, AttemptId id, NodeId node, std::uint32_t generation) {
    const auto* attempt = state.find<Attempt>(id);
    if (attempt == nullptr || attempt->generation != generation) return nullptr;
    const auto* part = part_on_node(attempt->parts, node);
    return part != nullptr && part->phase != PartPhase::ended ? attempt : nullptr;
}

}  // namespace

void drop_dependents(Core& core, Instant now, JobId failed) {
    const auto& state = core.state();
    // The first element of an array that fails takes along all that comes after it; nobody is taken twice.
    std::vector<JobId> lost;
    if (state.failed(state.at<Job>(failed).spec) == 1) lost.push_back(failed);
    while (!lost.empty()) {
        const auto before = lost.back();
        lost.pop_back();
        const auto dependents = state.dependents_of(state.at<Job>(before).spec);
        for (const auto first : dependents) {
            const bool is_first = state.failed(first) == 0;
            const auto count = state.at<Spec>(first).count;
            JobId newest;
            for (std::int32_t task = 0; task < count; ++task) {
                const JobId id{first.value + static_cast<std::uint64_t>(task)};
                const auto* job = state.find<Job>(id);
                if (job == nullptr || !std::holds_alternative<Waiting>(job->phase)) continue;
                core.apply(now,
                           Dropped{id, Outcome::cancelled,
                                   "job " + std::to_string(before.value) + ", which it comes after, did not succeed"});
                newest = id;
            }
            if (newest && is_first) lost.push_back(newest);
        }
    }
}

std::int64_t charge_of(const Attempt& attempt, Instant now) {
    const auto held = std::chrono::duration_cast<std::chrono::milliseconds>(now - attempt.leased_since).count();
    return milli_gpus(attempt.parts) * held / 1000;
}

JobAccount charged_until(const State& state, const Attempt& attempt, Instant now) {
    auto account = state.at<Job>(attempt.job).account;
    account.charged += charge_of(attempt, now);
    account.saved = account.charged;
    return account;
}

bool must_end(const JobSpec& spec, const Ending& ending, const Part& part) {
    return staying_ranks(spec, ending, part) < part.ranks;
}

void start(Core& core, Instant now, JobId job, Parts parts) {
    const auto& state = core.state();
    const auto& spec = state.spec_of(state.at<Job>(job));
    const AttemptId attempt{state.counters().attempts + 1};
    Started fact{job, attempt, std::move(parts), now + spec.time_limit, now + state.settings().gang_limit, {}};
    if (spec.kind == Kind::service) {
        fact.limit = never;
        fact.port = free_port(state, fact.parts.front().node, attempt);
        fact.reply_by = now + state.settings().ready_limit;
    }
    core.apply(now, fact);
}

void ranks_running(Core& core, Instant now, const RanksRunning& report) {
    const auto* attempt = expecting(core.state(), report.attempt, report.node, report.generation);
    if (attempt == nullptr) return;
    if (part_on_node(attempt->parts, report.node)->phase != PartPhase::owed) return;
    core.apply(now, Running{report.attempt, report.node, report.generation});
}

void ranks_ended(Core& core, Instant now, const RanksEnded& report) {
    if (expecting(core.state(), report.attempt, report.node, report.generation) == nullptr) return;
    if (report.cancelled) cancel_attempt(core, now, report.attempt);
    const auto* attempt = core.state().find<Attempt>(report.attempt);
    const bool asked = attempt->ending.has_value() && (report.warned || report.exit.kind == ExitKind::killed);
    const bool ours = report.exit.kind == ExitKind::refused && !asked;
    const auto& part = *part_on_node(attempt->parts, report.node);
    if (report.left > 0) {
        const auto& spec = core.state().spec_of(core.state().at<Job>(attempt->job));
        const bool as_told = attempt->ending && part.phase != PartPhase::thinned &&
                             staying_ranks(spec, *attempt->ending, part) == report.left;
        if (!as_told) return;  // told twice, or late: by now those that were left are to end as well
    }
    PartEnded fact{report.attempt, report.node, report.generation, report.exit, asked, ours, report.step, report.left};
    const bool left_in_time = asked && report.exit.kind != ExitKind::killed &&
                              attempt->ending->cause != EndCause::gang_broken && !some_stay(core.state(), *attempt);
    if (left_in_time || report.step > core.state().at<Job>(attempt->job).step) {
        fact.saved = charged_until(core.state(), *attempt, now).saved;
    }
    part_is_gone(core, now, fact);
}

void cancel_attempt(Core& core, Instant now, AttemptId id) {
    const auto& ending = core.state().at<Attempt>(id).ending;
    if (!ending || ending->cause != EndCause::cancel) warn(core, now, id, EndCause::cancel, {}, {});
}

void attempt_lost(Core& core, Instant now, AttemptId id, NodeId node, const std::string& detail) {
    const auto* attempt = core.state().find<Attempt>(id);
    if (attempt == nullptr) return;
    const auto* part = part_on_node(attempt->parts, node);
    if (part == nullptr || part->phase == PartPhase::ended) return;
    part_is_gone(core, now, {id, node, attempt->generation, {ExitKind::refused, 0, detail}, false, true, -1, 0});
}

void progress(Core& core, Instant now, const Progress& report) {
    const auto* attempt = core.state().find<Attempt>(report.attempt);
    if (attempt == nullptr || core.state().at<Job>(attempt->job).step >= report.step) return;
    core.apply(now, Progressed{report.attempt, report.step, charged_until(core.state(), *attempt, now).saved});
}

void warn(Core& core, Instant now, AttemptId id, EndCause cause, Parts next, JobId for_job) {
    const auto& state = core.state();
    const auto& attempt = state.at<Attempt>(id);
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    auto deadline = now + spec.grace;
    if (attempt.ending) deadline = std::min(deadline, attempt.ending->deadline);  // a second warning gives no more time
    const auto generation = attempt.generation;
    core.apply(now, Warned{id, generation, {cause, std::move(next), deadline}, for_job});
    if (all_gone(state, state.at<Attempt>(id))) conclude(core, now, id);
}

}  // namespace stargate
