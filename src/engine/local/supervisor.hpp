#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/local/attempt_records.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/shim_link.hpp"
#include "engine/local/trash.hpp"
#include "engine/local/zygote.hpp"

namespace stargate::local {

/// Bytes that were typed at each terminal and have not been taken there: bounded, wherever they lie. From any thread.
class Typing {
public:
    [[nodiscard]] bool take(std::uint64_t attempt, std::size_t bytes) {
        const std::lock_guard guard{mutex_};
        auto& held = held_[attempt];
        if (held > 0 && held + bytes > most) return false;
        held += bytes;
        return true;
    }
    void give_back(std::uint64_t attempt, std::uint64_t bytes) {
        const std::lock_guard guard{mutex_};
        const auto found = held_.find(attempt);
        if (found == held_.end()) return;  // typed in the life of an earlier control plane
        found->second -= std::min<std::size_t>(found->second, bytes);
        if (found->second == 0) held_.erase(found);
    }
    void forget(std::uint64_t attempt) {
        const std::lock_guard guard{mutex_};
        held_.erase(attempt);
    }

private:
    static constexpr std::size_t most = 64U << 10;
    std::mutex mutex_;
    std::map<std::uint64_t, std::size_t> held_;  // by attempt
};

/// The local engine's work, on one thread: follows the shim of every attempt that it has been told of. Says what it
/// wants to be woken for by epoll; holds no thread and no lock.
class Supervisor {
public:
    /// attempts  STATE/attempts, opened
    Supervisor(const LocalEngineOptions& options, Fd attempts, int epoll);

    void carry_out(const Command& command);
    /// To attempts whose launch has a terminal alone.
    void type(AttemptId attempt, const std::string& bytes);
    void set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns);
    [[nodiscard]] Typing& typing() { return typing_; }
    [[nodiscard]] std::vector<Unknown> adopt(const std::vector<Believed>& believed);

    /// What epoll brought, by the tag that was given to it.
    void take_ready(std::uint64_t tag, std::uint32_t events);
    /// How long epoll may wait at most, in milliseconds; -1 for ever.
    [[nodiscard]] int patience_ms() const;
    void act_on_time();

private:
    /// An attempt that we were told of, until it is forgotten.
    struct Tracked {
        ShimLink link;
        Fd process;  // only of a shim that we have started ourselves: to reap it
        int pid = 0;
        bool was_started = false;       // believed to have run: finding nothing means that it is lost
        std::optional<Report> last;     // told again when a command comes twice
        std::vector<Order> owed;        // to a shim that is yet to be found
        std::optional<RunRanks> start;  // when we start it ourselves
        std::string refusal;            // why its shim has left without taking the folder
        bool wants_room = false;        // ... for want of something that may come back
        bool was_told_to_end = false;
        std::uint32_t generation = 1;  // the newest that a command has named: of an older one State does not hear
        bool is_final = false;         // `last` is how it ended, and nothing follows
        bool is_forgotten = false;     // to be removed as soon as everything is dead
        std::int64_t look_at_us = INT64_MAX;
        std::int64_t look_pause_us = 0;
    };
    using Entry = std::map<std::uint64_t, Tracked>::value_type;
    static constexpr std::int64_t longest_look_pause_us = 500'000;

    void run_ranks(const RunRanks& command);
    void end_ranks(const EndRanks& command);
    void forget(AttemptId attempt);
    /// Spawns the shim of an attempt that is not known to have begun.
    void launch(Entry& entry);
    void refuse(Entry& entry, std::string why);
    void wait_for_room(Entry& entry, const std::string& why);
    static void name_generation(Tracked& tracked, std::uint32_t generation);
    /// Says in STATE/authority that it is we who start attempts now. Before that is written nothing is started and
    /// nothing declared dead, for a shim of our predecessor that is late would still think that it may begin.
    [[nodiscard]] Result<void> take_office();
    [[nodiscard]] bool bury(std::uint64_t attempt);
    [[nodiscard]] bool leave_tombstone(std::uint64_t attempt);
    /// The end of this attempt is committed and nothing of it is alive: only its folder was left to be removed.
    [[nodiscard]] bool was_dismissed(std::uint64_t attempt) const;
    /// Looks whether foreign work has ended since, and reports what is left of it.
    void look_at_foreign();
    /// Finds out how an attempt stands from its folder alone.
    void examine(Entry& entry);
    void examine_locked(Entry& entry);
    void connect(Entry& entry, int folder);
    void look_later(Tracked& tracked, std::int64_t longest_pause_us = longest_look_pause_us);
    void remove_if_dead(std::uint64_t attempt);

    void send(Entry& entry, const Order& order);
    [[nodiscard]] bool send_if_linked(AttemptId attempt, const Order& order);
    void take_answers(Entry& entry);
    void take(Entry& entry, const Answer& answer);
    void process_ended(Entry& entry);
    void link_closed(Entry& entry);
    void tell(Entry& entry, Report report);
    void tell_end(Entry& entry, Report report);
    void watch(int descriptor, std::uint64_t tag, std::uint32_t events, bool is_new);
    void watch_link(const Entry& entry, bool is_new);

    const LocalEngineOptions& options_;
    Speaker speaker_;
    std::string boot_id_;
    Fd attempts_;
    int epoll_;
    bool has_office_ = false;
    Trash trash_;
    Zygote zygote_;
    std::int64_t next_look_us_ = INT64_MAX;     // no later than the first of the tracked
    std::map<std::uint64_t, Tracked> tracked_;  // by attempt
    std::map<std::uint64_t, Unknown> foreign_;  // found beyond what State believes, and not forgotten
    std::int64_t look_at_foreign_us_ = INT64_MAX;
    Typing typing_;
};

}  // namespace stargate::local
