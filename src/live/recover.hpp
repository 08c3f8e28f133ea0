#pragma once

#include <string>

#include "core/state.hpp"
#include "store/port.hpp"

namespace stargate::live {

/// State as the log has it.
struct Recovered {
    State state;
    std::uint64_t last_fact = 0;
    std::uint64_t last_input = 0;
    std::uint64_t from_snapshot = 0;  // seq of the snapshot it began with, 0 if none
};

/// Folds the log's facts onto the newest snapshot whose digest holds, or onto nothing. Decides nothing: a log that an
/// older version wrote opens. Fault::malformed names the fact that cannot be read. Cost: a few million facts a second.
[[nodiscard]] Result<Recovered> recover(store::Reader& store, const std::string& folder);

/// Folds as recover does and writes the outcome to `folder`/snapshots durably. What the follower, a process of its own,
/// does: each snapshot is also a check that the log folds.
[[nodiscard]] Result<store::SnapshotRow> write_snapshot(store::Reader& store, const std::string& folder);

}  // namespace stargate::live
