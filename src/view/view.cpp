#include "view/view.hpp"

#include "core/evolve.hpp"

namespace stargate {

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
    {
        const std::lock_guard lock{queue_mutex_};
        queue_.push_back(std::move(batch));
    }
    queued_.notify_one();
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
        queue_lock.unlock();
        for (auto& batch : batches) {
            {
                const std::unique_lock lock{state_mutex_};
                for (const auto& fact : batch.facts) evolve(state_, batch.at, fact);
                if (batch.last_fact > last_fact_) last_fact_ = batch.last_fact;
            }
            for (auto& answer : batch.answers) answer();
            if (!batch.facts.empty()) {
                for (const auto& listener : listeners) listener(batch.last_fact);
            }
        }
        queue_lock.lock();
    }
}

}  // namespace stargate
