#include "engine/local/supervisor.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/overloaded.hpp"
#include "engine/local/output_log.hpp"
#include "engine/local/translate.hpp"

namespace stargate::local {

namespace {

enum Source : std::uint64_t { from_link = 1, from_process = 2 };  // 0 is the thread's own wake-up
std::uint64_t tag_of(std::uint64_t attempt, Source source) { return attempt << 2 | source; }

constexpr std::int64_t first_look_pause_us = 2'000;
constexpr std::int64_t longest_look_pause_us = 500'000;

bool make_durable_tombstone(int folder, const Speaker& by) {
    return replace_durably(folder, tombstone_name, to_file(Tombstone{by}));
}

}  // namespace

Supervisor::Supervisor(const LocalEngineOptions& options, Fd attempts, int epoll)
    : options_{options},
      speaker_{speaker_of(options.authority)},
      boot_id_{boot_id()},
      attempts_{std::move(attempts)},
      epoll_{epoll},
      trash_{open_attempts(options.state)} {}

void Supervisor::carry_out(const Command& command) {
    std::visit(
        [this](const auto& kind) {
            if (kind.node != options_.node) return;
            if constexpr (std::is_same_v<std::decay_t<decltype(kind)>, RunRanks>) {
                run_ranks(kind);
            } else if constexpr (std::is_same_v<std::decay_t<decltype(kind)>, EndRanks>) {
                end_ranks(kind);
            } else {
                forget(kind.attempt);
            }
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

bool Supervisor::leave_tombstone(std::uint64_t attempt) {
    if (mkdirat(attempts_.get(), attempt_folder_name(attempt).c_str(), 0711) != 0) return false;
    const auto folder = open_attempt(attempts_.get(), attempt);
    return folder && make_durable_tombstone(folder.get(), speaker_) && fsync(attempts_.get()) == 0;
}

void Supervisor::forget(AttemptId attempt) {
    auto& entry = *tracked_.try_emplace(attempt.value).first;
    entry.second.is_forgotten = true;
    entry.second.link.send(Dismiss{speaker_});
    if (entry.second.pid == 0) remove_if_dead(attempt.value);
}

void Supervisor::remove_if_dead(std::uint64_t attempt) {
    const auto folder = open_attempt(attempts_.get(), attempt);
    if (folder) {
        if (!take_lock(folder.get())) return look_later(tracked_[attempt]);
        trash_.take(attempt);
    }
    tracked_.erase(attempt);
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

std::vector<AttemptId> Supervisor::adopt(const std::vector<Believed>& believed) {
    for (const auto& each : believed) {
        const auto [at, is_new] = tracked_.try_emplace(each.attempt.value);
        if (!is_new) continue;
        at->second.was_started = each.started;
        examine(*at);
    }
    std::vector<AttemptId> foreign;
    DIR* listing = fdopendir(openat(attempts_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listing == nullptr) return foreign;
    while (const dirent* found = readdir(listing)) {
        const auto attempt = attempt_of(found->d_name);
        if (attempt && !tracked_.contains(*attempt)) foreign.push_back(AttemptId{*attempt});
    }
    closedir(listing);
    std::sort(foreign.begin(), foreign.end());
    return foreign;
}

void Supervisor::examine(Entry& entry) {
    auto& [attempt, tracked] = entry;
    tracked.look_at_us = INT64_MAX;
    const auto folder = open_attempt(attempts_.get(), attempt);
    const auto id = AttemptId{attempt};
    if (folder) {
        const auto lock = take_lock(folder.get());
        if (lock) return examine_locked(entry, folder.get());
        if (errno == EWOULDBLOCK) return connect(entry, folder.get());
        return look_later(tracked);
    }
    if (errno != ENOENT) return look_later(tracked);
    if (!tracked.refusal.empty()) {
        return tell_end(entry, RanksEnded{.attempt = id,
                                          .node = options_.node,
                                          .exit = {.kind = ExitKind::refused, .code = 0, .detail = tracked.refusal}});
    }
    if (tracked.was_started) {
        return tell_end(entry, AttemptLost{id, options_.node, "its folder is gone from the state folder"});
    }
    tracked_.erase(attempt);  // never begun; its RunRanks is still owed
}

/// We hold the lock: nothing of this attempt is alive, and nothing can begin while we look.
void Supervisor::examine_locked(Entry& entry, int folder) {
    const auto id = AttemptId{entry.first};
    if (const auto record = read_record<ExitRecord>(folder, exit_record_name)) {
        return tell_end(entry, report_of(record->ended, id, options_.node));
    }
    if (has_file(folder, tombstone_name)) {
        return tell_end(
            entry,
            RanksEnded{.attempt = id,
                       .node = options_.node,
                       .exit = {.kind = ExitKind::refused, .code = 0, .detail = "it was ended before it started"},
                       .warned = true});
    }
    // A shim may be on its way to the lock, started by a control plane that has died since. It shall find this.
    if (!make_durable_tombstone(folder, speaker_)) return look_later(entry.second);
    const auto record = read_record<ShimRecord>(folder, shim_record_name);
    const bool other_boot = record && record->boot_id != boot_id_;
    tell_end(entry,
             AttemptLost{id, options_.node,
                         other_boot ? "the machine was restarted" : "its shim has died and nothing of it is alive"});
}

void Supervisor::connect(Entry& entry, int folder) {
    auto& tracked = entry.second;
    tracked.link = ShimLink{connect_to_shim(folder)};
    if (!tracked.link.is_open()) return look_later(tracked);  // about to listen, or about to end
    tracked.look_pause_us = 0;
    tracked.link.send(Ask{speaker_});
    for (const auto& order : std::exchange(tracked.owed, {})) tracked.link.send(order);
    if (tracked.is_forgotten) tracked.link.send(Dismiss{speaker_});
    watch_link(entry, true);
}

void Supervisor::look_later(Tracked& tracked) {
    tracked.look_pause_us = std::clamp(tracked.look_pause_us * 2, first_look_pause_us, longest_look_pause_us);
    tracked.look_at_us = boot_time_us() + tracked.look_pause_us;
    next_look_us_ = std::min(next_look_us_, tracked.look_at_us);
}

int Supervisor::patience_ms() const {
    if (next_look_us_ == INT64_MAX) return -1;
    return static_cast<int>(std::clamp<std::int64_t>((next_look_us_ - boot_time_us() + 999) / 1000, 0, 1000));
}

void Supervisor::act_on_time() {
    if (next_look_us_ == INT64_MAX) return;
    const auto now = boot_time_us();
    if (now < next_look_us_) return;
    next_look_us_ = INT64_MAX;
    std::vector<std::uint64_t> due;
    for (const auto& [attempt, tracked] : tracked_) {
        if (tracked.look_at_us <= now) {
            due.push_back(attempt);
        } else {
            next_look_us_ = std::min(next_look_us_, tracked.look_at_us);
        }
    }
    for (const auto attempt : due) {
        auto& entry = *tracked_.find(attempt);
        entry.second.look_at_us = INT64_MAX;
        if (entry.second.is_forgotten) {
            remove_if_dead(attempt);
        } else {
            examine(entry);
        }
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
