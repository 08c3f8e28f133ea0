#include "api/history.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/sight.hpp"
#include "base/json_text.hpp"
#include "core/evolve.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t piece_bytes = 128U << 10;  // of rows written at once
constexpr std::size_t jobs_at_once = 1'000;      // looked at under the view's lock
constexpr std::size_t rows_at_once = 250;        // read of the store: 0.3 ms

/// One of them. In the history it has no row in State.
struct EndedJob {
    const State& state;
    const Job& job;
    const JobSpec& spec;
    const RetiredJob* retired = nullptr;
};

/// Goes through them in pieces. A job that leaves State for the history meanwhile is met once: both are gone through in
/// one order, and where they meet it goes on with what ended before.
class EndedJobs {
public:
    /// Return false to have no more of this piece.
    using Visit = std::function<bool(const EndedJob&)>;

    EndedJobs(const Control& control, const Caller& caller, HistoryFilter filter)
        : control_{control}, caller_{caller}, filter_{std::move(filter)}, last_at_{filter_.until} {}

    Stream::Pulled piece(const Visit& visit) {
        if (is_in_state_) {
            go_through_state(visit);
        } else if (!go_through_history(visit)) {
            return Stream::Pulled::broken;
        }
        return is_over_ ? Stream::Pulled::ended : Stream::Pulled::more;
    }

private:
    /// It is the next; false: it ended before the time that is asked for, and so have all that follow.
    bool reach(Instant at, JobId id) {
        is_over_ = at < filter_.since;
        std::tie(last_at_, last_id_) = std::tuple{at, id};
        return !is_over_;
    }
    bool takes(const Sight& sight, const JobSpec& spec) const {
        if (filter_.owner && spec.owner != *filter_.owner) return false;
        if (!filter_.tenant.empty()) {
            const auto above = sight.state().tenant_named(filter_.tenant);
            if (!above || !is_under(sight.state(), spec.tenant, *above)) return false;
        }
        return sight.may_see(spec);
    }
    void go_through_state(const Visit& visit) {
        control_.read([&](const State& state, Instant, std::uint64_t) {
            const Sight sight{caller_, state};
            auto next = state.finished().lower_bound({last_at_, last_id_});
            for (std::size_t seen = 0; seen < jobs_at_once; ++seen) {
                if (next == state.finished().begin()) {
                    is_in_state_ = false;
                    return;
                }
                --next;
                if (!reach(next->first, next->second)) return;
                const auto& job = state.at<Job>(next->second);
                const auto& spec = state.spec_of(job);
                if (takes(sight, spec) && !visit({state, job, spec})) return;
            }
        });
    }
    /// False: it cannot be read.
    bool go_through_history(const Visit& visit) {
        RetiredJob last;
        last.job.id = last_id_;
        last.job.phase = Finished{last_at_, {}, 0, {}, {}, {}};
        std::vector<RetiredJob> found;
        const auto read = control_.read_retired(
            rows_at_once, [&](const RetiredJob& job) { return found.push_back(job), true; }, &last);
        if (!read) return false;
        if (found.empty()) is_over_ = true;
        control_.read([&](const State& state, Instant, std::uint64_t) {
            const Sight sight{caller_, state};
            for (const auto& each : found) {
                const auto* finished = std::get_if<Finished>(&each.job.phase);
                if (finished == nullptr) continue;
                if (!reach(finished->at, each.job.id)) return;
                if (takes(sight, each.spec) && !visit({state, each.job, each.spec, &each})) return;
            }
        });
        return true;
    }

    const Control& control_;
    Caller caller_;
    HistoryFilter filter_;
    Instant last_at_;  // the one that was met last; at first nobody
    JobId last_id_;
    bool is_in_state_ = true;
    bool is_over_ = false;
};

class HistoryList final : public Stream {
public:
    HistoryList(const Control& control, const Caller& caller, HistoryFilter filter, std::uint64_t limit)
        : jobs_{control, caller, std::move(filter)}, left_{limit} {}

    Pulled pull(std::string& out) override {
        const auto enough = out.size() + piece_bytes;
        if (!std::exchange(has_begun_, true)) out.push_back('[');
        auto pulled = jobs_.piece([&](const EndedJob& each) {
            if (!std::exchange(is_first_, false)) out.push_back(',');
            if (each.retired != nullptr) {
                append_retired(out, each.state, *each.retired);
            } else {
                append_job(out, each.state, each.job);
            }
            return --left_ > 0 && out.size() < enough;
        });
        if (pulled == Pulled::more && left_ == 0) pulled = Pulled::ended;
        if (pulled == Pulled::ended) out += "]\n";
        return pulled;
    }
    [[nodiscard]] std::string heartbeat() const override { return " "; }
    [[nodiscard]] std::string_view type() const override { return "application/json"; }

private:
    EndedJobs jobs_;
    std::uint64_t left_;  // rows that may come yet
    bool has_begun_ = false;
    bool is_first_ = true;
};

class HistorySums final : public Stream {
public:
    HistorySums(const Control& control, const Caller& caller, HistoryFilter filter)
        : jobs_{control, caller, std::move(filter)} {}

    Pulled pull(std::string& out) override {
        const auto pulled = jobs_.piece([&](const EndedJob& each) {
            const auto* tenant = each.state.find<TenantRow>(each.spec.tenant);
            auto& sum = sums_[{tenant == nullptr ? std::string{} : tenant->tenant.name, each.spec.owner}];
            const auto& account = each.job.account;
            ++sum.jobs;
            sum.charged += account.charged;
            sum.lost += account.lost;
            sum.recovered += account.recovered;
            sum.preempted += account.preempted;
            return true;
        });
        if (pulled == Pulled::ended) write(out);
        return pulled;
    }
    [[nodiscard]] std::size_t keeps() const override { return sums_.size() * (sizeof(Sum) + 128); }
    [[nodiscard]] std::string heartbeat() const override { return " "; }
    [[nodiscard]] std::string_view type() const override { return "application/json"; }

private:
    struct Sum {
        std::int64_t jobs = 0, charged = 0, lost = 0, recovered = 0, preempted = 0;
    };
    void write(std::string& out) const {
        JsonList rows{out};
        for (const auto& [whose, sum] : sums_) {
            json_string(rows.item() += R"({"tenant":)", whose.first);
            append_milli(out += fmt::format(R"(,"owner":{},"jobs":{},"charged_gpu_s":)", whose.second, sum.jobs),
                         sum.charged);
            append_milli(out += R"(,"lost_gpu_s":)", sum.lost);
            out += fmt::format(R"(,"recovered":{},"preempted":{}}})", sum.recovered, sum.preempted);
        }
        rows.close();
        out.push_back('\n');
    }

    EndedJobs jobs_;
    std::map<std::pair<std::string, std::uint32_t>, Sum> sums_;
};

}  // namespace

std::unique_ptr<Stream> list_history(const Control& control, const Caller& caller, HistoryFilter filter,
                                     std::uint64_t limit) {
    return std::make_unique<HistoryList>(control, caller, std::move(filter), limit);
}

std::unique_ptr<Stream> sum_history(const Control& control, const Caller& caller, HistoryFilter filter) {
    return std::make_unique<HistorySums>(control, caller, std::move(filter));
}

}  // namespace stargate::api
