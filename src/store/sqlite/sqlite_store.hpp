#pragma once

#include <memory>
#include <string>

#include "base/disk.hpp"
#include "base/result.hpp"
#include "store/port.hpp"

namespace stargate::store {

/// Opens the store in `folder`, which must exist, for writing; makes an empty one where there is none. Holds the file
/// `folder`/lock as long as it lives: Fault::conflict names the pid of another control plane that does. Fault::denied:
/// a newer schema, untouched. Fault::malformed: damage, or a file that is no store.
[[nodiscard]] Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& folder);

/// Opens it for reading, also beside a live writer. Fault::not_found when there is none.
[[nodiscard]] Result<std::unique_ptr<Reader>> open_sqlite_reader(const std::string& folder);

/// Pages (4 KiB) in the WAL from which maintain() copies them into the database. A copy costs two fsyncs and the writes
/// of each page once, however often the WAL has it.
inline constexpr int default_checkpoint_pages = 1000;

/// The same on another disk, for tests of faults. SQLite's files go through it too; there is no lock, and whoever has
/// the store open must close it before it is opened again.
[[nodiscard]] Result<std::unique_ptr<Store>> open_sqlite_store_on(Disk& disk, const std::string& folder,
                                                                  int checkpoint_pages = default_checkpoint_pages);

}  // namespace stargate::store
