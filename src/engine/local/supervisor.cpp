#include "engine/local/supervisor.hpp"

#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>

#include "base/file.hpp"
#include "base/overloaded.hpp"
#include "engine/local/output_log.hpp"
#include "engine/local/port_holder.hpp"
#include "engine/local/translate.hpp"

namespace stargate::local {

namespace {

enum Source : std::uint64_t { from_link = 1, from_process = 2 };  // 0 is the thread's own wake-up
std::uint64_t tag_of(std::uint64_t attempt, Source source) { return attempt << 2 | source; }

}  // namespace

Supervisor::Supervisor(const LocalEngineOptions& options, Fd attempts, int epoll)
    : options_{options},
      speaker_{speaker_of(options.authority)},
      boot_id_{boot_id()},
      attempts_{std::move(attempts)},
      epoll_{epoll},
      trash_{open_attempts(options.state)},
      zygote_{options.shim} {
    (void)take_office();  // tried again when it matters, should the disk be full
}

Result<void> Supervisor::take_office() {
    if (has_office_) return {};
    const auto written = write_durably(options_.state + "/" + authority_name, to_file(AuthorityRecord{speaker_}));
    has_office_ = written.has_value();
    return written;
}

void Supervisor::carry_out(const Command& command) {
    if (std::visit([](const auto& kind) { return kind.node; }, command) != options_.node) return;
    std::visit(overloaded{
                   [this](const RunRanks& run) { run_ranks(run); }, [this](const EndRanks& end) { end_ranks(end); },
                   [this](const Forget& what) { forget(what.attempt); },
                   [](const TellReplica&) {},  // who speaks with replicas does
               },
               command);
}

void Supervisor::run_ranks(const RunRanks& command) {
    const auto known = tracked_.find(command.attempt.value);
    if (known != tracked_.end()) {
        name_generation(known->second, command.generation);
        if (known->second.wants_room) return;  // it is going to be started already
        return send(*known, run_of(command, speaker_));
    }
    auto& entry = *tracked_.try_emplace(command.attempt.value).first;
    name_generation(entry.second, command.generation);
    if (command.first) {
        entry.second.start = command;
        return launch(entry);
    }
    entry.second.was_started = true;
    entry.second.owed.emplace_back(run_of(command, speaker_));
    examine(entry);
}

/// The end of the last generation came before its successor had begun: that is the one that State waits for.
void Supervisor::name_generation(Tracked& tracked, std::uint32_t generation) {
    tracked.generation = std::max(tracked.generation, generation);
    auto* ended = tracked.last && tracked.is_final ? std::get_if<RanksEnded>(&*tracked.last) : nullptr;
    if (ended != nullptr) ended->generation = std::max(ended->generation, tracked.generation);
}

void Supervisor::refuse(Entry& entry, std::string why) {
    (void)leave_tombstone(entry.first);  // a refusal that was told must hold
    entry.second.wants_room = false;
    entry.second.look_at_us = INT64_MAX;
    tell_end(entry, RanksEnded{.attempt = AttemptId{entry.first},
                               .node = options_.node,
                               .generation = entry.second.generation,
                               .exit = {.kind = ExitKind::refused, .code = 0, .detail = std::move(why)},
                               .warned = entry.second.was_told_to_end});
}

/// A full disk or a lack of descriptors is no failure of the job, nor of what it would start next: nothing is reported,
/// and its start is tried again until it is told to end. The core's deadline for gangs bounds that.
void Supervisor::wait_for_room(Entry& entry, const std::string& why) {
    auto& tracked = entry.second;
    tracked.refusal = why;
    if (tracked.was_told_to_end) return refuse(entry, "told to end before it could start: " + why);
    if (!std::exchange(tracked.wants_room, true) || tracked.look_pause_us == 0) {
        const auto line = "stargate: attempt " + std::to_string(entry.first) + " waits: " + why + "\n";
        std::fputs(line.c_str(), stderr);
    }
    constexpr std::int64_t longest_pause_us = 2'000'000;
    look_later(tracked, longest_pause_us);
}

void Supervisor::launch(Entry& entry) {
    const auto& command = *entry.second.start;
    if (const auto taken = take_office(); !taken) return wait_for_room(entry, taken.error().detail);
    const auto launch = options_.launch_of(command.job);
    if (!launch) return refuse(entry, launch.error().detail);
    // A replica's port is State's to choose, and others of this machine do not know of that. The next attempt has
    // another one.
    if (const auto taken = command.port == 0 ? Result<std::vector<ListeningSocket>>{} : listening_on(command.port);
        taken && !taken->empty()) {
        return refuse(entry, words_of(taken->front(), command.port) + "; the next attempt has another port");
    }
    auto spec = spec_of(command, *launch, speaker_);
    spec.open_files = options_.open_files;
    spec.boot_id = boot_id_;
    spec.state = options_.state;
    spec.log = output_log_path(options_.state, command.job, command.attempt);
    spec.real_gpus = options_.real_gpus;
    auto shim = zygote_.spawn_shim(command.attempt.value);
    if (!shim) {
        const bool may_pass = is_shortage(errno) || errno == EAGAIN;
        auto why = failure("cannot start " + options_.shim);
        return may_pass ? wait_for_room(entry, why) : refuse(entry, std::move(why));
    }
    auto& tracked = entry.second;
    tracked.link = std::move(shim->link);
    tracked.process = std::move(shim->process);
    tracked.pid = shim->pid;
    tracked.refusal = "its shim ended before it had begun";  // unless it says why, or has begun
    tracked.link.send(std::move(spec));
    watch_link(entry, true);
    watch(tracked.process.get(), tag_of(entry.first, from_process), EPOLLIN, true);
}

void Supervisor::end_ranks(const EndRanks& command) {
    const auto known = tracked_.find(command.attempt.value);
    const auto order = end_of(command, options_.now(), speaker_);
    if (known != tracked_.end()) {
        auto& tracked = known->second;
        name_generation(tracked, command.generation);
        tracked.was_told_to_end = true;
        if (tracked.wants_room && tracked.pid == 0) return wait_for_room(*known, tracked.refusal);
        return send(*known, order);
    }
    auto& entry = *tracked_.try_emplace(command.attempt.value).first;
    name_generation(entry.second, command.generation);
    if (!leave_tombstone(command.attempt.value)) entry.second.owed.emplace_back(order);
    examine(entry);
}

void Supervisor::forget(AttemptId attempt) {
    typing_.forget(attempt.value);
    foreign_.erase(attempt.value);
    auto& entry = *tracked_.try_emplace(attempt.value).first;
    entry.second.is_forgotten = true;
    entry.second.link.send(Dismiss{speaker_});
    if (entry.second.pid == 0 || !entry.second.link.is_open()) remove_if_dead(attempt.value);
}

void Supervisor::send(Entry& entry, const Order& order) {
    auto& tracked = entry.second;
    if (tracked.is_final) {
        options_.listener(*tracked.last);
    } else if (tracked.link.is_open()) {
        tracked.link.send(order);
        if (tracked.link.has_rest()) watch_link(entry, false);
    } else {
        tracked.owed.push_back(order);
    }
}

void Supervisor::type(AttemptId attempt, const std::string& bytes) {
    if (!send_if_linked(attempt, Typed{speaker_, bytes})) typing_.forget(attempt.value);
}

void Supervisor::set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) {
    (void)send_if_linked(attempt, Window{speaker_, rows, columns});
}

bool Supervisor::send_if_linked(AttemptId attempt, const Order& order) {
    const auto found = tracked_.find(attempt.value);
    if (found == tracked_.end() || found->second.is_final || !found->second.link.is_open()) return false;
    send(*found, order);
    return true;
}

void Supervisor::take_ready(std::uint64_t tag, std::uint32_t events) {
    const auto found = tracked_.find(tag >> 2);
    if (found == tracked_.end()) return;
    auto& entry = *found;
    if ((tag & 3U) == from_process) return process_ended(entry);
    if (!entry.second.link.is_open()) return;
    if ((events & EPOLLOUT) != 0) {
        entry.second.link.send_rest();
        if (!entry.second.link.has_rest()) watch_link(entry, false);
    }
    take_answers(entry);
    if (!entry.second.link.is_open()) link_closed(entry);
}

void Supervisor::take_answers(Entry& entry) {
    for (const auto& answer : entry.second.link.receive()) take(entry, answer);
}

void Supervisor::take(Entry& entry, const Answer& answer) {
    auto& tracked = entry.second;
    const auto id = AttemptId{entry.first};
    std::visit(overloaded{
                   [&](const Refused& refused) {
                       tracked.refusal = refused.why;
                       tracked.wants_room = refused.is_shortage;
                   },
                   [&](const Running& running) {
                       tracked.wants_room = false;
                       tell(entry, RanksRunning{id, options_.node, running.generation});
                   },
                   [&](const Ended& ended) {
                       tracked.wants_room = false;
                       tracked.is_final = ended.final;
                       auto report = report_of(ended, id, options_.node);
                       // Nothing follows a final end: it ends what was ordered while it was on its way, too.
                       if (ended.final) report.generation = std::max(report.generation, tracked.generation);
                       tell(entry, std::move(report));
                   },
                   [&](const Stepped& stepped) {
                       options_.listener(Progress{id, stepped.step});
                   },
                   [&](const Taken& taken) { typing_.give_back(entry.first, taken.bytes); },
                   [&](const Outranked&) {},  // another control plane leads: what it brings about is not ours to tell
               },
               answer);
}

void Supervisor::process_ended(Entry& entry) {
    auto& [attempt, tracked] = entry;
    if (tracked.pid == 0) return;
    take_answers(entry);
    waitpid(tracked.pid, nullptr, 0);
    tracked.pid = 0;
    tracked.process.reset();
    tracked.link.close();
    link_closed(entry);
}

void Supervisor::link_closed(Entry& entry) {
    typing_.forget(entry.first);
    auto& [attempt, tracked] = entry;
    // Our own child still lives, or its end is about to be told. It has cut us off: it is found again by its folder.
    if (tracked.pid != 0) {
        if (!tracked.is_final || tracked.is_forgotten) look_later(tracked);
        return;
    }
    if (tracked.is_forgotten) return remove_if_dead(attempt);
    if (tracked.wants_room) return wait_for_room(entry, tracked.refusal);
    if (!tracked.is_final) examine(entry);
}

void Supervisor::tell(Entry& entry, Report report) {
    entry.second.last = report;
    options_.listener(std::move(report));
}

void Supervisor::tell_end(Entry& entry, Report report) {
    entry.second.is_final = true;
    tell(entry, std::move(report));
}

void Supervisor::watch(int descriptor, std::uint64_t tag, std::uint32_t events, bool is_new) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    epoll_ctl(epoll_, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, descriptor, &event);
}

void Supervisor::watch_link(const Entry& entry, bool is_new) {
    const auto& link = entry.second.link;
    const std::uint32_t events = link.has_rest() ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (link.is_open()) watch(link.descriptor(), tag_of(entry.first, from_link), events, is_new);
}

}  // namespace stargate::local
