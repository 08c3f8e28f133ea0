#include "store/sqlite/reader.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace stargate::store {
namespace {

Error gap(const char* kind, std::uint64_t missing) {
    return {Fault::malformed, fmt::format("the log is damaged: {} {} is missing", kind, missing)};
}

/// Walks a part of the log in order of seq; the rows must follow each other without a gap. `first_kept` says where the
/// log begins in the same look: the writer may have forgotten rows since `from` was chosen.
template <class Row>
Result<void> walk(Statement& statement, std::uint64_t from, Result<Row> (*read)(const Statement&), const char* kind,
                  const std::function<bool(const Row&)>& visit,
                  const std::function<Result<std::uint64_t>()>& first_kept) {
    const ResetAtEnd reset{statement};
    statement.bind(1, from);
    auto expected = from;
    for (bool is_first = true;; is_first = false) {
        const auto found = statement.step();
        if (!found) return tl::unexpected(found.error());
        if (!*found) return {};
        const auto row = read(statement);
        if (!row) return tl::unexpected(row.error());
        if (row->seq != expected && is_first) expected = std::max(expected, first_kept().value_or(0));
        if (row->seq != expected) return tl::unexpected(gap(kind, expected));
        expected = row->seq + 1;
        if (!visit(*row)) return {};
    }
}

/// The row that a statement finds, if any.
template <class Row>
Result<std::optional<Row>> one(Statement& statement, Result<Row> (*read)(const Statement&)) {
    const ResetAtEnd reset{statement};
    const auto found = statement.step();
    if (!found) return tl::unexpected(found.error());
    if (!*found) return std::optional<Row>{};
    auto row = read(statement);
    if (!row) return tl::unexpected(row.error());
    return std::optional<Row>{std::move(*row)};
}

/// All rows that a statement finds.
template <class Row>
Result<std::vector<Row>> all(Statement& statement, Result<Row> (*read)(const Statement&)) {
    const ResetAtEnd reset{statement};
    std::vector<Row> rows;
    for (;;) {
        const auto found = statement.step();
        if (!found) return tl::unexpected(found.error());
        if (!*found) return rows;
        auto row = read(statement);
        if (!row) return tl::unexpected(row.error());
        rows.push_back(std::move(*row));
    }
}

}  // namespace

Result<void> SqliteReader::prepare() {
    Result<void> done;
    const auto prepared = [&](Statement& into, const std::string& sql) {
        if (done) done = database().prepare_into(into, sql);
    };
    prepared(extent_, fmt::format("SELECT {}, (SELECT max(seq) FROM inputs), (SELECT max(seq) FROM facts) "
                                  "FROM store WHERE one = 1",
                                  store_columns));
    prepared(store_row_, fmt::format("SELECT {} FROM store WHERE one = 1", store_columns));
    prepared(inputs_, fmt::format("SELECT {} FROM inputs WHERE seq >= ? ORDER BY seq", input_columns));
    prepared(facts_, fmt::format("SELECT {} FROM facts WHERE seq >= ? ORDER BY seq", fact_columns));
    prepared(launch_, fmt::format("SELECT {} FROM launches WHERE job <= ? ORDER BY job DESC LIMIT 1", launch_columns));
    prepared(key_, fmt::format("SELECT {} FROM keys WHERE tenant = ? AND key = ?", key_columns));
    prepared(one_history_, fmt::format("SELECT {} FROM history WHERE job = ?", history_columns));
    prepared(history_, fmt::format("SELECT {} FROM history WHERE (at, job) < (?, ?) "
                                   "ORDER BY at DESC, job DESC LIMIT ?",
                                   history_columns));
    prepared(snapshots_, fmt::format("SELECT {} FROM snapshots ORDER BY fact_seq DESC", snapshot_columns));
    return done;
}

Result<StoreRow> SqliteReader::store_row() {
    auto row = one(store_row_, read_store_row);
    if (!row) return tl::unexpected(row.error());
    if (!*row) return fail(Fault::malformed, "the store has lost its identity row: it is damaged");
    return **row;
}

Result<Identity> SqliteReader::identity() {
    return store_row().map([](const StoreRow& row) { return row.identity; });
}

Result<LogExtent> SqliteReader::extent() {
    const ResetAtEnd reset{extent_};
    const auto found = extent_.step();
    if (!found) return tl::unexpected(found.error());
    if (!*found) return fail(Fault::malformed, "the store has lost its identity row: it is damaged");
    const auto row = read_store_row(extent_);
    if (!row) return tl::unexpected(row.error());
    // A max() over no rows is NULL and reads as 0.
    return LogExtent{row->first_input, std::max(row->first_input, extent_.whole(5) + 1), row->first_fact,
                     std::max(row->first_fact, extent_.whole(6) + 1)};
}

Result<void> SqliteReader::read_inputs(std::uint64_t from, const InputVisitor& visit) {
    const auto row = store_row();
    if (!row) return tl::unexpected(row.error());
    return walk<InputRow>(inputs_, std::max(from, row->first_input), read_input_row, "input", visit,
                          [this] { return store_row().map([](const StoreRow& now) { return now.first_input; }); });
}

Result<void> SqliteReader::read_facts(std::uint64_t from, const FactVisitor& visit) {
    const auto row = store_row();
    if (!row) return tl::unexpected(row.error());
    return walk<FactRow>(facts_, std::max(from, row->first_fact), read_fact_row, "fact", visit,
                         [this] { return store_row().map([](const StoreRow& now) { return now.first_fact; }); });
}

Result<std::optional<LaunchRow>> SqliteReader::find_launch(JobId job) {
    launch_.bind(1, job.value);
    auto row = one(launch_, read_launch_row);
    if (row && *row && job.value - (*row)->job.value >= (*row)->count) return std::optional<LaunchRow>{};
    return row;
}

Result<std::optional<KeyRow>> SqliteReader::find_key(TenantId tenant, std::string_view key) {
    key_.bind(1, tenant.value).bind_bytes(2, key);
    return one(key_, read_key_row);
}

Result<std::optional<HistoryRow>> SqliteReader::find_history(JobId job) {
    one_history_.bind(1, job.value);
    return one(one_history_, read_history_row);
}

Result<std::vector<HistoryRow>> SqliteReader::newest_history(std::size_t limit, const HistoryRow* before) {
    history_.bind(1, before == nullptr ? INT64_MAX : column_of(before->at));
    history_.bind(2, before == nullptr ? std::uint64_t{INT64_MAX} : before->job.value);
    history_.bind(3, std::uint64_t{std::min<std::size_t>(limit, INT64_MAX)});
    return all(history_, read_history_row);
}

Result<std::vector<SnapshotRow>> SqliteReader::snapshots() { return all(snapshots_, read_snapshot_row); }

}  // namespace stargate::store
