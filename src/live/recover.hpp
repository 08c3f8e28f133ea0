#pragma once

#include <string>

#include "loop/fold.hpp"
#include "store/port.hpp"

namespace stargate::live {

/// State as the log has it.
struct Recovered : Folded {
    std::uint64_t from_snapshot = 0;  // seq of the snapshot it began with, 0 if none
};

/// Folds the log's facts, as fold_log does, onto the newest snapshot that has been found to be what they fold to; where
/// there is none that reads, onto the newest one that has not been compared yet, or onto nothing. Fault::malformed also
/// when any snapshot is from beyond the log's end: that end was lost.
[[nodiscard]] Result<Recovered> recover(store::Reader& store, const std::string& folder, Disk& disk = real_disk());

}  // namespace stargate::live
