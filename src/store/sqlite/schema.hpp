#pragma once

#include <string>

#include "base/disk.hpp"
#include "base/result.hpp"
#include "store/rows.hpp"
#include "store/sqlite/database.hpp"

namespace stargate::store {

inline constexpr std::int64_t schema_version = 1;
inline constexpr std::string_view database_name = "stargate.db";  // within the store's folder

/// The bytes of an empty store of the current schema.
[[nodiscard]] Result<std::string> empty_store(const Incarnation& incarnation);

/// Looks at the file's first page without SQLite, which would begin to recover it: a store of a newer schema, and a
/// file that is no store, are refused untouched. Never call it while this process has the database open: closing a file
/// drops SQLite's own locks on it (POSIX).
[[nodiscard]] Result<void> check_untouched(const std::string& path, Disk& disk);

/// The same from an open connection, which sees what is still in the WAL.
[[nodiscard]] Result<void> check_schema(Database& database);

}  // namespace stargate::store
