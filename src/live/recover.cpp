#include "live/recover.hpp"

#include <fmt/format.h>

#include "base/file.hpp"

namespace stargate::live {

namespace {
/// The newest snapshot that is whole; an unreadable one costs time only, as long as the log still has everything.
std::optional<Folded> from_snapshot(const std::vector<store::SnapshotRow>& rows, const std::string& folder) {
    for (const auto& row : rows) {
        if (auto found = read_snapshot(folder, row)) return std::move(*found);
    }
    return std::nullopt;
}
}  // namespace

Result<Recovered> recover(store::Reader& store, const std::string& folder) {
    const auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
    auto begun = from_snapshot(*rows, folder);
    const auto snapshot = begun ? begun->last_fact : 0;
    auto folded = begun ? fold_log(store, std::move(*begun)) : fold_log(store);
    if (!folded) return tl::unexpected(folded.error());
    return Recovered{std::move(*folded), snapshot};
}

Result<store::SnapshotRow> write_snapshot(store::Reader& store, const std::string& folder) {
    auto recovered = recover(store, folder);
    if (!recovered) return tl::unexpected(recovered.error());
    const auto bytes = recovered->state.rows();
    store::SnapshotRow row;
    row.fact_seq = recovered->last_fact;
    row.input_seq = recovered->last_input;
    row.file = fmt::format("{}.snapshot", recovered->last_fact);
    row.digest = digest_of(bytes);
    const auto made = make_folder_exclusively(folder + "/snapshots");
    if (!made && made.error().fault != Fault::conflict) return tl::unexpected(made.error());
    return write_durably(path_of(folder, row), bytes).map([&] { return row; });
}

}  // namespace stargate::live
