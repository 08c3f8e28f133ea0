#include "store/memory_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/check.hpp"

namespace stargate::store {
namespace {

tl::unexpected<Error> no_snapshot(std::uint64_t fact_seq) {
    return fail(Fault::not_found, fmt::format("there is no snapshot at fact {}", fact_seq));
}

/// Removes the seqs [first, before) from the front of a log, at most `limit` of them; returns how many.
template <class Row>
std::uint64_t trim(std::deque<Row>& rows, std::uint64_t& first, std::uint64_t before, std::uint64_t limit) {
    if (before <= first) return 0;
    const auto count = std::min({before - first, limit, std::uint64_t{rows.size()}});
    rows.erase(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count));
    first += count;
    return count;
}

template <class Row>
std::optional<Row> copy_of(const std::map<JobId, Row>& rows, JobId job) {
    const auto found = rows.find(job);
    return found == rows.end() ? std::nullopt : std::optional<Row>{found->second};
}

}  // namespace

Result<void> MemoryStore::check_running() const {
    if (is_stopped_) return fail(Fault::unknown_outcome, "an earlier commit has an unknown outcome");
    return {};
}

Result<LogExtent> MemoryStore::extent() {
    return LogExtent{first_input_, first_input_ + inputs_.size(), first_fact_, first_fact_ + facts_.size()};
}

Result<void> MemoryStore::read_inputs(std::uint64_t from, const InputVisitor& visit) {
    for (auto seq = std::max(from, first_input_); seq < first_input_ + inputs_.size(); ++seq) {
        const auto& input = inputs_[seq - first_input_];
        if (!visit(InputRow{seq, input.at, input.type, input.body})) break;
    }
    return {};
}

Result<void> MemoryStore::read_facts(std::uint64_t from, const FactVisitor& visit) {
    for (auto seq = std::max(from, first_fact_); seq < first_fact_ + facts_.size(); ++seq) {
        const auto& stored = facts_[seq - first_fact_];
        if (!visit(FactRow{seq, stored.input_seq, stored.fact.type, stored.fact.body})) break;
    }
    return {};
}

Result<std::optional<LaunchRow>> MemoryStore::find_launch(JobId job) {
    const auto after = launches_.upper_bound(job);
    if (after == launches_.begin()) return std::optional<LaunchRow>{};
    const auto& launch = std::prev(after)->second;
    if (job.value - launch.job.value >= launch.count) return std::optional<LaunchRow>{};
    return std::optional<LaunchRow>{launch};
}

Result<std::optional<KeyRow>> MemoryStore::find_key(TenantId tenant, std::string_view key) {
    const auto found = keys_.find(std::pair{tenant, std::string{key}});
    return found == keys_.end() ? std::nullopt : std::optional<KeyRow>{found->second};
}

Result<std::optional<HistoryRow>> MemoryStore::find_history(JobId job) { return copy_of(history_, job); }

Result<std::vector<HistoryRow>> MemoryStore::newest_history(std::size_t limit, const HistoryRow* before) {
    auto place = before == nullptr ? history_by_time_.end() : history_by_time_.lower_bound({before->at, before->job});
    std::vector<HistoryRow> rows;
    while (rows.size() < limit && place != history_by_time_.begin()) {
        --place;
        rows.push_back(history_.at(place->second));
    }
    return rows;
}

Result<std::vector<SnapshotRow>> MemoryStore::snapshots() {
    std::vector<SnapshotRow> rows;
    for (auto row = snapshots_.rbegin(); row != snapshots_.rend(); ++row) rows.push_back(row->second);
    return rows;
}

Result<Identity> MemoryStore::begin_term(std::uint64_t above) {
    if (auto running = check_running(); !running) return tl::unexpected(running.error());
    identity_.term = std::max(identity_.term, above) + 1;
    return identity_;
}

Result<Identity> MemoryStore::renew_incarnation() {
    if (auto running = check_running(); !running) return tl::unexpected(running.error());
    ++identity_.incarnation.back();  // no chance here: a simulation repeats to the bit
    return identity_;
}

Result<void> MemoryStore::check_free(const Batch& batch) const {
    std::set<JobId> launched;
    for (const auto& launch : batch.launches) {
        CHECK(launch.count >= 1);
        if (launches_.contains(launch.job) || !launched.insert(launch.job).second) {
            return fail(Fault::conflict, fmt::format("job {} has a launch already", launch.job.value));
        }
    }
    std::set<JobId> ended;
    for (const auto& row : batch.history) {
        if (history_.contains(row.job) || !ended.insert(row.job).second) {
            return fail(Fault::conflict, fmt::format("job {} is in the history already", row.job.value));
        }
    }
    std::set<std::pair<TenantId, std::string>> used;
    for (const auto& row : batch.keys) {
        const auto found = keys_.find(std::pair{row.tenant, row.key});
        const bool is_used = found != keys_.end() && found->second.expires_at > batch.at;
        if (is_used || !used.insert({row.tenant, row.key}).second) {
            return fail(Fault::conflict, fmt::format("the key {} of tenant {} is in use", row.key, row.tenant.value));
        }
    }
    return {};
}

void MemoryStore::append(const Batch& batch) {
    const auto first = first_input_ + inputs_.size();
    inputs_.insert(inputs_.end(), batch.inputs.begin(), batch.inputs.end());
    for (const auto& fact : batch.facts) {
        CHECK(!fact.cause || *fact.cause < batch.inputs.size());
        facts_.push_back({fact.cause ? first + *fact.cause : 0, fact});
    }
    for (const auto& row : batch.launches) launches_[row.job] = row;
    for (const auto& row : batch.history) {
        history_[row.job] = row;
        history_by_time_[{row.at, row.job}] = row.job;
    }
    for (const auto& row : batch.keys) keys_[{row.tenant, row.key}] = row;
}

Committed MemoryStore::commit(const Batch& batch) {
    if (auto running = check_running(); !running) return {Outcome::unknown, 0, 0, running.error()};
    const auto fate = std::exchange(next_commit_, Fate::written);
    if (fate == Fate::refused_full) return {Outcome::not_written, 0, 0, {Fault::full, "the disk is full"}};
    if (auto free = check_free(batch); !free) return {Outcome::not_written, 0, 0, free.error()};
    const Committed committed{Outcome::written, first_input_ + inputs_.size(), first_fact_ + facts_.size(), {}};
    if (fate != Fate::unknown_and_lost) append(batch);
    if (fate == Fate::written) return committed;
    is_stopped_ = true;
    return {Outcome::unknown, 0, 0, {Fault::unknown_outcome, "an fsync failed"}};
}

Result<void> MemoryStore::add_snapshot(const SnapshotRow& row) {
    if (auto running = check_running(); !running) return running;
    if (snapshots_.contains(row.fact_seq)) {
        return fail(Fault::conflict, fmt::format("there is a snapshot at fact {} already", row.fact_seq));
    }
    snapshots_[row.fact_seq] = row;
    return {};
}

Result<void> MemoryStore::mark_verified(std::uint64_t fact_seq) {
    if (auto running = check_running(); !running) return running;
    const auto found = snapshots_.find(fact_seq);
    if (found == snapshots_.end()) return no_snapshot(fact_seq);
    found->second.verified = true;
    return {};
}

Result<void> MemoryStore::forget_snapshot(std::uint64_t fact_seq) {
    if (auto running = check_running(); !running) return running;
    if (snapshots_.erase(fact_seq) == 0) return no_snapshot(fact_seq);
    return {};
}

Result<std::uint64_t> MemoryStore::forget(const Retention& retention) {
    if (auto running = check_running(); !running) return tl::unexpected(running.error());
    const std::uint64_t limit = retention.row_limit;
    std::uint64_t gone = trim(inputs_, first_input_, retention.inputs_before, limit) +
                         trim(facts_, first_fact_, retention.facts_before, limit);
    std::uint64_t expired = 0;
    for (auto key = keys_.begin(); key != keys_.end() && expired < limit;) {
        const bool is_expired = key->second.expires_at < retention.keys_expired_before;
        key = is_expired ? keys_.erase(key) : std::next(key);
        expired += is_expired ? 1 : 0;
    }
    std::uint64_t old = 0;
    while (!history_by_time_.empty() && old < limit) {
        const auto oldest = history_by_time_.begin();
        if (oldest->first.first >= retention.history_before) break;
        history_.erase(oldest->second);
        history_by_time_.erase(oldest);
        ++old;
    }
    for (const auto& job : retention.launches) gone += launches_.erase(job);
    return gone + expired + old;
}

}  // namespace stargate::store
