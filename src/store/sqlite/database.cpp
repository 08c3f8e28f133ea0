#include "store/sqlite/database.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>

#include "base/check.hpp"

namespace stargate::store {
namespace {

/// The errno of the last operation on the WAL that failed, which the result code does not tell.
int wal_error(sqlite3* database) {
    sqlite3_file* wal = nullptr;
    int code = 0;
    if (sqlite3_file_control(database, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) != SQLITE_OK) return 0;
    if (wal == nullptr || wal->pMethods == nullptr) return 0;
    return wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &code) == SQLITE_OK ? code : 0;
}

Fault fault_of(int extended_code) {
    if (extended_code == SQLITE_IOERR_FSYNC || extended_code == SQLITE_IOERR_DIR_FSYNC) return Fault::unknown_outcome;
    switch (extended_code & 0xff) {
        case SQLITE_FULL:
            return Fault::full;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_MISMATCH:
            return Fault::malformed;
        case SQLITE_CONSTRAINT:
            return Fault::conflict;
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
            return Fault::denied;
        default:
            return Fault::unavailable;
    }
}

tl::unexpected<Error> fail_with(sqlite3* database) {
    const int code = sqlite3_extended_errcode(database);
    // SQLite knows one errno of a full disk. A used-up quota is the same to us: that frame was not written. In a commit
    // the WAL is all that is written, and each write of it that fails notes its errno, so what is read here is of this
    // failure. (Of a checkpoint's, where it may be older, nobody asks more than whether an fsync failed.)
    const bool is_over_quota = code == SQLITE_IOERR_WRITE && wal_error(database) == EDQUOT;
    return fail(is_over_quota ? Fault::full : fault_of(code),
                fmt::format("SQLite says: {} ({})", sqlite3_errmsg(database), code));
}

int note_wal_pages(void* pages, sqlite3*, const char*, int count) {
    *static_cast<int*>(pages) = count;
    return SQLITE_OK;
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Statement& Statement::bind(int place, std::int64_t number) {
    CHECK(sqlite3_bind_int64(statement_.get(), place, number) == SQLITE_OK);
    return *this;
}

Statement& Statement::bind(int place, std::uint64_t number) {
    CHECK(number <= static_cast<std::uint64_t>(INT64_MAX));
    return bind(place, static_cast<std::int64_t>(number));
}

// A value over SQLite's limit of 10^9 bytes binds nothing: NOT NULL then refuses the row, and its batch is not written.
Statement& Statement::bind_bytes(int place, std::string_view bytes) {
    // A null pointer would bind NULL, also with size 0.
    const char* data = bytes.empty() ? "" : bytes.data();
    if (sqlite3_bind_blob64(statement_.get(), place, data, bytes.size(), SQLITE_STATIC) != SQLITE_OK) {
        sqlite3_bind_null(statement_.get(), place);
    }
    return *this;
}

Statement& Statement::bind_text(int place, std::string_view text) {
    const char* data = text.empty() ? "" : text.data();
    if (sqlite3_bind_text64(statement_.get(), place, data, text.size(), SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK) {
        sqlite3_bind_null(statement_.get(), place);
    }
    return *this;
}

Result<bool> Statement::step() {
    const int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) {
        reset();
        return false;
    }
    auto failure = fail_with(database_);
    reset();
    return failure;
}

Result<void> Statement::run() {
    const auto row = step();
    if (!row) return tl::unexpected(row.error());
    if (*row) reset();
    return {};
}

void Statement::reset() { sqlite3_reset(statement_.get()); }

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string_view Statement::bytes(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
    return data == nullptr ? std::string_view{} : std::string_view{data, size};
}

void Database::Close::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

Database::Database(sqlite3* database) : database_{database} {
    sqlite3_extended_result_codes(database, 1);
    sqlite3_busy_timeout(database, 1000);  // ms; only a reader that recovers a WAL can be in the way, and only briefly
    // Takes the place of SQLite's own hook, which would checkpoint within a commit (and PRAGMA wal_autocheckpoint would
    // put that one back).
    sqlite3_wal_hook(database, note_wal_pages, wal_pages_.get());
}

Result<Database> Database::open(const std::string& path, Access access, const std::string& vfs) {
    const int mode = access == Access::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    sqlite3* handle = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &handle, mode | SQLITE_OPEN_NOMUTEX, vfs.empty() ? nullptr : vfs.c_str());
    CHECK(handle != nullptr);
    Database database{handle};
    if (code != SQLITE_OK) return fail_with(handle);
    return database;
}

Result<std::string> Database::image(const std::string& sql) {
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(":memory:", &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    CHECK(handle != nullptr);
    Database database{handle};
    if (code != SQLITE_OK) return fail_with(handle);
    if (auto made = database.execute(sql); !made) return tl::unexpected(made.error());
    sqlite3_int64 size = 0;
    const std::unique_ptr<unsigned char, decltype(&sqlite3_free)> bytes{sqlite3_serialize(handle, "main", &size, 0),
                                                                        sqlite3_free};
    CHECK(bytes != nullptr && size > 100);
    std::string image(reinterpret_cast<const char*>(bytes.get()), static_cast<std::size_t>(size));
    // The file format's write and read versions: 2 is WAL (sqlite.org/fileformat2.html, section 1.3).
    image[18] = 2;
    image[19] = 2;
    return image;
}

Result<Statement> Database::prepare(std::string_view sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &statement, nullptr) != SQLITE_OK) {
        return fail_with(database_.get());
    }
    return Statement{database_.get(), statement};
}

Result<void> Database::prepare_into(Statement& statement, std::string_view sql) {
    return prepare(sql).map([&](Statement&& prepared) { statement = std::move(prepared); });
}

Result<void> Database::execute(const std::string& sql) {
    if (sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
        return fail_with(database_.get());
    }
    return {};
}

Result<std::int64_t> Database::number(std::string_view sql) {
    auto statement = prepare(sql);
    if (!statement) return tl::unexpected(statement.error());
    const auto row = statement->step();
    if (!row) return tl::unexpected(row.error());
    return *row ? statement->integer(0) : 0;
}

std::int64_t Database::changed_rows() const { return sqlite3_changes64(database_.get()); }

bool Database::is_in_transaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }

Result<void> Database::checkpoint() {
    int left = 0;
    int copied = 0;
    const int code = sqlite3_wal_checkpoint_v2(database_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &left, &copied);
    if (code != SQLITE_OK && code != SQLITE_BUSY) return fail_with(database_.get());
    if (code == SQLITE_OK && copied == left) *wal_pages_ = 0;
    return {};
}

void Database::leave_files_alone() { sqlite3_db_config(database_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr); }

}  // namespace stargate::store
