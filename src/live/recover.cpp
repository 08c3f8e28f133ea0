#include "live/recover.hpp"

namespace stargate::live {

Result<Recovered> recover(store::Reader& store, const std::string& folder, Disk& disk) {
    const auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
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
