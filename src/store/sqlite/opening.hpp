#pragma once

#include <string>

#include "base/disk.hpp"
#include "base/result.hpp"
#include "store/sqlite/reader.hpp"

namespace stargate::store {

/// Opens an existing store's database for reading and checks its schema. `disk` null: the machine's own.
[[nodiscard]] Result<Opened> open_for_reading(const std::string& folder, Disk* disk);

}  // namespace stargate::store
