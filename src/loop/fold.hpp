#pragma once

#include <string>

#include "base/disk.hpp"
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

/// Folds the facts after `from` onto it, up to `last` or the end of the log. Cost: a few million facts a second.
/// Fault::malformed when that is not what the log can give: a fact that this version cannot read, a hole (facts after
/// `from` that are no longer kept), or a `from` beyond the log's end.
[[nodiscard]] Result<Folded> fold_log(store::Reader& store, Folded from = {}, std::uint64_t last = ~std::uint64_t{0});

/// The State that a snapshot holds. Fault::malformed when the file is not what its digest says.
[[nodiscard]] Result<Folded> read_snapshot(const std::string& folder, const store::SnapshotRow& row,
                                           Disk& disk = real_disk());

}  // namespace stargate
