#include "loop/fold.hpp"

#include <fmt/format.h>

#include <optional>

#include "base/file.hpp"
#include "core/evolve.hpp"
#include "core/log.hpp"
#include "store/segment.hpp"

namespace stargate {

namespace {
constexpr Bytes largest_snapshot = gibibytes(16);
}

Result<Folded> fold_log(store::Reader& store, Folded from, std::uint64_t last) {
    const auto extent = store.extent();
    if (!extent) return tl::unexpected(extent.error());
    if (from.last_fact + 1 < extent->first_fact) {
        return fail(Fault::malformed, fmt::format("facts {} to {} are no longer kept and no snapshot holds them",
                                                  from.last_fact + 1, extent->first_fact - 1));
    }
    if (from.last_fact >= extent->end_fact) {
        return fail(Fault::malformed, fmt::format("a snapshot holds fact {}, but the log ends with {}", from.last_fact,
                                                  extent->end_fact - 1));
    }
    if (from.last_fact >= last) return from;
    std::optional<Error> damage;
    const auto read = store.read_facts(from.last_fact + 1, [&](const store::FactRow& row) {
        const auto entry = decode_entry(row.body);
        if (!entry) {
            damage = Error{Fault::malformed,
                           fmt::format("fact {} cannot be read by this version; restore a backup, or start the version "
                                       "that wrote it",
                                       row.seq)};
        } else if (row.seq != from.last_fact + 1) {
            damage = Error{Fault::malformed, fmt::format("facts are missing before fact {}", row.seq)};
        }
        if (damage) return false;
        evolve(from.state, entry->at, entry->fact);
        from.last_fact = row.seq;
        from.last_input = std::max(from.last_input, row.input_seq);
        return row.seq < last;
    });
    if (!read) return tl::unexpected(read.error());
    if (damage) return tl::unexpected(*damage);
    return from;
}

Result<Folded> read_snapshot(const std::string& folder, const store::SnapshotRow& row, Disk& disk) {
    const auto bytes = read_file(store::snapshot_path(folder, row), largest_snapshot, disk);
    if (!bytes) return tl::unexpected(bytes.error());
    if (digest_of(*bytes) != row.digest) return fail(Fault::malformed, row.file + " is not what was written");
    auto state = State::from_rows(*bytes);
    if (!state) return fail(Fault::malformed, row.file + " does not read back");
    return Folded{std::move(*state), row.fact_seq, row.input_seq};
}

}  // namespace stargate
