#include "twin/machines.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/overloaded.hpp"

namespace stargate::twin {

namespace {
constexpr std::int64_t work_in_a_step = 1'000'000;

template <class Visit>
void for_each_gpu(GpuMask gpus, Visit visit) {
    for (; gpus != 0; gpus &= gpus - 1) visit(static_cast<std::size_t>(std::countr_zero(gpus)));
}

GpuMask lowest_of(GpuMask mask, std::int32_t count) {
    GpuMask taken = 0;
    for (; count > 0 && mask != 0; --count, mask &= mask - 1) taken |= mask & (~mask + 1);
    return taken;
}
}  // namespace

Machines::Machines(EventQueue& queue, const Scenario& scenario, std::uint64_t seed, Reported report, Broken broken,
                   Cut cut)
    : queue_{queue},
      scenario_{scenario},
      rng_{seed},
      report_{std::move(report)},
      broken_{std::move(broken)},
      cut_{std::move(cut)},
      nodes_(1) {}

NodeId Machines::add(const NodeShape& shape) {
    Machine machine;
    machine.shape = machine.as_built = shape;
    const auto gpus = static_cast<std::size_t>(shape.gpus.count());
    machine.holders.resize(gpus);
    machine.shared.resize(gpus);
    machine.shared_by.resize(gpus);
    nodes_.push_back(std::move(machine));
    return NodeId{nodes_.size() - 1};
}

std::string Machines::boot_id(NodeId node) const { return fmt::format("{}-{}", node.value, at(node).boot); }

void Machines::attempt_ended(AttemptId attempt) {
    if (ended_.size() <= attempt.value) ended_.resize(attempt.value * 2 + 64);
    ended_[attempt.value] = true;
    gangs_.erase(attempt.value);
}

bool Machines::has_ended(AttemptId attempt) const { return attempt.value < ended_.size() && ended_[attempt.value]; }

Machines::Record* Machines::find(NodeId node, AttemptId attempt) {
    for (auto& record : at(node).records) {
        if (record.attempt == attempt) return &record;
    }
    return nullptr;
}

/// Whoever has spoken with a higher term, or in another store's name, has made this one's word void.
bool Machines::obeys(NodeId node, const Authority& from) {
    auto& highest = at(node).authority;
    const bool is_known = highest.term == 0 || highest.incarnation == from.incarnation;
    if (!is_known || from.term < highest.term) return false;
    highest = from;
    return true;
}

void Machines::carry_out(const Authority& from, Instant now, const Command& command) {
    const auto node = std::visit([](const auto& what) { return what.node; }, command);
    if (!obeys(node, from)) {
        ++refused_commands_;
        return;
    }
    std::visit(overloaded{[&](const RunRanks& what) { run(now, what); }, [&](const EndRanks& what) { end(now, what); },
                          [&](const Forget& what) { forget(what); }, [&](const TellReplica& what) { obey(now, what); }},
               command);
}

/// Tells how the attempt stands here. Nothing is told of ranks that are still being started or are leaving: it will be.
void Machines::tell(NodeId node, const Record& record) {
    switch (record.standing) {
        case Standing::running:
            return report_(node, RanksRunning{record.attempt, node, record.generation});
        case Standing::survivors:
        case Standing::tombstone:
        case Standing::ended:
            return report_(node, RanksEnded{record.attempt, node, record.generation, record.exit, record.warned,
                                            record.step, record.standing == Standing::survivors ? record.keep : 0});
        case Standing::lost:
            return report_(node, AttemptLost{record.attempt, node, "its folder has no end and nobody holds its lock"});
        case Standing::starting:
        case Standing::leaving:
            return;
    }
}

void Machines::run(Instant now, const RunRanks& command) {
    auto* record = find(command.node, command.attempt);
    if (record == nullptr) {
        if (!command.first) return report_(command.node, AttemptLost{command.attempt, command.node, "no trace of it"});
        if (has_ended(command.attempt)) broken_(fmt::format("ended attempt {} was started", command.attempt.value));
        Record fresh;
        fresh.attempt = command.attempt;
        fresh.job = command.job;
        ++starts_;
        at(command.node).records.push_back(fresh);
        return start_ranks(now, at(command.node).records.back(), command);
    }
    if (command.generation <= record->generation) {
        if (command.generation == record->generation) tell(command.node, *record);
        return;
    }
    if (command.first && record->standing != Standing::tombstone) {  // its folder can only be made once
        return broken_(fmt::format("attempt {} was told to begin on node {}, where its generation {} was",
                                   command.attempt.value, command.node.value, record->generation));
    }
    switch (record->standing) {
        case Standing::starting:
        case Standing::leaving:
            return broken_(fmt::format("attempt {} was told to run while its ranks come or go", command.attempt.value));
        case Standing::running:
        case Standing::survivors: {
            const auto* truth = truth_of(record->job);
            if (truth == nullptr || !truth->in_place) {
                return broken_(fmt::format("attempt {} runs and was told to run", command.attempt.value));
            }
            return start_ranks(now, *record, command);
        }
        case Standing::ended:
            if (!record->warned) {  // it ended by itself meanwhile: this generation never runs
                record->generation = command.generation;
                return tell(command.node, *record);
            }
            return start_ranks(now, *record, command);
        case Standing::tombstone:
            return start_ranks(now, *record, command);
        case Standing::lost:
            return tell(command.node, *record);
    }
}

void Machines::start_ranks(Instant now, Record& record, const RunRanks& command) {
    const auto node = command.node;
    const auto* truth = truth_of(command.job);
    if (truth == nullptr)
        return broken_(fmt::format("job {} was started, but is over or never was", command.job.value));
    if ((record.gpus & ~command.gpus) != 0)
        broken_(fmt::format("attempt {} lost GPUs that it computes on", command.attempt.value));
    const auto added = command.gpus & ~record.gpus;
    record.generation = command.generation;
    record.world = command.world_size;
    record.ranks = command.ranks;
    record.standing = Standing::starting;
    record.warned = false;
    record.deadline = never;
    record.keep = 0;
    record.exit = {};
    record.epoch = ++epochs_;
    hold(node, record, added);
    record.gpus = command.gpus;
    auto& gang = gangs_[command.attempt.value];
    if (gang.generation != command.generation) {
        // In place, the work of the generation before counts up to now.
        if (gang.whole) gang_breaks(now, command.attempt, gang.generation, command.job, true);
        gang = {};
        gang.generation = command.generation;
        gang.world = command.world_size;
    }
    if (gang.world != command.world_size)
        broken_(fmt::format("the ranks of attempt {} were told two world sizes", command.attempt.value));
    gang.nodes.push_back(node);
    queue_.push(now + rng_.lognormal(scenario_.pace.start, 0.5), Happening::ranks_up, node, record.attempt.value,
                record.epoch);
}

void Machines::hold(NodeId node, const Record& record, GpuMask gpus) {
    auto& machine = at(node);
    const auto* truth = truth_of(record.job);
    for_each_gpu(gpus, [&](std::size_t gpu) {
        if (gpu >= machine.holders.size()) return broken_(fmt::format("node {} has no GPU {}", node.value, gpu));
        if (truth->share > 0) {
            if (machine.holders[gpu] || machine.shared[gpu] + truth->share > 1000 ||
                (machine.shared[gpu] > 0 && machine.shared_by[gpu] != truth->tenant)) {
                broken_(
                    fmt::format("GPU {} of node {} was shared beyond what it is, or between tenants", gpu, node.value));
            }
            machine.shared[gpu] += truth->share;
            machine.shared_by[gpu] = truth->tenant;
            return;
        }
        if (machine.holders[gpu] || machine.shared[gpu] > 0) {
            broken_(fmt::format("GPU {} of node {} has two holders of compute: attempts {} and {}", gpu, node.value,
                                machine.holders[gpu].value, record.attempt.value));
        }
        machine.holders[gpu] = record.attempt;
    });
}

void Machines::let_go(NodeId node, const Record& record, GpuMask gpus) {
    auto& machine = at(node);
    const auto* truth = truth_of(record.job);
    for_each_gpu(gpus, [&](std::size_t gpu) {
        if (truth != nullptr && truth->share > 0) {
            machine.shared[gpu] -= truth->share;
        } else if (machine.holders[gpu] == record.attempt) {
            machine.holders[gpu] = {};
        }
    });
}

/// The speed of a gang: linear in its GPUs.
std::int32_t Machines::speed_of(const Truth& truth, const Gang& gang) {
    return truth.share > 0 ? 1 : std::max(1, gang.world);
}

void Machines::ranks_up(Instant now, const Event& event) {
    auto* record = find(event.node, AttemptId{event.a});
    if (record == nullptr || record->epoch != event.b) return;
    const auto* truth = truth_of(record->job);
    if (truth == nullptr) return;
    if (truth->never_starts)
        return all_gone(now, event.node, *record, {ExitKind::could_not_start, 127, "its program is not there"});
    if (rng_.chance(scenario_.faults.start_refused)) {
        ++refused_starts_;
        return all_gone(now, event.node, *record, {ExitKind::refused, 0, "its sandbox could not be built"});
    }
    record->standing = Standing::running;
    tell(event.node, *record);
    if (truth->service >= 0) return replica_up(now, event.node, *record);
    auto& gang = gangs_[record->attempt.value];
    if (gang.generation != record->generation) return;
    gang.up += record->ranks;
    if (gang.up < gang.world) return;
    gang.whole = true;
    gang.since = now;
    gang.epoch = ++epochs_;
    const auto left = Duration{std::max<std::int64_t>(1, (truth->work - truth->done) / speed_of(*truth, gang))};
    queue_.push(now + left, Happening::gang_done, {}, event.a, gang.epoch);
}

/// Some ranks of a gang are gone or leave: what it had done counts if it could write a checkpoint, else half of it.
void Machines::gang_breaks(Instant now, AttemptId attempt, std::uint32_t generation, JobId job, bool checkpointed) {
    const auto found = gangs_.find(attempt.value);
    if (found == gangs_.end() || found->second.generation != generation || !found->second.whole) return;
    auto& gang = found->second;
    gang.whole = false;
    gang.epoch = ++epochs_;
    if (auto* truth = truths_.find(job)) {
        const auto ran = (now - gang.since).count() * speed_of(*truth, gang);
        truth->done = std::min(truth->work - 1, truth->done + (checkpointed ? ran : ran / 2));
    }
}

void Machines::gang_done(Instant now, const Event& event) {
    const auto found = gangs_.find(event.a);
    if (found == gangs_.end() || found->second.epoch != event.b || !found->second.whole) return;
    found->second.whole = false;
    for (const auto node : found->second.nodes) {
        const auto* record = find(node, AttemptId{event.a});
        if (record == nullptr) continue;
        // The ranks of a gang end within a moment of each other, in any order.
        const auto apart =
            found->second.nodes.size() > 1 ? Duration{static_cast<std::int64_t>(rng_.below(2000))} : Duration{};
        queue_.push(now + apart, Happening::ranks_exit, node, event.a, record->epoch);
    }
}

void Machines::ranks_exit(Instant now, const Event& event) {
    auto* record = find(event.node, AttemptId{event.a});
    if (record == nullptr || record->epoch != event.b || record->standing == Standing::lost) return;
    const auto* truth = truth_of(record->job);
    if (truth == nullptr) return;
    record->warned = false;
    all_gone(now, event.node, *record,
             {ExitKind::exited, truth->exit_code, truth->exit_code == 0 ? "" : "exit status 1"});
}

void Machines::all_gone(Instant now, NodeId node, Record& record, Exit exit) {
    gang_breaks(now, record.attempt, record.generation, record.job, record.warned);
    let_go(node, record, record.gpus);
    record.gpus = 0;
    record.standing = Standing::ended;
    replica_gone(record.attempt);
    record.exit = std::move(exit);
    record.epoch = ++epochs_;
    if (const auto* truth = truth_of(record.job)) record.step = truth->done / work_in_a_step;
    tell(node, record);
}

void Machines::end(Instant now, const EndRanks& command) {
    auto* record = find(command.node, command.attempt);
    if (record == nullptr) {
        if (has_ended(command.attempt)) return;  // its end is committed: nothing is left to say
        Record tombstone;
        tombstone.attempt = command.attempt;
        tombstone.generation = command.generation;
        tombstone.standing = Standing::tombstone;
        tombstone.warned = true;
        tombstone.exit = {ExitKind::killed, 0, "told to end before it started"};
        at(command.node).records.push_back(tombstone);
        return tell(command.node, at(command.node).records.back());
    }
    if (command.generation < record->generation) return;
    switch (record->standing) {
        case Standing::tombstone:
        case Standing::ended:
            if (command.generation > record->generation) {  // between two generations: the next one never runs
                record->generation = command.generation;
                record->warned = true;
                record->exit = {ExitKind::killed, 0, "told to end before it started"};
            }
            return tell(command.node, *record);
        case Standing::lost:
            return tell(command.node, *record);
        case Standing::survivors:
            if (command.keep > 0 && command.generation == record->generation) return tell(command.node, *record);
            break;
        case Standing::leaving:
            // Told again: what stays may become less, and the time is never more.
            record->deadline = std::min(record->deadline, command.deadline);
            record->keep = std::min(record->keep, command.keep);
            break;
        case Standing::starting:
        case Standing::running:
            break;
    }
    if (record->standing != Standing::leaving) {
        record->keep = command.keep;
        record->deadline = command.deadline;
        record->standing = Standing::leaving;
        record->warned = true;
    }
    record->generation = command.generation;
    record->epoch = ++epochs_;
    auto gone = std::min(now + rng_.lognormal(scenario_.pace.acknowledge, 0.8), std::max(now, record->deadline));
    if (const auto replica = replicas_.find(command.attempt); replica != replicas_.end()) {
        replica->second.serves = false;
        if (replica->second.streams > 0) gone = std::max(now, record->deadline);  // unless they end before
    }
    queue_.push(gone, Happening::ranks_left, command.node, record->attempt.value, record->epoch);
}

void Machines::ranks_left(Instant now, const Event& event) {
    auto* record = find(event.node, AttemptId{event.a});
    if (record == nullptr || record->epoch != event.b) return;
    const bool killed = now >= record->deadline;
    if (!killed && streams_of(record->attempt) > 0) {
        return broken_(fmt::format("replica {} left before its streams and its deadline", record->attempt.value));
    }
    Exit exit = killed ? Exit{ExitKind::killed, 9, "killed at the deadline"} : Exit{ExitKind::exited, 0, ""};
    if (record->keep == 0) return all_gone(now, event.node, *record, std::move(exit));
    gang_breaks(now, record->attempt, record->generation, record->job, !killed);
    const auto staying = lowest_of(record->gpus, record->keep);
    let_go(event.node, *record, record->gpus & ~staying);
    record->gpus = staying;
    record->standing = Standing::survivors;
    record->exit = std::move(exit);
    if (const auto* truth = truth_of(record->job)) record->step = truth->done / work_in_a_step;
    tell(event.node, *record);
}

void Machines::forget(const Forget& command) {
    auto& records = at(command.node).records;
    const auto found = std::find_if(records.begin(), records.end(),
                                    [&](const Record& record) { return record.attempt == command.attempt; });
    if (found == records.end()) return;
    if (found->gpus != 0 || !found->is_over()) {
        broken_(fmt::format("attempt {} is to be forgotten on node {} while its ranks are there", command.attempt.value,
                            command.node.value));
        return;
    }
    *found = std::move(records.back());
    records.pop_back();
}

std::vector<AttemptId> Machines::adopt(const Authority& by, NodeId node, const std::vector<Believed>& believed) {
    if (!obeys(node, by)) broken_(fmt::format("node {} refused the control plane in office", node.value));
    for (const auto& one : believed) {
        if (const auto* record = find(node, one.attempt)) {
            tell(node, *record);
        } else if (one.started) {
            report_(node, AttemptLost{one.attempt, node, "no trace of it"});
        }
    }
    std::vector<AttemptId> unknown;
    for (const auto& record : at(node).records) {
        const auto is_known = [&](const Believed& one) { return one.attempt == record.attempt; };
        if (std::none_of(believed.begin(), believed.end(), is_known)) unknown.push_back(record.attempt);
    }
    return unknown;
}

bool Machines::was_here_before(NodeId node, AttemptId attempt, std::uint32_t generation) const {
    const auto& records = at(node).records;
    return std::any_of(records.begin(), records.end(), [&](const Record& record) {
        return record.attempt == attempt && record.standing == Standing::ended && record.generation < generation;
    });
}

/// What `$STARGATE_PROGRESS` says: how far it would come by now.
void Machines::tell_progress(Instant now, NodeId node, const Record& record) {
    const auto gang = gangs_.find(record.attempt.value);
    const auto* truth = truth_of(record.job);
    if (truth == nullptr || gang == gangs_.end() || !gang->second.whole) return;
    const auto ran = (now - gang->second.since).count() * speed_of(*truth, gang->second);
    report_(node, Progress{record.attempt, (truth->done + ran / 2) / work_in_a_step});
}

void Machines::reconcile(Instant now, NodeId node) {
    for (const auto& record : at(node).records) {
        tell(node, record);
        if (record.standing == Standing::running) tell_progress(now, node, record);
        const auto replica = replicas_.find(record.attempt);
        if (replica != replicas_.end()) answer(node, record, replica->second);
    }
}

void Machines::crash(Instant now, NodeId node) {
    auto& machine = at(node);
    for (auto& record : machine.records) {
        if (record.is_over()) continue;
        gang_breaks(now, record.attempt, record.generation, record.job, false);
        let_go(node, record, record.gpus);
        record.gpus = 0;
        record.standing = Standing::lost;
        record.epoch = ++epochs_;
        replica_gone(record.attempt);
    }
}

void Machines::boot(NodeId node) { ++at(node).boot; }

void Machines::reshape(NodeId node) {
    auto& machine = at(node);
    if (machine.shape != machine.as_built) {
        machine.shape = machine.as_built;
    } else {
        machine.shape.cpus = MilliCpus{machine.shape.cpus.count() / 4 * 3};
        machine.shape.memory = Bytes{machine.shape.memory.count() / 4 * 3};
    }
}

std::optional<std::string> Machines::broken() const {
    for (std::size_t id = 1; id < nodes_.size(); ++id) {
        for (const auto& record : nodes_[id].records) {
            if (!record.is_over() && has_ended(record.attempt)) {
                return fmt::format("ranks of attempt {}, which ended, live on node {}", record.attempt.value, id);
            }
        }
    }
    return std::nullopt;
}

}  // namespace stargate::twin
