#include "api/job_list.hpp"

#include "api/words.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace stargate::api {

namespace {

constexpr std::size_t piece_bytes = 128U << 10;  // of rows written at once: under the view's lock 0.2 ms
constexpr std::size_t passed_over = 10'000;      // jobs of State that are not wanted, looked at at once
constexpr std::size_t history_piece = 1'000;     // rows of the history looked at at once: 1 ms
constexpr std::size_t rows_at_once = 250;        // of the history written at once
constexpr std::size_t most_history = 100'000;    // rows of the history looked at for one listing

class JobList final : public Stream {
public:
    JobList(const Control& control, const Caller& caller, JobFilter filter, std::uint64_t limit)
        : control_{control}, caller_{caller}, filter_{std::move(filter)}, left_{limit} {}

    Pulled pull(std::string& out) override {
        if (below_ == newest) out.push_back('[');
        const auto enough = out.size() + piece_bytes;
        if (below_) list_state(out, enough);
        const bool has_history = !filter_.only_active && history_left_ > 0;
        if (!below_ && has_history && !list_history(out, enough)) return Pulled::broken;
        if (left_ > 0 && (below_ || (has_history && history_left_ > 0))) return Pulled::more;
        out += "]\n";
        return Pulled::ended;
    }
    [[nodiscard]] std::size_t keeps() const override { return listed_.capacity() * sizeof(Range); }
    [[nodiscard]] std::string heartbeat() const override { return " "; }
    [[nodiscard]] std::string_view type() const override { return "application/json"; }

private:
    static constexpr JobId newest{~std::uint64_t{0}};

    std::string& row(std::string& out) {
        if (!std::exchange(is_first_row_, false)) out.push_back(',');
        --left_;
        return out;
    }
    void list_state(std::string& out, std::size_t enough) {
        control_.read([&](const State& state, Instant, std::uint64_t) {
            const Sight sight{caller_, state};
            std::size_t passed = 0;
            bool more = false;
            state.table<Job>().for_each_newest(
                [&](const Job& job) {
                    below_ = job.id;
                    if (filter_.takes(sight, job)) {
                        append_job(row(out), state, job);
                        note(job.id);
                    } else {
                        ++passed;
                    }
                    more = left_ == 0 || out.size() >= enough || passed == passed_over;
                    return !more;
                },
                below_);
            if (!more) below_ = {};
        });
    }
    /// False: it cannot be read.
    bool list_history(std::string& out, std::size_t enough) {
        for (std::size_t looked_at = 0; looked_at < history_piece && left_ > 0 && out.size() < enough;) {
            std::size_t seen = 0;
            std::vector<RetiredJob> found;
            const auto most = std::min<std::uint64_t>(left_, rows_at_once);
            const auto read = control_.read_retired(
                std::min(history_piece - looked_at, history_left_),
                [&](const RetiredJob& job) {
                    ++seen;
                    last_ = job;
                    if (filter_.takes(job) && !was_listed(job.job.id)) found.push_back(job);
                    return found.size() < most;
                },
                last_ ? &*last_ : nullptr);
            if (!read) return false;
            control_.read([&](const State& state, Instant, std::uint64_t) {
                const Sight sight{caller_, state};
                for (const auto& job : found) {
                    if (sight.may_see(job.spec)) append_retired(row(out), state, job);
                }
            });
            looked_at += seen;
            history_left_ = seen == 0 ? 0 : history_left_ - seen;
            if (history_left_ == 0) break;
        }
        return true;
    }

    /// A job may leave State for the history after it was listed.
    void note(JobId job) {
        if (filter_.only_active) return;
        if (!listed_.empty() && listed_.back().first.value == job.value + 1) {
            listed_.back().first = job;
        } else {
            listed_.push_back({job, job});
        }
    }
    [[nodiscard]] bool was_listed(JobId job) const {
        const auto range =
            std::partition_point(listed_.begin(), listed_.end(), [&](const Range& each) { return each.first > job; });
        return range != listed_.end() && job <= range->last;
    }

    const Control& control_;
    Caller caller_;
    JobFilter filter_;
    std::uint64_t left_;  // rows that may come yet
    bool is_first_row_ = true;
    JobId below_ = newest;  // where State is read on; 0: it is over
    struct Range {
        JobId first, last;
    };
    std::vector<Range> listed_;  // of State, newest first
    std::optional<RetiredJob> last_;
    std::size_t history_left_ = most_history;
};

}  // namespace

bool JobFilter::takes(const Sight& sight, const Job& job) const {
    const auto& all = sight.state();
    if (only_active && std::holds_alternative<Finished>(job.phase)) return false;
    if (state && state_of(all, job) != *state) return false;
    const auto& spec = all.spec_of(job);
    if (owner && spec.owner != *owner) return false;
    if (!name.empty() && spec.name != name && label_of(all, job) != name) return false;
    return sight.may_see(spec);
}

bool JobFilter::takes(const RetiredJob& job) const {
    if (owner && job.spec.owner != *owner) return false;
    if (!name.empty() && job.spec.name != name && label_of(job) != name) return false;
    const auto* finished = std::get_if<Finished>(&job.job.phase);
    return !state || (finished != nullptr && name_of(finished->outcome) == name_of(*state));
}

std::unique_ptr<Stream> list_jobs(const Control& control, const Caller& caller, JobFilter filter, std::uint64_t limit) {
    return std::make_unique<JobList>(control, caller, std::move(filter), limit);
}

}  // namespace stargate::api
