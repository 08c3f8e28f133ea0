#include "engine/local/supervisor.hpp"

#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>

#include "base/overloaded.hpp"
#include "engine/local/output_log.hpp"
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
      trash_{open_attempts(options.state)} {}

void Supervisor::carry_out(const Command& command) {
    if (std::visit([](const auto& kind) { return kind.node; }, command) != options_.node) return;
    std::visit(overloaded{
                   [this](const RunRanks& run) { run_ranks(run); },
                   [this](const EndRanks& end) { end_ranks(end); },
                   [this](const Forget& what) { forget(what.attempt); },
               },
               command);
}

void Supervisor::run_ranks(const RunRanks& command) {
    const auto known = tracked_.find(command.attempt.value);
    if (known != tracked_.end()) {
        auto& tracked = known->second;
        auto* ended = tracked.last && tracked.is_final ? std::get_if<RanksEnded>(&*tracked.last) : nullptr;
        // Resized in place, and the ranks that stayed have ended meanwhile: the generation that they were to be ends.
        if (ended != nullptr) ended->generation = std::max(ended->generation, command.generation);
        return send(*known, run_of(command, speaker_));
    }
    if (command.first) return launch(command);
    auto& entry = *tracked_.try_emplace(command.attempt.value).first;
    entry.second.was_started = true;
    entry.second.owed.emplace_back(run_of(command, speaker_));
    examine(entry);
}

void Supervisor::launch(const RunRanks& command) {
    auto& entry = *tracked_.try_emplace(command.attempt.value).first;
    const auto refuse = [&](ExitKind kind, std::string why) {
        (void)leave_tombstone(command.attempt.value);  // a refusal that was told must hold
        tell_end(entry, RanksEnded{.attempt = command.attempt,
                                   .node = options_.node,
                                   .generation = command.generation,
                                   .exit = {.kind = kind, .code = 0, .detail = std::move(why)}});
    };
    const auto launch = options_.launch_of(command.job);
    if (!launch) return refuse(ExitKind::refused, launch.error().detail);
    auto spec = spec_of(command, *launch, speaker_);
    spec.boot_id = boot_id_;
    spec.state = options_.state;
    spec.log = output_log_path(options_.state, command.job, command.attempt);
    spec.real_gpus = options_.real_gpus;
    auto shim = spawn_shim(options_.shim, command.attempt.value);
    if (!shim) return refuse(ExitKind::refused, failure("cannot start " + options_.shim));
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
    if (known != tracked_.end()) return send(*known, order);
    auto& entry = *tracked_.try_emplace(command.attempt.value).first;
    if (!leave_tombstone(command.attempt.value)) entry.second.owed.emplace_back(order);
    examine(entry);
}

void Supervisor::forget(AttemptId attempt) {
    foreign_.erase(attempt.value);
    auto& entry = *tracked_.try_emplace(attempt.value).first;
    entry.second.is_forgotten = true;
    entry.second.link.send(Dismiss{speaker_});
    if (entry.second.pid == 0) remove_if_dead(attempt.value);
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
                   [&](const Refused& refused) { tracked.refusal = refused.why; },
                   [&](const Running& running) {
                       tell(entry, RanksRunning{id, options_.node, running.generation});
                   },
                   [&](const Ended& ended) {
                       tracked.is_final = ended.final;
                       tell(entry, report_of(ended, id, options_.node));
                   },
                   [&](const Stepped& stepped) {
                       options_.listener(Progress{id, stepped.step});
                   },
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
    auto& [attempt, tracked] = entry;
    if (tracked.pid != 0) return;  // our own child: its end tells more
    if (tracked.is_forgotten) return remove_if_dead(attempt);
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
