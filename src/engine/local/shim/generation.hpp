#pragma once

#include <poll.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"
#include "engine/local/shim/init.hpp"
#include "engine/local/shim/output.hpp"

namespace stargate::local {

/// What a generation shares with its attempt.
struct AttemptPlace {
    const Spec& spec;
    int lock = -1;
    int job_folder = -1;
    Output& output;
};

/// The ranks of one generation on this node, from init's birth to the last process' death.
class Generation {
public:
    enum class Standing : std::uint8_t {
        starting,
        running,  // every rank has executed its command
        resized,  // in place: those that were to leave are gone, the others run on until the next generation is named
        over,     // nothing is left alive
    };

    Generation(AttemptPlace place, Run run);

    /// Starts init, which builds the sandbox; ranks start when it is built and `release` was called.
    void begin();
    void release();

    [[nodiscard]] Standing standing() const { return standing_; }
    /// It was running once, and may be over by now: a short job is, before anybody has looked.
    [[nodiscard]] bool has_run() const { return has_run_; }
    [[nodiscard]] std::uint32_t number() const { return run_.generation; }
    /// The pid of its init; 0 when there is none.
    [[nodiscard]] pid_t init() const { return init_ ? init_->pid : 0; }
    /// What there is to tell once it is resized or over.
    [[nodiscard]] Ended outcome() const;

    /// Tells the leaving ranks to end: notice, SIGTERM, SIGKILL at the deadline. A later warning may shorten the
    /// deadline, take more ranks and change what follows, never the reverse.
    void warn(const End& end);
    /// In place and resized: names the next generation and starts the ranks that join.
    void go_on(const Run& run);
    /// In place and resized: those that run on are the next generation, though nothing was said of it yet but its end.
    /// Whether a generation of this number may take over what runs: in place, where nobody leaves, the next is named
    /// without a word to the last.
    [[nodiscard]] bool grows_into(std::uint32_t generation) const {
        return place_.spec.resize_in_place && standing_ == Standing::running && !warning_ &&
               generation > run_.generation;
    }
    void take_number(std::uint32_t generation) { run_.generation = generation; }

    void list(std::vector<pollfd>& polled) const;
    void take_ready(const std::vector<pollfd>& polled, std::size_t first);
    /// When `act_on_time` has something to do, by boot_time_us.
    [[nodiscard]] std::int64_t next_time() const;
    void act_on_time(std::int64_t now_us);
    /// Reaps init; waits until the kernel has taken its namespaces down.
    void wait_for_init();

private:
    struct Outcome {
        EndKind kind = EndKind::exited;
        std::int32_t code = 0;
        std::string detail;
    };
    void start_ranks(std::int32_t from);
    void signal_ranks(std::int32_t number, std::int32_t from, std::int32_t until);
    void take_answers();
    void rank_ended(std::int32_t rank, std::int32_t status);
    void break_gang();
    void kill_leaving();
    void init_ended();
    void settle_leaving();
    [[nodiscard]] std::int32_t staying() const;
    [[nodiscard]] std::int32_t alive_from(std::int32_t rank) const;

    AttemptPlace place_;
    Run run_;
    Standing standing_ = Standing::starting;
    std::optional<InitHandle> init_;
    bool is_built_ = false;
    bool is_released_ = false;
    bool is_started_ = false;  // ranks were ordered
    std::vector<bool> alive_;  // by local rank
    std::optional<Outcome> outcome_;
    std::optional<End> warning_;
    std::int64_t kill_at_us_;
    std::int64_t hang_up_at_us_ = INT64_MAX;  // of a warned rank at a terminal, shortly before that
    bool was_killed_ = false;
    bool was_asked_to_kill_ = false;  // init was, with Confinement::none
    bool gang_broken_ = false;
    bool has_run_ = false;
};

constexpr std::int64_t never_us = INT64_MAX;

}  // namespace stargate::local
