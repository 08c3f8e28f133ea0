#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/digest.hpp"
#include "base/fair_queue.hpp"
#include "core/decide.hpp"
#include "engine/port.hpp"
#include "live/clock.hpp"
#include "loop/round.hpp"
#include "store/port.hpp"
#include "view/view.hpp"
#include "work/launch.hpp"

namespace stargate::live {

/// Something for the core to decide, and what to do once the outcome is durable and in the view.
struct Request {
    using Done = std::function<void(Result<Answer>)>;
    Input input;
    std::optional<Launch> launch;  // of a Submit
    std::string key;               // idempotency key of a Submit; empty: none
    Digest body_hash{};            // of what the key stands for
    Done done;                     // on the view's thread; must not block; may be empty
    std::uint32_t by = 0;          // uid of who asks: each has a line of his own
};

/// The one thread that touches State: drains its inbox, decides, commits the batch, then answers and lets commands go.
/// A batch takes one request of each user in turn, and of what engines report, so that whoever asks for much waits for
/// himself.
/// Group commit: while one batch is being written, the next piles up. Nothing waits for a timer but what nobody waits
/// for, which is that ranks run and how far they are: 1 ms at most.
class Writer {
public:
    struct Parts {
        store::Store& store;
        std::string folder;  // where the store lies: people are told whose disk is full
        View& view;
        FleetClock clock;
        std::function<void(const Command&)> carry_out;
        /// The store cannot say whether a batch was written: the process must stop. Does not return.
        std::function<void(const Error&)> stop_process;
    };
    Writer(Parts parts, State state, std::uint64_t last_fact, std::uint64_t last_input);
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer();  // writes what is in the inbox, then ends

    /// From any thread: a request will be posted in a moment. The writer wakes up while it is still being read, which
    /// takes about as long, and waits for it without sleep, for 100 us at most.
    void get_ready();
    /// From any thread. False: 20,000 requests of its user wait already, the caller answers 503.
    [[nodiscard]] bool post(Request request);
    /// All of them or none: what one user asks for at once, as the cancel of each element of an array, finds room whole
    /// as soon as there is any. They are decided in order; more than 2,000 take several batches, and so do fewer when
    /// others ask at the same time. `by` is the same in all.
    [[nodiscard]] bool post(std::vector<Request> requests);
    /// What an engine saw. Never refused: there is no more of it than work that runs.
    void report(Report report);
    /// Runs `chore` between two batches, on the writer's thread: for what only the store's one user may do. What it
    /// returns is only looked at for an unknown outcome, which stops the process.
    using Chore = std::function<Result<void>(store::Store&)>;
    void between_batches(Chore chore);

    /// Sends all that State owes, again: after a restart, once what still runs has been looked for. It goes through the
    /// writer's thread so that no command overtakes a later one. Before this nothing new is scheduled: a GPU that looks
    /// free, or the next attempt's id, may be taken by work that the store does not know.
    void send_owed();

    /// From the next batch on, and for as long as this process lives, nothing is started: what runs here is about to be
    /// ended, and what waits shall not take its place.
    void start_no_more();

    /// The disk is full: nothing new is taken. What runs may still end, as long as the store has room kept for that.
    [[nodiscard]] bool is_full() const { return full_.load(std::memory_order_relaxed); }
    struct Figures {
        std::uint64_t batches = 0, inputs = 0, facts = 0;
        std::uint64_t commit_microseconds = 0;
        std::uint64_t longest_commit_microseconds = 0;
        std::uint64_t last_fact = 0;
    };
    [[nodiscard]] Figures figures() const;

private:
    struct Pending;
    void work();
    [[nodiscard]] bool wait_for_work(std::deque<Request>& taken, std::vector<Chore>& chores, bool& send_owed);
    void run_batch(std::deque<Request> requests);
    Result<Answer> decide_one(Pending& pending, Instant now, Request& request);
    std::optional<Result<Answer>> known_key(const Pending& pending, Instant now, const Request& request);
    void commit(Pending pending, Instant now, std::deque<Request> requests);
    void give_back(std::deque<Request>& requests, const Error& why);
    void defer(Request report);
    void clean_up();
    void look_for_room(Instant now);
    void note_full(Instant now);
    void forget_what_is_over();
    void forget_what_is_old(Instant now);
    /// A failed fsync is the end of this process wherever it happens: nobody knows what the disk holds now.
    template <class T>
    [[nodiscard]] bool holds(const Result<T>& done) const;

    Parts parts_;
    Core core_;
    CommandsDue due_;
    std::uint64_t last_fact_ = 0;
    std::uint64_t last_input_ = 0;
    std::vector<JobId> launches_over_;          // arrays that left State: their launches may go
    std::deque<Request> deferred_;              // reports that a full disk kept from being written
    std::map<AttemptId, Progress> late_steps_;  // the newest of each, told while the disk is full
    Instant try_again_{};                       // until then nothing is written, for the store refused: not_written_
    Error not_written_;
    Instant look_at_disk_at_{};
    Instant look_for_room_at_{};  // while the disk is full
    Instant look_for_old_at_{};   // when rows that have outlived their retention are next looked for
    bool pass_goes_on_ = false;   // the last one was cut off: the next batch does not wait for anybody
    bool pass_is_due_ = false;    // the same, as what kept work from starting is over

    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    FairQueue<std::int64_t, Request> inbox_;  // by uid, or of_engines
    Instant inbox_waits_until_{};             // all that is in it may wait until then
    std::vector<Chore> chores_;
    bool send_owed_ = false;
    bool schedules_ = false;  // send_owed() was called
    std::atomic<bool> starts_no_more_{false};
    bool stopping_ = false;
    bool gets_ready_ = false;
    std::atomic<bool> has_posted_{false};  // since then
    std::atomic<bool> full_{false};
    Figures figures_;
    std::thread thread_;
};

}  // namespace stargate::live
