#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "engine/local/local_engine.hpp"
#include "engine/local/output_log.hpp"

// What the tests of the local engine stand on: a state folder of their own, a real shim, real processes.
namespace stargate::local::testing {

constexpr NodeId here{7};
constexpr auto patience = std::chrono::seconds{60};  // bounds every wait; no test waits that long when it passes

/// Reports, as they come in from the engine's thread.
class Reports {
public:
    void add(Report report) {
        const std::lock_guard guard{mutex_};
        reports_.push_back(std::move(report));
        came_.notify_all();
    }
    /// The next report of this kind about the attempt; others before it stay. Nothing when none comes in time.
    template <class Kind>
    std::optional<Kind> next(AttemptId attempt, std::chrono::milliseconds limit = patience) {
        std::unique_lock guard{mutex_};
        std::optional<Kind> found;
        came_.wait_for(guard, limit, [&] {
            for (auto at = reports_.begin(); at != reports_.end(); ++at) {
                const auto* kind = std::get_if<Kind>(&*at);
                if (kind == nullptr || kind->attempt != attempt) continue;
                found = *kind;
                reports_.erase(at);
                return true;
            }
            return false;
        });
        return found;
    }
    /// The next report of what is left of foreign work.
    std::optional<ForeignFound> next_foreign() {
        std::unique_lock guard{mutex_};
        std::optional<ForeignFound> found;
        came_.wait_for(guard, patience, [&] {
            for (auto at = reports_.begin(); at != reports_.end() && !found; ++at) {
                if (const auto* kind = std::get_if<ForeignFound>(&*at)) found = *kind;
            }
            return found.has_value();
        });
        return found;
    }

private:
    std::mutex mutex_;
    std::condition_variable came_;
    std::deque<Report> reports_;
};

class LocalEngineTest : public ::testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    /// The control plane (re)starts, with this term.
    void start_engine(std::uint64_t term = 1);
    /// The control plane dies: no command is given to anyone.
    void lose_engine() { engine_.reset(); }

    /// A job that runs `script` in the shell; change what the test is about.
    [[nodiscard]] Launch shell_job(const std::string& script) const;
    AttemptId start(Launch launch, int ranks = 1);
    AttemptId start(Launch launch, RunRanks command);  // which is given the next attempt and job
    [[nodiscard]] RunRanks command_for(AttemptId attempt, int ranks, std::uint32_t generation = 1) const;
    void end(AttemptId attempt, std::chrono::milliseconds grace, std::uint32_t generation = 1, int next_world = 0,
             int keep = 0, EndCause cause = EndCause::cancel);
    /// Runs it to its end.
    RanksEnded run(Launch launch, int ranks = 1);
    /// All that the attempt wrote, both streams, in order.
    [[nodiscard]] std::string output(AttemptId attempt) const;
    std::string output_of(Launch launch, int ranks = 1);
    /// Waits until the attempt's output has `text`.
    [[nodiscard]] bool prints(AttemptId attempt, const std::string& text) const;
    [[nodiscard]] std::filesystem::path folder_of(AttemptId attempt) const;
    /// Waits until `holds`, which something outside the engine's reports brings about.
    template <class Condition>
    [[nodiscard]] static bool soon(Condition holds) {
        const auto limit = std::chrono::steady_clock::now() + patience;
        while (!holds()) {
            if (std::chrono::steady_clock::now() > limit) return false;
            std::this_thread::sleep_for(std::chrono::milliseconds{2});
        }
        return true;
    }

    [[nodiscard]] static Instant now();
    [[nodiscard]] static bool is_root();

    std::filesystem::path root_;    // of this test
    std::filesystem::path state_;   // root_/state
    std::filesystem::path submit_;  // root_/submit: the submitter's
    std::filesystem::path home_;
    Account account_;
    Reports reports_;
    std::unique_ptr<LocalEngine> engine_;
    AttemptId last_{0};

private:
    std::mutex launches_mutex_;
    std::map<std::uint64_t, Launch> launches_;
};

}  // namespace stargate::local::testing
