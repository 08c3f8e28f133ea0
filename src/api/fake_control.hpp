#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "api/control.hpp"
#include "base/overloaded.hpp"
#include "core/owed.hpp"

namespace stargate::api {

/// A control plane for tests: a real Core in memory, and an engine that does at once what it is told, or waits for the
/// test. Answers come on the caller's thread.
class FakeControl final : public Control {
public:
    explicit FakeControl(std::int32_t gpus = 4) {
        decided(TakeOffice{1, {}});
        decided(SetTenant{"default", -1, 1, 0b1111});
        decided(NodeUp{{"n1", 0, GpuCount{gpus}, cpus(64), gibibytes(256), 0, 0, 0, 0, {}}, "boot"});
        decided(Pass{});
    }

    void submit(NewJob job, Done<Answer> done) override {
        done([&]() -> Result<Answer> {
            const std::scoped_lock lock{mutex_};
            if (!broken.empty()) return fail(Fault::full, broken);
            if (const auto known = keys_.find(job.key); !job.key.empty() && known != keys_.end()) {
                if (known->second.first != job.body) return Answer{{Why::key_conflict, 0, 0, 0}, {}};
                return Answer{{}, known->second.second};
            }
            const auto answer = decided(job.input);
            if (answer.accepted()) {
                launches_[answer.job] = job.launch;
                if (!job.key.empty()) keys_[job.key] = {job.body, answer.job};
            }
            after_batch();
            return answer;
        }());
        tell();
    }
    void ask(std::uint32_t, std::vector<Input> inputs, Done<std::vector<Answer>> done) override {
        std::vector<Answer> answers;
        {
            const std::scoped_lock lock{mutex_};
            for (const auto& input : inputs) answers.push_back(decided(input));
            after_batch();
        }
        done(std::move(answers));
        tell();
    }
    void read(const Look& look) const override {
        const std::scoped_lock lock{mutex_};
        look(core_.state(), now_, facts_.size());
    }
    Result<Launch> launch_of(JobId job) const override {
        const std::scoped_lock lock{mutex_};
        const auto found = launches_.find(job);
        if (found == launches_.end()) return fail(Fault::not_found, "no launch");
        return found->second;
    }
    Result<void> read_facts(std::uint64_t from, std::size_t most,
                            const std::function<void(const LoggedFact&)>& visit) const override {
        const std::scoped_lock lock{mutex_};
        if (log_is_broken) return fail(Fault::unavailable, "the log's disk does not answer");
        for (auto seq = std::max<std::uint64_t>(from, 1); seq <= facts_.size() && most > 0; ++seq, --most) {
            visit(facts_[seq - 1]);
        }
        return {};
    }
    void on_facts(std::function<void(std::uint64_t)> notify) override {
        const std::scoped_lock lock{notify_mutex_};
        notify_ = std::move(notify);
    }
    Result<std::optional<Answer>> find_key(const std::string&, const std::string& key,
                                           const std::string& body) const override {
        const std::scoped_lock lock{mutex_};
        const auto known = keys_.find(key);
        if (known == keys_.end()) return std::optional<Answer>{};
        if (known->second.first != body) return Answer{{Why::key_conflict, 0, 0, 0}, {}};
        return Answer{{}, known->second.second};
    }
    Result<void> read_retired(std::size_t most, const std::function<bool(const RetiredJob&)>& visit,
                              const RetiredJob* after) const override {
        const auto history = [&] {
            const std::scoped_lock lock{mutex_};
            return history_;  // a visitor may read the State
        }();
        auto job = history.rbegin();
        if (after != nullptr) {
            const auto ended = [](const RetiredJob& one) {
                return std::pair{std::get<Finished>(one.job.phase).at, one.job.id};
            };
            while (job != history.rend() && ended(*job) >= ended(*after)) ++job;
        }
        for (; job != history.rend() && most > 0; ++job, --most) {
            if (!visit(*job)) break;
        }
        return {};
    }
    Result<std::optional<RetiredJob>> find_retired(JobId id) const override {
        const std::scoped_lock lock{mutex_};
        for (const auto& job : history_) {
            if (job.job.id == id) return job;
        }
        return std::optional<RetiredJob>{};
    }
    Result<std::vector<OutputPiece>> read_output(JobId, AttemptId attempt, std::int64_t offset,
                                                 std::size_t) const override {
        const std::scoped_lock lock{mutex_};
        if (output_is_broken) return fail(Fault::unavailable, "the output's disk does not answer");
        const auto found = output_.find(attempt);
        if (found == output_.end() || offset >= static_cast<std::int64_t>(found->second.size())) {
            return std::vector<OutputPiece>{};
        }
        auto piece = found->second[static_cast<std::size_t>(offset)];
        piece.next_offset = offset + 1;
        return std::vector<OutputPiece>{piece};
    }
    Figures figures() const override {
        Figures figures;
        figures.incarnation = "00";
        figures.term = 1;
        figures.first_fact = first_fact;
        figures.last_fact = known_;
        return figures;
    }
    bool type(AttemptId attempt, std::string bytes) override {
        if (!takes_keys) return false;
        const std::scoped_lock lock{mutex_};
        output_[attempt].push_back({0, false, 0, 0, std::move(bytes)});  // as a terminal echoes it
        return true;
    }
    void set_window(AttemptId, std::uint16_t rows, std::uint16_t columns) override { window = {rows, columns}; }
    void shut_down(RunningWork work) override { shut_down_with = work; }

    // What a test does as the world.
    void print(AttemptId attempt, std::string bytes, bool is_errors = false) {
        const std::scoped_lock lock{mutex_};
        output_[attempt].push_back({0, is_errors, 0, 0, std::move(bytes)});
    }
    void report(const Input& input) {
        {
            const std::scoped_lock lock{mutex_};
            decided(input);
            after_batch();
        }
        tell();
    }
    [[nodiscard]] Core& core() { return core_; }
    /// Another tenant, member or class, as an operator sets it.
    void set(const SetTenant& tenant) { report(tenant); }
    /// Moves all ended jobs to the history.
    void retire_all() {
        const std::scoped_lock lock{mutex_};
        std::vector<JobId> ended;
        for (const auto& [at, job] : core_.state().finished()) ended.push_back(job);
        for (const auto job : ended) core_.apply(now_, Retired{job});
        keep_history();
        core_.commit();
    }

    bool runs_at_once = false;  // each attempt prints `out` and `err`, and ends well
    std::atomic<bool> output_is_broken = false, log_is_broken = false;
    std::atomic<std::uint64_t> first_fact = 1;
    std::string broken;  // what the store says to every submit
    std::optional<RunningWork> shut_down_with;
    std::pair<int, int> window;
    bool takes_keys = true;

private:
    Answer decided(const Input& input) {
        const auto first = core_.batch().size();
        const auto answer = decide(core_, now_, input);
        for (std::size_t i = first; i < core_.batch().size(); ++i) {
            facts_.push_back({facts_.size() + 1, now_, 1, input.index(), core_.batch()[i]});
        }
        known_ = facts_.size();
        return answer;
    }
    void after_batch() {
        now_ += std::chrono::milliseconds{1};
        decided(Pass{});
        core_.commit();
        while (runs_at_once) {
            const auto commands = owed(core_.state());
            if (commands.empty()) break;
            for (const auto& command : commands) carry_out(command);
            decided(Pass{});
            core_.commit();
        }
    }
    void carry_out(const Command& command) {
        if (const auto* run = std::get_if<RunRanks>(&command)) {
            decided(RanksRunning{run->attempt, run->node, run->generation});
            output_[run->attempt] = {{0, false, 0, 0, "out\n"}, {0, true, 0, 0, "err\n"}};
            decided(RanksEnded{run->attempt, run->node, run->generation, {}, false, -1});
        } else if (const auto* end = std::get_if<EndRanks>(&command)) {
            decided(RanksEnded{end->attempt, end->node, end->generation, {ExitKind::signalled, 15, {}}, true, -1});
        }
    }
    void keep_history() { history_.insert(history_.end(), core_.retired().begin(), core_.retired().end()); }
    void tell() {
        const std::scoped_lock lock{notify_mutex_};
        if (notify_) notify_(known_);
    }

    mutable std::mutex mutex_;
    std::vector<RetiredJob> history_;
    std::mutex notify_mutex_;
    std::function<void(std::uint64_t)> notify_;
    Core core_;
    Instant now_{std::chrono::hours{24 * 365 * 50}};
    std::vector<LoggedFact> facts_;
    std::atomic<std::uint64_t> known_ = 0;  // how many there are
    std::map<JobId, Launch> launches_;
    std::map<AttemptId, std::vector<OutputPiece>> output_;
    std::map<std::string, std::pair<std::string, JobId>> keys_;
};

}  // namespace stargate::api
