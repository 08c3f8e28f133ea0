#pragma once

#include <functional>
#include <optional>

#include "store/port.hpp"
#include "store/sqlite/reader.hpp"
#include "store/sqlite/reserve.hpp"

namespace stargate::store {

/// The writing half. Every change is one transaction with one fsync.
class SqliteStore final : public SqliteReader, public Store {
public:
    SqliteStore(Opened opened, int checkpoint_pages, std::optional<Reserve> reserve)
        : SqliteReader{std::move(opened)}, checkpoint_pages_{checkpoint_pages}, reserve_{std::move(reserve)} {}
    ~SqliteStore() override;
    /// Call it once, before anything else.
    [[nodiscard]] Result<void> begin();

    [[nodiscard]] Result<Identity> begin_term(std::uint64_t above) override;
    [[nodiscard]] Result<Identity> renew_incarnation() override;
    [[nodiscard]] Committed commit(const Batch& batch) override;
    [[nodiscard]] Result<void> add_snapshot(const SnapshotRow& row) override;
    [[nodiscard]] Result<void> mark_verified(std::uint64_t fact_seq) override;
    [[nodiscard]] Result<void> forget_snapshot(std::uint64_t fact_seq) override;
    [[nodiscard]] Result<std::uint64_t> forget(const Retention& retention) override;
    [[nodiscard]] Result<void> maintain() override;

private:
    using Work = std::function<Result<void>()>;
    [[nodiscard]] Result<void> transact(const Work& work);
    [[nodiscard]] Result<void> stop(const Error& why);
    [[nodiscard]] Result<Identity> change_identity(const std::function<void(Identity&)>& change);
    [[nodiscard]] Result<void> save(StoreRow row);
    [[nodiscard]] Result<void> insert(const Batch& batch);
    [[nodiscard]] Result<std::uint64_t> run_and_count(Statement& statement);
    [[nodiscard]] Result<std::uint64_t> forget_rows(const Retention& retention);
    [[nodiscard]] Result<std::uint64_t> forget_log(const Retention& retention);

    int checkpoint_pages_;
    std::optional<Reserve> reserve_;
    std::uint64_t next_input_ = 1;
    std::uint64_t next_fact_ = 1;
    std::optional<Error> stopped_;  // why nothing may be written any more

    Statement begin_;
    Statement commit_;
    Statement roll_back_;
    Statement insert_input_;
    Statement insert_fact_;
    Statement insert_launch_;
    Statement insert_history_;
    Statement insert_key_;
};

}  // namespace stargate::store
