#include "api/lookups.hpp"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace stargate::api {

namespace {
using Clock = std::chrono::steady_clock;
constexpr int threads = 4;  // so many people's folders may hang before others wait too
}  // namespace

/// What the threads share with the object, and keep when it goes before them.
struct Lookups::Shared {
    struct Task {
        std::uint32_t uid = 0;
        Work work;
        Outcome too_late;  // empty once somebody has answered
        Clock::time_point until;
        bool taken = false;
    };
    std::mutex mutex;
    std::condition_variable changed;         // tasks, or the end
    std::condition_variable quiet;           // nothing is being answered
    std::list<std::shared_ptr<Task>> tasks;  // not answered yet, oldest first
    std::set<std::uint32_t> served;          // whose work is on a thread
    int answering = 0;
    bool stopping = false;

    /// Calls `outcome` without the lock, unless the object is going.
    void answer(std::unique_lock<std::mutex>& lock, const Outcome& outcome) {
        if (stopping) return;
        ++answering;
        lock.unlock();
        outcome();
        lock.lock();
        if (--answering == 0) quiet.notify_all();
    }
    void serve() {
        std::unique_lock lock{mutex};
        while (!stopping) {
            const auto next = std::find_if(tasks.begin(), tasks.end(), [&](const auto& task) {
                return !task->taken && !served.contains(task->uid);
            });
            if (next == tasks.end()) {
                changed.wait(lock);
                continue;
            }
            const auto task = *next;
            task->taken = true;
            served.insert(task->uid);
            lock.unlock();
            Outcome outcome;
            try {
                outcome = task->work();
            } catch (const std::exception&) { outcome = task->too_late; }  // out of memory: later may do
            lock.lock();
            served.erase(task->uid);
            if (tasks.remove(task) == 1) answer(lock, outcome);  // else it was too late
            changed.notify_all();
        }
    }
    void watch() {
        std::unique_lock lock{mutex};
        while (!stopping) {
            if (tasks.empty()) {
                changed.wait(lock);
            } else if (const auto oldest = tasks.front(); Clock::now() >= oldest->until) {
                tasks.pop_front();
                answer(lock, oldest->too_late);
            } else {
                changed.wait_until(lock, oldest->until);
            }
        }
    }
};

Lookups::Lookups(std::chrono::milliseconds patience) : shared_{std::make_shared<Shared>()}, patience_{patience} {
    for (int i = 0; i < threads; ++i) std::thread{[shared = shared_] { shared->serve(); }}.detach();
    std::thread{[shared = shared_] { shared->watch(); }}.detach();
}

Lookups::~Lookups() {
    std::unique_lock lock{shared_->mutex};
    shared_->stopping = true;
    shared_->changed.notify_all();
    shared_->quiet.wait(lock, [this] { return shared_->answering == 0; });
}

void Lookups::run(std::uint32_t uid, Work work, Outcome too_late) {
    auto task = std::make_shared<Shared::Task>();
    task->uid = uid;
    task->work = std::move(work);
    task->too_late = std::move(too_late);
    const std::scoped_lock lock{shared_->mutex};
    task->until = Clock::now() + patience_;
    shared_->tasks.push_back(std::move(task));
    shared_->changed.notify_all();
}

}  // namespace stargate::api
