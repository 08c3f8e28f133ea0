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

/// The State that everyone but the writer reads: it folds committed facts on a thread of its own. What a client was
/// told is in the view by then, because answers are given after folding.
class View {
public:
    struct Batch {
        Instant at{};
        std::vector<Fact> facts;
        std::uint64_t last_fact = 0;                 // seq of the newest fact in the log once this is folded
        std::vector<std::function<void()>> answers;  // run after folding, on the view's thread; must not block
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

    /// `notify` runs on the view's thread after each fold, with the newest seq; it must not block.
    void on_fold(std::function<void(std::uint64_t)> notify);

private:
    void work();

    mutable std::shared_mutex state_mutex_;
    State state_;
    std::uint64_t last_fact_ = 0;

    std::mutex queue_mutex_;
    std::condition_variable queued_;
    std::deque<Batch> queue_;
    std::vector<std::function<void(std::uint64_t)>> notify_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace stargate
