#pragma once

#include "base/result.hpp"
#include "store/rows.hpp"
#include "store/sqlite/database.hpp"

/// How each kind of row lies in its table. SQLite has no checksums of its own on its pages, so every row carries one
/// over all its columns: a flipped bit is found when the row is read, before anything is decided from it.
namespace stargate::store {

/// The one row of the table `store`.
struct StoreRow {
    Identity identity;
    std::uint64_t first_input = 1;  // seqs below have been forgotten
    std::uint64_t first_fact = 1;
};

/// The columns, in the order in which bind() sets and read() finds them.
inline constexpr std::string_view store_columns = "incarnation, term, first_input, first_fact, checksum";
inline constexpr std::string_view input_columns = "seq, at, type, body, checksum";
inline constexpr std::string_view fact_columns = "seq, input_seq, type, body, checksum";
inline constexpr std::string_view launch_columns = "job, count, body, checksum";
inline constexpr std::string_view history_columns = "job, at, body, checksum";
inline constexpr std::string_view key_columns = "tenant, key, body_hash, first_job, expires_at, checksum";
inline constexpr std::string_view snapshot_columns = "fact_seq, input_seq, file, digest, verified, checksum";

/// Bound bytes belong to the row: it must live until the statement is reset.
void bind(Statement& to, const StoreRow& row);
void bind(Statement& to, const InputRow& row);
void bind(Statement& to, const FactRow& row);
void bind(Statement& to, const LaunchRow& row);
void bind(Statement& to, const HistoryRow& row);
void bind(Statement& to, const KeyRow& row);
void bind(Statement& to, const SnapshotRow& row);

/// The row on which the statement stands. Fault::malformed when its checksum does not fit.
[[nodiscard]] Result<StoreRow> read_store_row(const Statement& from);
[[nodiscard]] Result<InputRow> read_input_row(const Statement& from);
[[nodiscard]] Result<FactRow> read_fact_row(const Statement& from);
[[nodiscard]] Result<LaunchRow> read_launch_row(const Statement& from);
[[nodiscard]] Result<HistoryRow> read_history_row(const Statement& from);
[[nodiscard]] Result<KeyRow> read_key_row(const Statement& from);
[[nodiscard]] Result<SnapshotRow> read_snapshot_row(const Statement& from);

/// What stands in a row's checksum column: for the first row of a new store, which SQL text writes, and for rows of the
/// log that leave the database for a sealed segment.
std::int64_t checksum_of(const StoreRow& row);
std::int64_t checksum_of(const InputRow& row);
std::int64_t checksum_of(const FactRow& row);

/// An Instant as its column holds it: microseconds.
std::int64_t column_of(Instant at);

}  // namespace stargate::store
