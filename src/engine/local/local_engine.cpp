#include "engine/local/local_engine.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <spawn.h>
#include <sys/wait.h>
#include <array>
#include <climits>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

#include "engine/local/supervisor.hpp"

namespace stargate {

using local::failure;
using local::Fd;

/// The thread and what is handed to it.
class LocalEngine::Thread {
public:
    Thread(LocalEngineOptions options, Fd attempts, Fd epoll, Fd wake)
        : options_{std::move(options)},
          epoll_{std::move(epoll)},
          wake_{std::move(wake)},
          supervisor_{options_, std::move(attempts), epoll_.get()} {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = 0;
        epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
        thread_ = std::thread{[this] { work(); }};
    }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;
    ~Thread() {
        hand_over(nullptr);
        thread_.join();
    }

    /// An empty task ends the thread.
    void hand_over(std::function<void(local::Supervisor&)> task) {
        bool was_empty = false;
        {
            const std::lock_guard guard{mutex_};
            was_empty = tasks_.empty();
            tasks_.push_back(std::move(task));
        }
        if (was_empty) eventfd_write(wake_.get(), 1);
    }

    [[nodiscard]] local::Typing& typing() { return supervisor_.typing(); }

private:
    void work() {
        std::array<epoll_event, 64> events;
        while (true) {
            const int count = epoll_wait(epoll_.get(), events.data(), events.size(), supervisor_.patience_ms());
            for (int i = 0; i < count; ++i) {
                const auto& event = events[static_cast<std::size_t>(i)];
                if (event.data.u64 != 0) {
                    supervisor_.take_ready(event.data.u64, event.events);
                } else if (!do_tasks()) {
                    return;
                }
            }
            supervisor_.act_on_time();
        }
    }

    bool do_tasks() {
        eventfd_t count = 0;
        eventfd_read(wake_.get(), &count);
        std::vector<std::function<void(local::Supervisor&)>> tasks;
        {
            const std::lock_guard guard{mutex_};
            tasks.swap(tasks_);
        }
        for (const auto& task : tasks) {
            if (!task) return false;
            task(supervisor_);
        }
        return true;
    }

    LocalEngineOptions options_;
    Fd epoll_;
    Fd wake_;
    local::Supervisor supervisor_;
    std::mutex mutex_;
    std::vector<std::function<void(local::Supervisor&)>> tasks_;
    std::thread thread_;
};

LocalEngine::LocalEngine(std::unique_ptr<Thread> thread) : thread_{std::move(thread)} {}
LocalEngine::~LocalEngine() = default;

Result<std::unique_ptr<LocalEngine>> LocalEngine::open(LocalEngineOptions options) {
    char canonical[PATH_MAX];
    if (realpath(options.state.c_str(), canonical) == nullptr) {
        return fail(Fault::unavailable, failure("state folder " + options.state));
    }
    options.state = canonical;
    if (access(options.shim.c_str(), X_OK) != 0) return fail(Fault::not_found, failure("program " + options.shim));
    auto attempts = local::open_attempts(options.state);
    if (!attempts) return fail(Fault::unavailable, failure("folder " + options.state + "/attempts"));
    mkdir((options.state + "/logs").c_str(), 0700);
    const Fd state{::open(canonical, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!state || fsync(state.get()) != 0) return fail(Fault::unavailable, failure("state folder " + options.state));
    Fd epoll{epoll_create1(EPOLL_CLOEXEC)};
    Fd wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!epoll || !wake) return fail(Fault::unavailable, failure("cannot wait for events"));
    auto thread = std::make_unique<Thread>(std::move(options), std::move(attempts), std::move(epoll), std::move(wake));
    return std::unique_ptr<LocalEngine>{new LocalEngine{std::move(thread)}};
}

Result<std::vector<Unknown>> LocalEngine::adopt(const std::vector<Believed>& believed) {
    std::promise<std::vector<Unknown>> found;
    auto unknown = found.get_future();
    thread_->hand_over([&](local::Supervisor& supervisor) { found.set_value(supervisor.adopt(believed)); });
    return unknown.get();
}

void LocalEngine::carry_out(const Command& command) {
    thread_->hand_over([command](local::Supervisor& supervisor) { supervisor.carry_out(command); });
}

bool LocalEngine::type(AttemptId attempt, std::string bytes) {
    if (!thread_->typing().take(attempt.value, bytes.size())) return false;
    thread_->hand_over(
        [attempt, bytes = std::move(bytes)](local::Supervisor& supervisor) { supervisor.type(attempt, bytes); });
    return true;
}

void LocalEngine::set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) {
    thread_->hand_over([=](local::Supervisor& supervisor) { supervisor.set_window(attempt, rows, columns); });
}

Result<void> probe_sandbox(const std::string& shim) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return fail(Fault::unavailable, failure("no pipe"));
    const Fd output{ends[0]};
    Fd theirs{ends[1]};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, theirs.get(), STDOUT_FILENO);
    std::string words[] = {shim, "probe"};
    char* const arguments[] = {words[0].data(), words[1].data(), nullptr};
    char* const environment[] = {nullptr};
    pid_t pid = 0;
    const int error = posix_spawn(&pid, shim.c_str(), &files, nullptr, arguments, environment);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) return fail(Fault::not_found, failure("cannot start " + shim, error));
    theirs.reset();
    char bytes[4096];
    std::string why;
    for (ssize_t got = 0; (got = read(output.get(), bytes, sizeof bytes)) > 0;) {
        why.append(bytes, static_cast<std::size_t>(got));
    }
    int status = 0;
    waitpid(pid, &status, 0);
    while (!why.empty() && why.back() == '\n') why.pop_back();
    if (status == 0) return {};
    return fail(Fault::denied, "the default sandbox cannot be built: " + (why.empty() ? "the probe failed" : why));
}

}  // namespace stargate
