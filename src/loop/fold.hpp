#pragma once

#include <string>

#include "core/state.hpp"
#include "store/port.hpp"

/// From a log to the State that wrote it: what recovery, the follower and replays begin with. Decides nothing, so a log
/// that an older version wrote folds too.
namespace stargate {

/// A State as of after these rows of the log; by default as before the first row.
struct Folded {
    State state;
    std::uint64_t last_fact = 0;
    std::uint64_t last_input = 0;
};

/// Folds all facts after `from` onto it. Cost: a few million facts a second. Fault::malformed when that is not what the
/// log can give: a fact that this version cannot read, a hole (facts after `from` that are no longer kept), or a `from`
/// beyond the log's end.
[[nodiscard]] Result<Folded> fold_log(store::Reader& store, Folded from = {});

/// Where the file of this snapshot lies in the store's folder.
[[nodiscard]] std::string path_of(const std::string& folder, const store::SnapshotRow& row);

/// The State that a snapshot holds. Fault::malformed when the file is not what its digest says.
[[nodiscard]] Result<Folded> read_snapshot(const std::string& folder, const store::SnapshotRow& row);

}  // namespace stargate
