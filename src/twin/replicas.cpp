#include <fmt/format.h>

#include <utility>

#include "twin/machines.hpp"

/// Replicas of the simulated world: they load, serve, drain, sleep and wake as they are told, or do not.
namespace stargate::twin {

namespace {
constexpr Duration serves_before_it_stops = std::chrono::seconds{30};  // mean
constexpr Duration between_reports = std::chrono::seconds{30};         // of one that has stopped
}  // namespace

const ServicePlan& Machines::plan_of(const Record& record) const {
    return scenario_.services[static_cast<std::size_t>(truth_of(record.job)->service)];
}

/// Its process runs and loads its model.
void Machines::replica_up(Instant now, NodeId node, const Record& record) {
    const auto& plan = plan_of(record);
    Replica replica;
    replica.node = node;
    replica.loaded = now + rng_.lognormal(plan.start, 0.5);
    replica.can_sleep = !rng_.chance(plan.cannot_sleep);
    replicas_.insert_or_assign(record.attempt, replica);
}

void Machines::replica_gone(AttemptId attempt) {
    const auto found = replicas_.find(attempt);
    if (found == replicas_.end()) return;
    const bool had_streams = found->second.streams > 0;
    replicas_.erase(found);
    if (had_streams) cut_(attempt);
}

void Machines::obey(Instant now, const TellReplica& command) {
    auto* record = find(command.node, command.attempt);
    const auto found = replicas_.find(command.attempt);
    if (record == nullptr || record->standing != Standing::running || found == replicas_.end()) return;
    auto& replica = found->second;
    if (replica.is_told && command.telling < replica.telling) return;  // overtaken
    if (replica.is_told && command.telling == replica.telling) {
        replica.drained_by = std::max(replica.drained_by, command.reply_by - scenario_.settings.claim_slack);
        return answer(command.node, *record, replica);
    }
    replica.is_told = true;
    replica.telling = command.telling;
    replica.answers = false;
    replica.what = command.what;
    replica.will_stop = false;
    replica.hangs = !calm_ && rng_.chance(scenario_.faults.replica_hangs);
    if (replica.hangs) ++hung_replicas_;
    replica.epoch = ++epochs_;
    switch (command.what) {
        case Telling::prove:
            return plan_answer(std::max(now, replica.loaded), *record, replica);
        case Telling::wake:
            if (replica.seat == 0) {
                return broken_(fmt::format("replica {} was told to wake and does not sleep", command.attempt.value));
            }
            hold(command.node, *record, replica.seat);  // it was granted them
            record->gpus = replica.seat;
            replica.seat = 0;
            return plan_answer(now + rng_.lognormal(plan_of(*record).wake, 0.5), *record, replica);
        case Telling::sleep:
            replica.serves = false;
            replica.drained_by = command.reply_by - scenario_.settings.claim_slack;
            return plan_answer(replica.streams > 0 ? std::max(now, replica.drained_by)
                                                   : now + rng_.lognormal(plan_of(*record).sleep, 0.5),
                               *record, replica);
    }
}

void Machines::plan_answer(Instant at, const Record& record, const Replica& replica) {
    queue_.push(at, Happening::replica_acts, replica.node, record.attempt.value, replica.epoch);
}

void Machines::replica_acts(Instant now, const Event& event) {
    const AttemptId attempt{event.a};
    auto* record = find(event.node, attempt);
    const auto found = replicas_.find(attempt);
    if (record == nullptr || record->standing != Standing::running || found == replicas_.end()) return;
    auto& replica = found->second;
    if (replica.epoch != event.b || replica.hangs) return;
    if (replica.will_stop) return stop_answering(now, event.node, *record, replica);
    if (!calm_ && rng_.chance(scenario_.faults.replica_dies)) {
        ++dead_replicas_;
        return all_gone(now, event.node, *record, {ExitKind::exited, 1, "it crashed"});
    }
    if (replica.what == Telling::sleep && replica.streams > 0) {
        if (now < replica.drained_by) return plan_answer(replica.drained_by, *record, replica);  // it was given more
        replica.streams = 0;
        cut_(attempt);
    }
    replica.answers = true;
    if (replica.what != Telling::sleep) {
        replica.serves = true;
        const auto share = calm_ ? 0 : scenario_.faults.replica_stops;
        replica.will_stop = share > 0 && rng_.chance(share);
        if (replica.will_stop) plan_answer(now + rng_.lognormal(serves_before_it_stops, 0.5), *record, replica);
    } else if (replica.can_sleep) {
        let_go(event.node, *record, record->gpus);
        replica.seat = record->gpus;
        record->gpus = 0;
    }
    answer(event.node, *record, replica);
}

/// It served, and does no more: whoever looks on at it says so, again and again until it is heard.
void Machines::stop_answering(Instant now, NodeId node, const Record& record, Replica& replica) {
    if (std::exchange(replica.answers, false)) ++stopped_replicas_;
    replica.serves = false;
    if (std::exchange(replica.streams, 0) > 0) cut_(record.attempt);
    report_(node, ReplicaFailed{record.attempt, replica.telling, "it does not answer GET /health"});
    plan_answer(now + between_reports, record, replica);
}

/// Says once more what it has done.
void Machines::answer(NodeId node, const Record& record, const Replica& replica) {
    if (!replica.answers) return;
    if (replica.what == Telling::sleep) {
        report_(node, ReplicaAsleep{record.attempt, replica.can_sleep, replica.telling});
    } else {
        report_(node, ReplicaReady{record.attempt, replica.telling});
    }
}

bool Machines::begin_stream(AttemptId attempt) {
    const auto found = replicas_.find(attempt);
    if (found == replicas_.end() || !found->second.serves) return false;
    ++found->second.streams;
    return true;
}

std::int32_t Machines::streams_of(AttemptId attempt) const {
    const auto found = replicas_.find(attempt);
    return found == replicas_.end() ? 0 : found->second.streams;
}

std::vector<AttemptId> Machines::lose_clients(NodeId node) {
    std::vector<AttemptId> lost;
    for (auto& [attempt, replica] : replicas_) {
        if (replica.node != node || replica.streams == 0) continue;
        replica.streams = 0;
        lost.push_back(attempt);
    }
    return lost;
}

/// Drained, it sleeps or ends without waiting for its time to be over.
void Machines::stream_over(Instant now, AttemptId attempt) {
    const auto found = replicas_.find(attempt);
    if (found == replicas_.end() || --found->second.streams > 0) return;
    auto& replica = found->second;
    auto* record = find(replica.node, attempt);
    if (record == nullptr) return;
    if (record->standing == Standing::leaving) {
        record->epoch = ++epochs_;
        const auto gone =
            std::min(now + rng_.lognormal(scenario_.pace.acknowledge, 0.8), std::max(now, record->deadline));
        queue_.push(gone, Happening::ranks_left, replica.node, attempt.value, record->epoch);
    } else if (replica.is_told && replica.what == Telling::sleep && !replica.answers) {
        replica.epoch = ++epochs_;
        plan_answer(now + rng_.lognormal(plan_of(*record).sleep, 0.5), *record, replica);
    }
}

}  // namespace stargate::twin
