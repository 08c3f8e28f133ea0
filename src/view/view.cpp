#include "view/view.hpp"

#include "core/evolve.hpp"

namespace stargate {

namespace {
/// Facts that the writer folds itself: a few microseconds' worth, less than waking a thread.
constexpr std::size_t most_at_once = 32;
}  // namespace

View::View(State state, std::uint64_t last_fact)
    : state_{std::move(state)}, last_fact_{last_fact}, thread_{[this] { work(); }} {}

View::~View() {
    {
        const std::lock_guard lock{queue_mutex_};
        stopping_ = true;
    }
    queued_.notify_one();
    thread_.join();
}

void View::fold(Batch batch) {
    if (fold_at_once(batch)) return;
    {
        const std::lock_guard lock{queue_mutex_};
        queue_.push_back(std::move(batch));
    }
    queued_.notify_one();
}

/// Only the writer folds, so nothing can come between the look at the queue and the fold.
bool View::fold_at_once(Batch& batch) {
    Listeners listeners;
    {
        const std::lock_guard lock{queue_mutex_};
        if (busy_ || !queue_.empty() || batch.facts.size() > most_at_once) return false;
        listeners = notify_;
    }
    {
        const std::unique_lock lock{state_mutex_, std::try_to_lock};
        if (!lock.owns_lock()) return false;
        evolve_all(batch);
    }
    tell(batch, listeners);
    return true;
}

void View::evolve_all(const Batch& batch) {
    for (const auto& fact : batch.facts) evolve(state_, batch.at, fact);
    if (batch.last_fact > last_fact_) last_fact_ = batch.last_fact;
}

void View::tell(Batch& batch, const Listeners& listeners) {
    for (auto& answer : batch.answers) answer();
    if (batch.facts.empty()) return;
    for (const auto& listener : listeners) listener(batch.last_fact);
}

std::uint64_t View::last_fact() const {
    const std::shared_lock lock{state_mutex_};
    return last_fact_;
}

void View::on_fold(std::function<void(std::uint64_t)> notify) {
    const std::lock_guard lock{queue_mutex_};
    notify_.push_back(std::move(notify));
}

void View::work() {
    std::unique_lock queue_lock{queue_mutex_};
    while (true) {
        queued_.wait(queue_lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        auto batches = std::move(queue_);
        queue_.clear();
        const auto listeners = notify_;
        busy_ = true;
        queue_lock.unlock();
        for (auto& batch : batches) {
            {
                const std::unique_lock lock{state_mutex_};
                evolve_all(batch);
            }
            tell(batch, listeners);
        }
        queue_lock.lock();
        busy_ = false;
    }
}

}  // namespace stargate
