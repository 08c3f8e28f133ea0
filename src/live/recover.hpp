#pragma once

#include <string>

#include "loop/fold.hpp"
#include "store/port.hpp"

namespace stargate::live {

/// State as the log has it.
struct Recovered : Folded {
    std::uint64_t from_snapshot = 0;  // seq of the snapshot it began with, 0 if none
};

/// Folds the log's facts onto the newest snapshot whose digest holds, or onto nothing, as fold_log does.
[[nodiscard]] Result<Recovered> recover(store::Reader& store, const std::string& folder, Disk& disk = real_disk());

}  // namespace stargate::live
