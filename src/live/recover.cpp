#include "live/recover.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace stargate::live {

Result<Recovered> recover(store::Reader& store, const std::string& folder, Disk& disk) {
    auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
    const auto log = store.extent();
    if (!log) return tl::unexpected(log.error());
    if (!rows->empty() && rows->front().fact_seq >= log->end_fact) {
        return fail(Fault::malformed, fmt::format("a snapshot holds fact {}, but the log ends with {}",
                                                  rows->front().fact_seq, log->end_fact - 1));
    }
    // What has not been compared with the log yet might not be what it folds to. It is a little newer, no more.
    std::stable_partition(rows->begin(), rows->end(), [](const auto& row) { return row.verified; });
    Folded begun;
    for (const auto& row : *rows) {  // an unreadable one costs time only: the log has what follows an older one
        auto found = read_snapshot(folder, row, disk);
        if (!found) continue;
        begun = std::move(*found);
        break;
    }
    const auto snapshot = begun.last_fact;
    auto folded = fold_log(store, std::move(begun));
    if (!folded) return tl::unexpected(folded.error());
    return Recovered{std::move(*folded), snapshot};
}

}  // namespace stargate::live
