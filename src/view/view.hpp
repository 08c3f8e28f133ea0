#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "core/fact.hpp"
#include "core/state.hpp"

namespace stargate {

/// The State that everyone but the writer reads. Facts are folded on a thread of its own; a small batch that finds
/// nobody before it and no reader in its way is folded by the caller, which spares the client a change of threads. What
/// a client was told is in the view by then, because answers are given after folding.
class View {
public:
    struct Batch {
        Instant at{};
        std::vector<Fact> facts;
        std::uint64_t last_fact = 0;                 // seq of the newest fact in the log once this is folded
        std::vector<std::function<void()>> answers;  // run after folding, on either thread; must not block
    };

    explicit View(State state, std::uint64_t last_fact);
    View(const View&) = delete;
    View& operator=(const View&) = delete;
    ~View();

    /// From the writer's thread. Never blocks on readers.
    void fold(Batch batch);

    /// Runs `look` under a shared lock: copy out and be quick. `now` is the instant of the newest fact.
    template <class Look>
    auto read(Look look) const {
        const std::shared_lock lock{state_mutex_};
        return look(state_);
    }
    [[nodiscard]] std::uint64_t last_fact() const;
    /// The same, for a look that holds the lock already.
    [[nodiscard]] std::uint64_t folded() const { return last_fact_; }

    /// `notify` runs after each fold, on the thread that folded, with the newest seq; it must not block.
    void on_fold(std::function<void(std::uint64_t)> notify);

private:
    using Listeners = std::vector<std::function<void(std::uint64_t)>>;

    void work();
    [[nodiscard]] bool fold_at_once(Batch& batch);
    void evolve_all(const Batch& batch);  // under state_mutex_
    static void tell(Batch& batch, const Listeners& listeners);

    mutable std::shared_mutex state_mutex_;
    State state_;
    std::uint64_t last_fact_ = 0;

    std::mutex queue_mutex_;
    std::condition_variable queued_;
    std::deque<Batch> queue_;
    Listeners notify_;
    bool busy_ = false;  // the thread is folding what it has taken from the queue
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace stargate
