#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "store/rows.hpp"

namespace stargate::store {

/// Return false to stop reading.
using InputVisitor = std::function<bool(const InputRow&)>;
using FactVisitor = std::function<bool(const FactRow&)>;

/// Reads a store. Used by one thread; beside a live writer a reader of its own sees every batch whole or not at all,
/// and each call sees the newest one. Fault::malformed means damage: a row whose checksum does not fit is never handed
/// out.
class Reader {
public:
    Reader() = default;
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    virtual ~Reader() = default;

    [[nodiscard]] virtual Result<Identity> identity() = 0;
    [[nodiscard]] virtual Result<LogExtent> extent() = 0;

    /// In order of seq, starting with `from` or the first one kept. A gap is Fault::malformed. The visitor must not
    /// call this store.
    [[nodiscard]] virtual Result<void> read_inputs(std::uint64_t from, const InputVisitor& visit) = 0;
    [[nodiscard]] virtual Result<void> read_facts(std::uint64_t from, const FactVisitor& visit) = 0;

    /// The launch of the array that `job` belongs to.
    [[nodiscard]] virtual Result<std::optional<LaunchRow>> find_launch(JobId job) = 0;
    /// Also a key that has expired and is not yet forgotten: look at expires_at.
    [[nodiscard]] virtual Result<std::optional<KeyRow>> find_key(TenantId tenant, std::string_view key) = 0;
    [[nodiscard]] virtual Result<std::optional<HistoryRow>> find_history(JobId job) = 0;
    /// At most `limit` rows, the last ended first (of one instant, the highest job id first). `before` continues a
    /// listing after the row that it ended with.
    [[nodiscard]] virtual Result<std::vector<HistoryRow>> newest_history(std::size_t limit,
                                                                         const HistoryRow* before = nullptr) = 0;
    /// Newest first.
    [[nodiscard]] virtual Result<std::vector<SnapshotRow>> snapshots() = 0;
};

/// The one writer of a store. Whatever answers success (or Outcome::written) has been fsynced. After the first
/// Outcome::unknown or Fault::unknown_outcome everything answers the same: nothing is tried again.
class Store : public virtual Reader {
public:
    /// Raises the term, also beyond `above`: an older copy of a store may have been put back beside executors that obey
    /// a later term of it. Called once by each start or takeover, before anything is commanded.
    [[nodiscard]] virtual Result<Identity> begin_term(std::uint64_t above) = 0;
    /// A restored backup is another life: a new incarnation, which executors do not know.
    [[nodiscard]] virtual Result<Identity> renew_incarnation() = 0;

    /// Not written with Fault::conflict: a launch or history of that job is there already, or the key is and has not
    /// expired at batch.at. With Fault::full: the disk is full; running work is not touched by it.
    [[nodiscard]] virtual Committed commit(const Batch& batch) = 0;

    /// The file must be durable already. Fault::conflict when that fact_seq has a snapshot.
    [[nodiscard]] virtual Result<void> add_snapshot(const SnapshotRow& row) = 0;
    /// Fault::not_found when there is none of that fact_seq.
    [[nodiscard]] virtual Result<void> mark_verified(std::uint64_t fact_seq) = 0;
    /// Forget first, then remove the file.
    [[nodiscard]] virtual Result<void> forget_snapshot(std::uint64_t fact_seq) = 0;

    /// Returns how many rows went; call again while it is not 0. Frees room, never loses a seq.
    [[nodiscard]] virtual Result<std::uint64_t> forget(const Retention& retention) = 0;

    /// Housekeeping that a commit shall not wait for: call it after answering. Cheap when there is nothing to do.
    /// Fault::full: the disk is full, and what can still be committed uses up the room that is kept for ends.
    [[nodiscard]] virtual Result<void> maintain() = 0;
};

}  // namespace stargate::store
