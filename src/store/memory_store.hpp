#pragma once

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "store/port.hpp"

namespace stargate::store {

/// A store without a disk, for the twin and for tests. It outlives the simulated control plane as a disk would.
class MemoryStore : public Store {
public:
    explicit MemoryStore(const Incarnation& incarnation = {1}) : identity_{incarnation, 0} {}

    /// What shall become of the next commit. After the unknown ones the store is stopped until restart().
    enum class Fate { written, refused_full, unknown_but_written, unknown_and_lost };
    void set_next_commit(Fate fate) { next_commit_ = fate; }
    /// The process that had this store open has ended, and another opens it.
    void restart() { is_stopped_ = false; }

    [[nodiscard]] Result<Identity> identity() override { return identity_; }
    [[nodiscard]] Result<LogExtent> extent() override;
    [[nodiscard]] Result<void> read_inputs(std::uint64_t from, const InputVisitor& visit) override;
    [[nodiscard]] Result<void> read_facts(std::uint64_t from, const FactVisitor& visit) override;
    [[nodiscard]] Result<std::optional<LaunchRow>> find_launch(JobId job) override;
    [[nodiscard]] Result<std::optional<KeyRow>> find_key(TenantId tenant, std::string_view key) override;
    [[nodiscard]] Result<std::optional<HistoryRow>> find_history(JobId job) override;
    [[nodiscard]] Result<std::vector<HistoryRow>> newest_history(std::size_t limit, const HistoryRow* before) override;
    [[nodiscard]] Result<std::vector<SnapshotRow>> snapshots() override;

    [[nodiscard]] Result<Identity> begin_term(std::uint64_t above) override;
    [[nodiscard]] Result<Identity> renew_incarnation() override;
    [[nodiscard]] Committed commit(const Batch& batch) override;
    [[nodiscard]] Result<void> add_snapshot(const SnapshotRow& row) override;
    [[nodiscard]] Result<void> mark_verified(std::uint64_t fact_seq) override;
    [[nodiscard]] Result<void> forget_snapshot(std::uint64_t fact_seq) override;
    [[nodiscard]] Result<std::uint64_t> forget(const Retention& retention) override;
    [[nodiscard]] Result<void> maintain() override { return check_running(); }

private:
    struct StoredFact {
        std::uint64_t input_seq = 0;
        LoggedFact fact;
    };
    [[nodiscard]] Result<void> check_running() const;
    [[nodiscard]] Result<void> check_free(const Batch& batch) const;
    void append(const Batch& batch);

    Identity identity_;
    std::uint64_t first_input_ = 1;  // seq of inputs_[0]
    std::uint64_t first_fact_ = 1;
    std::deque<LoggedInput> inputs_;
    std::deque<StoredFact> facts_;
    std::map<JobId, LaunchRow> launches_;
    std::map<JobId, HistoryRow> history_;
    std::map<std::pair<Instant, JobId>, JobId> history_by_time_;
    std::map<std::pair<TenantId, std::string>, KeyRow, std::less<>> keys_;
    std::map<std::uint64_t, SnapshotRow> snapshots_;
    Fate next_commit_ = Fate::written;
    bool is_stopped_ = false;
};

}  // namespace stargate::store
