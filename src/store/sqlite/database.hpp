#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace stargate::store {

/// A prepared statement. Bound texts and blobs must live until reset().
class Statement {
public:
    Statement() = default;
    Statement(sqlite3* database, sqlite3_stmt* statement) : database_{database}, statement_{statement} {}

    Statement& bind(int place, std::int64_t number);  // places count from 1
    Statement& bind(int place, std::uint64_t number);
    Statement& bind_bytes(int place, std::string_view bytes);  // for a BLOB column
    Statement& bind_text(int place, std::string_view text);    // for a TEXT column

    /// True when it stands on a row. After an error or the last row it is reset by itself.
    [[nodiscard]] Result<bool> step();
    /// For statements that give no row.
    [[nodiscard]] Result<void> run();
    void reset();

    [[nodiscard]] std::int64_t integer(int column) const;  // columns count from 0
    [[nodiscard]] std::uint64_t whole(int column) const { return static_cast<std::uint64_t>(integer(column)); }
    [[nodiscard]] std::string_view bytes(int column) const;  // valid until the next step

private:
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const;
    };
    sqlite3* database_ = nullptr;
    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// Resets a statement at the end of a block, so that no read transaction stays open behind an early return.
class ResetAtEnd {
public:
    explicit ResetAtEnd(Statement& statement) : statement_{statement} {}
    ResetAtEnd(const ResetAtEnd&) = delete;
    ResetAtEnd& operator=(const ResetAtEnd&) = delete;
    ~ResetAtEnd() { statement_.reset(); }

private:
    Statement& statement_;
};

enum class Access { read_only, read_write };

/// A connection to one database file, and the only place that knows SQLite's calls and result codes.
/// Faults: full (disk full, nothing torn), unknown_outcome (an fsync failed), malformed (damaged, or no database at
/// all), conflict (a constraint), denied, unavailable (anything else).
class Database {
public:
    /// `vfs` names SQLite's file layer; empty for the ordinary one. The file must exist.
    [[nodiscard]] static Result<Database> open(const std::string& path, Access access, const std::string& vfs);
    /// A fresh database in memory, made by `sql` and returned as the bytes of a database file in WAL mode. So a new
    /// store appears whole, by one durable write, and SQLite's rollback journal is never used.
    [[nodiscard]] static Result<std::string> image(const std::string& sql);

    [[nodiscard]] Result<Statement> prepare(std::string_view sql);
    [[nodiscard]] Result<void> prepare_into(Statement& statement, std::string_view sql);
    /// Runs statements that take no values.
    [[nodiscard]] Result<void> execute(const std::string& sql);
    [[nodiscard]] Result<std::int64_t> number(std::string_view sql);
    [[nodiscard]] std::int64_t changed_rows() const;
    [[nodiscard]] bool is_in_transaction() const;

    /// Pages that commits have left in the WAL, as of the last commit of this connection.
    [[nodiscard]] int wal_pages() const { return *wal_pages_; }
    /// Copies WAL pages into the database as far as no reader needs them there, with the fsyncs that it takes.
    [[nodiscard]] Result<void> checkpoint();
    /// Closing shall leave the files as they are: for a connection whose fsync has failed.
    void leave_files_alone();

private:
    struct Close {
        void operator()(sqlite3* database) const;
    };
    explicit Database(sqlite3* database);

    std::unique_ptr<int> wal_pages_ = std::make_unique<int>(0);  // SQLite holds its address
    std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace stargate::store
