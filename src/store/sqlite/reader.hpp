#pragma once

#include <memory>
#include <optional>

#include "base/file_lock.hpp"
#include "store/port.hpp"
#include "store/sqlite/database.hpp"
#include "store/sqlite/disk_vfs.hpp"
#include "store/sqlite/rows.hpp"

namespace stargate::store {

/// An open database with all that must live as long as it. What is last goes away first.
struct Opened {
    std::optional<FileLock> lock;  // held by the writer
    std::unique_ptr<DiskVfs> vfs;  // in simulations
    std::unique_ptr<Database> database;
};

/// The reading half of a store in SQLite, of the writer and of read-only openings.
class SqliteReader : public virtual Reader {
public:
    explicit SqliteReader(Opened opened) : opened_{std::move(opened)} {}
    /// Call it once, before anything else. The database must have passed check_schema().
    [[nodiscard]] Result<void> prepare();

    [[nodiscard]] Result<StoreRow> store_row();
    [[nodiscard]] Result<Identity> identity() override;
    [[nodiscard]] Result<LogExtent> extent() override;
    [[nodiscard]] Result<void> read_inputs(std::uint64_t from, const InputVisitor& visit) override;
    [[nodiscard]] Result<void> read_facts(std::uint64_t from, const FactVisitor& visit) override;
    [[nodiscard]] Result<std::optional<LaunchRow>> find_launch(JobId job) override;
    [[nodiscard]] Result<std::optional<KeyRow>> find_key(TenantId tenant, std::string_view key) override;
    [[nodiscard]] Result<std::optional<HistoryRow>> find_history(JobId job) override;
    [[nodiscard]] Result<std::vector<HistoryRow>> newest_history(std::size_t limit, const HistoryRow* before) override;
    [[nodiscard]] Result<std::vector<SnapshotRow>> snapshots() override;

    [[nodiscard]] Database& database() { return *opened_.database; }

private:
    Opened opened_;
    Statement store_row_;
    Statement extent_;  // the store row and both ends of the log in one consistent look
    Statement inputs_;
    Statement facts_;
    Statement launch_;
    Statement key_;
    Statement one_history_;
    Statement history_;
    Statement snapshots_;
};

}  // namespace stargate::store
