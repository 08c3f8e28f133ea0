#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "engine/local/supervisor.hpp"
#include "engine/local/translate.hpp"

// How the supervisor finds out how an attempt stands when no shim of its own tells: from the attempt's folder.
namespace stargate::local {

namespace {

constexpr std::int64_t first_look_pause_us = 2'000;
constexpr std::int64_t foreign_pause_us = 500'000;  // its GPUs may stay taken this long after its end

/// Whether somebody else's attempt lives, and what it holds. Takes nothing from it and leaves nothing there.
Unknown look_at_stranger(int folder, AttemptId attempt, const std::string& boot_id) {
    const auto record = read_record<ShimRecord>(folder, shim_record_name);
    const bool is_locked = !take_lock(folder);
    if (!is_locked && !(record && has_living_init(*record, boot_id))) return {attempt, false, 0};
    if (!record) return {attempt, true, 0};
    return {attempt, true, record->gpus, MilliCpus{record->milli_cpus}, Bytes{record->memory}};
}

}  // namespace

std::vector<Unknown> Supervisor::adopt(const std::vector<Believed>& believed) {
    std::set<std::uint64_t> ours;  // also those whose shim is still on its way to its folder
    for (const auto& each : believed) {
        ours.insert(each.attempt.value);
        const auto [at, is_new] = tracked_.try_emplace(each.attempt.value);
        if (!is_new) continue;
        at->second.was_started = each.started;
        examine(*at);
    }
    foreign_.clear();
    look_at_foreign_us_ = INT64_MAX;
    std::vector<Unknown> unknown;
    DIR* listing = fdopendir(openat(attempts_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listing == nullptr) return unknown;
    while (const dirent* found = readdir(listing)) {
        const auto attempt = attempt_of(found->d_name);
        if (!attempt || tracked_.contains(*attempt) || ours.contains(*attempt)) continue;
        if (was_dismissed(*attempt)) {
            trash_.take(*attempt);
        } else if (const auto folder = open_attempt(attempts_.get(), *attempt)) {
            foreign_[*attempt] = look_at_stranger(folder.get(), AttemptId{*attempt}, boot_id_);
        }
    }
    closedir(listing);
    for (const auto& [attempt, found] : foreign_) {
        unknown.push_back(found);
        if (found.is_alive) look_at_foreign_us_ = boot_time_us() + foreign_pause_us;
    }
    return unknown;
}

void Supervisor::look_at_foreign() {
    ForeignFound left{options_.node, 0, {}, 0};
    bool has_ended = false;
    look_at_foreign_us_ = INT64_MAX;
    for (auto& [attempt, found] : foreign_) {
        left.attempts.push_back(found.attempt);
        if (!found.is_alive) continue;
        const auto folder = open_attempt(attempts_.get(), attempt);
        const auto now =
            folder ? look_at_stranger(folder.get(), found.attempt, boot_id_) : Unknown{found.attempt, false, 0};
        has_ended = has_ended || now != found;
        found = now;
        left.gpus |= found.gpus;
        left.cpus += found.cpus;
        left.memory += found.memory;
        left.running += found.is_alive ? 1 : 0;
        if (found.is_alive) look_at_foreign_us_ = boot_time_us() + foreign_pause_us;
    }
    if (has_ended) options_.listener(std::move(left));
}

bool Supervisor::was_dismissed(std::uint64_t attempt) const {
    const auto folder = open_attempt(attempts_.get(), attempt);
    return folder && has_file(folder.get(), dismissed_name) && take_lock(folder.get());
}

void Supervisor::examine(Entry& entry) {
    auto& [attempt, tracked] = entry;
    tracked.look_at_us = INT64_MAX;
    const auto folder = open_attempt(attempts_.get(), attempt);
    if (folder) {
        const auto lock = take_lock(folder.get());
        if (!lock && errno == EWOULDBLOCK) return connect(entry, folder.get());
        // A child of ours that lives is about to take the lock, or about to end.
        if (!lock || tracked.pid != 0) return look_later(tracked);
        return examine_locked(entry);
    }
    if (errno != ENOENT || tracked.pid != 0) return look_later(tracked);
    if (tracked.wants_room) return launch(entry);
    if (!tracked.refusal.empty()) return refuse(entry, tracked.refusal);
    if (tracked.was_started) {
        return tell_end(entry,
                        AttemptLost{AttemptId{attempt}, options_.node, "its folder is gone from the state folder"});
    }
    if (!tracked.owed.empty()) {  // ended before its start, but there was no room for the tombstone
        return leave_tombstone(attempt) ? examine(entry) : look_later(tracked);
    }
    tracked_.erase(attempt);  // never begun; its RunRanks is still owed
}

/// We hold the lock: nothing of this attempt can begin while we look.
void Supervisor::examine_locked(Entry& entry) {
    const auto id = AttemptId{entry.first};
    const AttemptRecords records{options_.state, entry.first};
    if (const auto record = records.end()) {
        auto report = report_of(record->ended, id, options_.node);
        report.generation = std::max(report.generation, entry.second.generation);
        return tell_end(entry, std::move(report));
    }
    const auto record = records.shim();
    if (record && has_living_init(*record, boot_id_)) return look_later(entry.second);  // its ranks are about to die
    if (records.is_buried()) {
        // Left when an earlier control plane found it dead, and died before that was written down.
        if (entry.second.was_started) {
            return tell_end(entry, AttemptLost{id, options_.node, "its shim has died and nothing of it is alive"});
        }
        return tell_end(
            entry,
            RanksEnded{.attempt = id,
                       .node = options_.node,
                       .generation = entry.second.generation,
                       .exit = {.kind = ExitKind::refused, .code = 0, .detail = "it was ended before it started"},
                       .warned = true});
    }
    // A shim may be on its way to the lock, started by a control plane that has died since. It shall find this.
    if (!bury(entry.first)) return look_later(entry.second);
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

void Supervisor::look_later(Tracked& tracked, std::int64_t longest_pause_us) {
    tracked.look_pause_us = std::clamp(tracked.look_pause_us * 2, first_look_pause_us, longest_pause_us);
    tracked.look_at_us = boot_time_us() + tracked.look_pause_us;
    next_look_us_ = std::min(next_look_us_, tracked.look_at_us);
}

int Supervisor::patience_ms() const {
    const auto next = std::min(next_look_us_, look_at_foreign_us_);
    if (next == INT64_MAX) return -1;
    return static_cast<int>(std::clamp<std::int64_t>((next - boot_time_us() + 999) / 1000, 0, 1000));
}

void Supervisor::act_on_time() {
    const auto now = boot_time_us();
    if (look_at_foreign_us_ <= now) look_at_foreign();
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

bool Supervisor::bury(std::uint64_t attempt) {
    return take_office() && AttemptRecords{options_.state, attempt}.bury(speaker_);
}

bool Supervisor::leave_tombstone(std::uint64_t attempt) {
    AttemptRecords records{options_.state, attempt};
    if (!take_office() || !records.claim()) return false;
    if (records.bury(speaker_) && records.keep_claim()) return true;
    // An empty folder would tell of a shim that has died.
    unlinkat(attempts_.get(), attempt_folder_name(attempt).c_str(), AT_REMOVEDIR);
    return false;
}

void Supervisor::remove_if_dead(std::uint64_t attempt) {
    const auto folder = open_attempt(attempts_.get(), attempt);
    auto& entry = *tracked_.try_emplace(attempt).first;
    if (folder) {
        if (!take_lock(folder.get())) {
            if (!entry.second.link.is_open()) return connect(entry, folder.get());  // to dismiss it
            return look_later(entry.second);
        }
        trash_.take(attempt);
    }
    if (entry.second.pid != 0) return;  // to be reaped first; then this is called again
    tracked_.erase(attempt);
}

}  // namespace stargate::local
