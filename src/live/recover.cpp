#include "live/recover.hpp"

#include <fmt/format.h>

#include "base/file.hpp"
#include "core/evolve.hpp"
#include "core/log.hpp"

namespace stargate::live {

namespace {
constexpr Bytes largest_snapshot = gibibytes(16);

std::string path_of(const std::string& folder, const store::SnapshotRow& row) {
    return folder + "/snapshots/" + row.file;
}

/// The newest snapshot that is whole; an unreadable one costs time only, because the log still has everything.
std::optional<Recovered> from_snapshot(const std::vector<store::SnapshotRow>& rows, const std::string& folder) {
    for (const auto& row : rows) {
        const auto bytes = read_file(path_of(folder, row), largest_snapshot);
        if (!bytes || digest_of(*bytes) != row.digest) continue;
        if (auto state = State::from_rows(*bytes)) {
            return Recovered{std::move(*state), row.fact_seq, row.input_seq, row.fact_seq};
        }
    }
    return std::nullopt;
}
}  // namespace

Result<Recovered> recover(store::Reader& store, const std::string& folder) {
    const auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
    auto begun = from_snapshot(*rows, folder);
    auto result = begun ? std::move(*begun) : Recovered{};
    std::optional<Error> damage;
    const auto read = store.read_facts(result.last_fact + 1, [&](const store::FactRow& row) {
        const auto entry = decode_entry(row.body);
        if (!entry) {
            damage = Error{Fault::malformed,
                           fmt::format("fact {} cannot be read by this version: restore a backup, or start the version "
                                       "that wrote it",
                                       row.seq)};
            return false;
        }
        evolve(result.state, entry->at, entry->fact);
        result.last_fact = row.seq;
        result.last_input = std::max(result.last_input, row.input_seq);
        return true;
    });
    if (!read) return tl::unexpected(read.error());
    if (damage) return tl::unexpected(*damage);
    return result;
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
