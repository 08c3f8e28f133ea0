#include "store/sqlite/writer.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/digest.hpp"

namespace stargate::store {
SqliteStore::~SqliteStore() {
    // An orderly close checkpoints and removes the WAL. After a failure nothing is touched: recovery shall see it as it
    // is.
    if (stopped_) database().leave_files_alone();
}

Result<void> SqliteStore::begin() {
    auto done = SqliteReader::prepare();
    const auto prepared = [&](Statement& into, const std::string& sql) {
        if (done) done = database().prepare_into(into, sql);
    };
    prepared(begin_, "BEGIN IMMEDIATE");
    prepared(commit_, "COMMIT");
    prepared(roll_back_, "ROLLBACK");
    prepared(insert_input_, fmt::format("INSERT INTO inputs ({}) VALUES (?,?,?,?,?)", input_columns));
    prepared(insert_fact_, fmt::format("INSERT INTO facts ({}) VALUES (?,?,?,?,?)", fact_columns));
    prepared(insert_launch_, fmt::format("INSERT INTO launches ({}) VALUES (?,?,?,?)", launch_columns));
    prepared(insert_history_, fmt::format("INSERT INTO history ({}) VALUES (?,?,?,?)", history_columns));
    // An expired key may be used again before it has been forgotten; place 7 is the batch's time.
    prepared(insert_key_,
             fmt::format("INSERT INTO keys ({}) VALUES (?,?,?,?,?,?) ON CONFLICT (tenant, key) DO UPDATE SET "
                         "body_hash = excluded.body_hash, first_job = excluded.first_job, "
                         "expires_at = excluded.expires_at, checksum = excluded.checksum WHERE keys.expires_at <= ?",
                         key_columns));
    if (!done) return done;
    const auto log = extent();
    if (!log) return tl::unexpected(log.error());
    next_input_ = log->end_input;
    next_fact_ = log->end_fact;
    return {};
}

/// Runs `work` between BEGIN and COMMIT. Any fault but unknown_outcome proves that nothing of it was written.
Result<void> SqliteStore::transact(const Work& work) {
    if (stopped_) return tl::unexpected(*stopped_);
    auto done = begin_.run();
    if (!done) return done.error().fault == Fault::unknown_outcome ? stop(done.error()) : done;
    done = work();
    if (done) {
        done = commit_.run();
        if (done) return done;
        // A full disk refused a frame of the WAL, so the last one, which alone makes the transaction count, is not
        // whole. Whatever else fails in COMMIT may have failed behind that frame.
        if (done.error().fault != Fault::full) return stop(done.error());
    }
    if (done.error().fault == Fault::unknown_outcome) return stop(done.error());
    // On some errors SQLite has rolled back by itself.
    if (database().is_in_transaction()) {
        if (auto undone = roll_back_.run(); !undone) return stop(undone.error());
    }
    return done;
}

Result<void> SqliteStore::stop(const Error& why) {
    stopped_ = Error{Fault::unknown_outcome,
                     why.detail + "; it is not known what the last write left: stop, start again and look"};
    return tl::unexpected(*stopped_);
}

Result<void> SqliteStore::save(StoreRow row) {
    auto update = database().prepare(fmt::format("UPDATE store SET ({}) = (?,?,?,?,?) WHERE one = 1", store_columns));
    if (!update) return tl::unexpected(update.error());
    bind(*update, row);
    return update->run();
}

Result<Identity> SqliteStore::change_identity(const std::function<void(Identity&)>& change) {
    Identity identity;
    const auto done = transact([&]() -> Result<void> {
        auto row = store_row();
        if (!row) return tl::unexpected(row.error());
        change(row->identity);
        identity = row->identity;
        return save(*row);
    });
    if (!done) return tl::unexpected(done.error());
    return identity;
}

Result<Identity> SqliteStore::begin_term(std::uint64_t above) {
    return change_identity([above](Identity& identity) { identity.term = std::max(identity.term, above) + 1; });
}

Result<Identity> SqliteStore::renew_incarnation() {
    return change_identity([](Identity& identity) { identity.incarnation = random_bytes(); });
}

Result<void> SqliteStore::insert(const Batch& batch) {
    Result<void> done;
    const auto add = [&done](Statement& statement, const auto& row) {
        bind(statement, row);
        done = statement.run();
        return done.has_value();
    };
    auto input_seq = next_input_;
    for (const auto& input : batch.inputs) {
        if (!add(insert_input_, InputRow{input_seq++, input.at, input.type, input.body})) return done;
    }
    auto fact_seq = next_fact_;
    for (const auto& fact : batch.facts) {
        CHECK(!fact.cause || *fact.cause < batch.inputs.size());
        const auto cause = fact.cause ? next_input_ + *fact.cause : 0;
        if (!add(insert_fact_, FactRow{fact_seq++, cause, fact.type, fact.body})) return done;
    }
    for (const auto& launch : batch.launches) {
        CHECK(launch.count >= 1);
        if (!add(insert_launch_, launch)) return done;
    }
    for (const auto& ended : batch.history) {
        if (!add(insert_history_, ended)) return done;
    }
    for (const auto& key : batch.keys) {
        insert_key_.bind(7, column_of(batch.at));
        if (!add(insert_key_, key)) return done;
        if (database().changed_rows() != 1) {
            return fail(Fault::conflict, fmt::format("the key {} of tenant {} is in use", key.key, key.tenant.value));
        }
    }
    return done;
}

Committed SqliteStore::commit(const Batch& batch) {
    const auto done = transact([&] { return insert(batch); });
    if (!done) {
        const bool is_unknown = done.error().fault == Fault::unknown_outcome;
        return {is_unknown ? Outcome::unknown : Outcome::not_written, 0, 0, done.error()};
    }
    const Committed committed{Outcome::written, next_input_, next_fact_, {}};
    next_input_ += batch.inputs.size();
    next_fact_ += batch.facts.size();
    return committed;
}

Result<std::uint64_t> SqliteStore::run_and_count(Statement& statement) {
    return statement.run().map([&] { return static_cast<std::uint64_t>(database().changed_rows()); });
}

Result<void> SqliteStore::add_snapshot(const SnapshotRow& row) {
    return transact([&]() -> Result<void> {
        auto insert =
            database().prepare(fmt::format("INSERT INTO snapshots ({}) VALUES (?,?,?,?,?,?)", snapshot_columns));
        if (!insert) return tl::unexpected(insert.error());
        bind(*insert, row);
        return insert->run();
    });
}

Result<void> SqliteStore::mark_verified(std::uint64_t fact_seq) {
    return transact([&]() -> Result<void> {
        const auto rows = snapshots();
        if (!rows) return tl::unexpected(rows.error());
        const auto found =
            std::find_if(rows->begin(), rows->end(), [&](const auto& row) { return row.fact_seq == fact_seq; });
        if (found == rows->end())
            return fail(Fault::not_found, fmt::format("there is no snapshot at fact {}", fact_seq));
        auto row = *found;
        row.verified = true;
        auto update = database().prepare(
            fmt::format("UPDATE snapshots SET ({}) = (?,?,?,?,?,?) WHERE fact_seq = ?", snapshot_columns));
        if (!update) return tl::unexpected(update.error());
        bind(*update, row);
        return update->bind(7, fact_seq).run();
    });
}

Result<void> SqliteStore::forget_snapshot(std::uint64_t fact_seq) {
    return transact([&]() -> Result<void> {
        auto remove = database().prepare("DELETE FROM snapshots WHERE fact_seq = ?");
        if (!remove) return tl::unexpected(remove.error());
        const auto gone = run_and_count(remove->bind(1, fact_seq));
        if (!gone) return tl::unexpected(gone.error());
        if (*gone == 0) return fail(Fault::not_found, fmt::format("there is no snapshot at fact {}", fact_seq));
        return {};
    });
}

Result<std::uint64_t> SqliteStore::forget(const Retention& retention) {
    std::uint64_t gone = 0;
    const auto done = transact([&]() -> Result<void> {
        const auto rows = forget_rows(retention);
        if (!rows) return tl::unexpected(rows.error());
        const auto log = forget_log(retention);
        if (!log) return tl::unexpected(log.error());
        gone = *rows + *log;
        return {};
    });
    if (!done) return tl::unexpected(done.error());
    return gone;
}

Result<std::uint64_t> SqliteStore::forget_rows(const Retention& retention) {
    std::uint64_t gone = 0;
    const auto run = [&](std::string_view sql, std::int64_t before, std::int64_t limit) -> Result<void> {
        auto statement = database().prepare(sql);
        if (!statement) return tl::unexpected(statement.error());
        statement->bind(1, before);
        if (limit > 0) statement->bind(2, limit);
        return run_and_count(*statement).map([&](std::uint64_t rows) { gone += rows; });
    };
    const std::int64_t limit = retention.row_limit;
    auto done =
        run("DELETE FROM keys WHERE (tenant, key) IN (SELECT tenant, key FROM keys WHERE expires_at < ? "
            "ORDER BY expires_at LIMIT ?)",
            column_of(retention.keys_expired_before), limit);
    if (done) {
        done = run("DELETE FROM history WHERE job IN (SELECT job FROM history WHERE at < ? ORDER BY at LIMIT ?)",
                   column_of(retention.history_before), limit);
    }
    for (const auto& job : retention.launches) {
        if (done) done = run("DELETE FROM launches WHERE job = ?", static_cast<std::int64_t>(job.value), 0);
    }
    if (!done) return tl::unexpected(done.error());
    return gone;
}

Result<std::uint64_t> SqliteStore::forget_log(const Retention& retention) {
    auto row = store_row();
    if (!row) return tl::unexpected(row.error());
    // Removes [first, first + row_limit) as far as asked for, and moves `first` along.
    const auto run = [&](std::string_view sql, std::uint64_t& first, std::uint64_t asked,
                         std::uint64_t next) -> Result<std::uint64_t> {
        const auto before = std::min({asked, next, first + retention.row_limit});
        if (before <= first) return 0;
        auto statement = database().prepare(sql);
        if (!statement) return tl::unexpected(statement.error());
        first = before;
        return run_and_count(statement->bind(1, before));
    };
    const auto inputs = run("DELETE FROM inputs WHERE seq < ?", row->first_input, retention.inputs_before, next_input_);
    if (!inputs) return inputs;
    const auto facts = run("DELETE FROM facts WHERE seq < ?", row->first_fact, retention.facts_before, next_fact_);
    if (!facts) return facts;
    if (*inputs + *facts > 0) {
        if (auto saved = save(*row); !saved) return tl::unexpected(saved.error());
    }
    return *inputs + *facts;
}

Result<void> SqliteStore::maintain() {
    if (stopped_) return tl::unexpected(*stopped_);
    Result<void> done;
    if (database().wal_pages() >= checkpoint_pages_) done = database().checkpoint();
    // Without an fsync that failed, a checkpoint left half is simply done again: the WAL still holds every page.
    if (!done && done.error().fault == Fault::unknown_outcome) return stop(done.error());
    // Also beside a checkpoint that failed: the WAL grows meanwhile.
    if (reserve_) {
        if (auto kept = reserve_->keep(database().wal_pages()); !kept) return kept;
    }
    return done;
}

}  // namespace stargate::store
