#include "live/keep_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "base/file.hpp"
#include "base/print_error.hpp"
#include "store/segment.hpp"

namespace stargate::live {

namespace {
using store::SnapshotRow;

constexpr std::string_view set_aside = ".differs";

/// The older of the two newest verified snapshots: what lies behind it is not needed to start from. `rows` are newest
/// first. Nothing while there are fewer than two.
template <class IsGood>
std::optional<SnapshotRow> older_of_two(const std::vector<SnapshotRow>& rows, const IsGood& is_good) {
    int good = 0;
    for (const auto& row : rows) {
        if (is_good(row) && ++good == 2) return row;
    }
    return std::nullopt;
}

class Follow {
public:
    Follow(store::Reader& store, const std::string& folder, const LogLimits& limits, Folded& state, Disk& disk)
        : store_{store}, folder_{folder}, limits_{limits}, state_{state}, disk_{disk} {}

    Result<LogKept> run() {
        auto rows = store_.snapshots();
        if (!rows) return tl::unexpected(rows.error());
        rows_ = std::move(*rows);
        auto done = remove_strays();
        if (done) done = verify();
        if (done) done = fold_to(~std::uint64_t{0});
        if (done) done = write_next();
        if (!done) return tl::unexpected(done.error());
        const auto sealed = seal();
        if (!sealed && sealed.error().fault == Fault::unknown_outcome) return tl::unexpected(sealed.error());
        if (!sealed) {  // what was found out about snapshots holds all the same
            print_error("stargate: old rows of the log stay where they are: {}\n", sealed.error().detail);
            kept_.sealed_fact = kept_.sealed_input = 0;
            kept_.not_sealed = sealed.error().detail;
        }
        return std::move(kept_);
    }

private:
    /// Removes files whose rows are gone, or never came because somebody ended in between.
    Result<void> remove_strays() {
        const auto place = store::snapshots_folder(folder_);
        if (!disk_.exists(place)) return {};
        const auto names = disk_.list(place);
        if (!names) return tl::unexpected(names.error());
        for (const auto& name : *names) {
            const bool is_known =
                std::any_of(rows_.begin(), rows_.end(), [&](const auto& row) { return row.file == name; });
            if (is_known || name.ends_with(set_aside)) continue;
            if (auto removed = remove_durably(place + "/" + name, disk_); !removed) return removed;
        }
        return {};
    }

    /// Begins with the newest verified snapshot and compares the later ones, from old to new, with what the log says.
    Result<void> verify() {
        state_ = {};
        for (const auto& row : rows_) {
            if (!row.verified) continue;
            auto loaded = read_snapshot(folder_, row, disk_);
            if (!loaded) continue;
            state_ = std::move(*loaded);
            break;
        }
        for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
            if (row->verified || row->fact_seq <= state_.last_fact) continue;
            if (auto folded = fold_to(row->fact_seq); !folded) return folded;
            if (auto compared = compare(*row); !compared) return compared;
        }
        return {};
    }

    Result<void> fold_to(std::uint64_t last) {
        auto folded = fold_log(store_, std::move(state_), last);
        if (!folded) return tl::unexpected(folded.error());
        state_ = std::move(*folded);
        return {};
    }

    Result<void> compare(SnapshotRow& row) {
        const auto loaded = read_snapshot(folder_, row, disk_);
        // Rows of both in this version's form: an older one may have written fewer members.
        if (loaded && state_.last_fact == row.fact_seq && loaded->state.rows() == state_.state.rows()) {
            row.verified = true;
            kept_.verified.push_back(row.fact_seq);
            return {};
        }
        if (!loaded && loaded.error().fault != Fault::malformed && loaded.error().fault != Fault::not_found) {
            print_error("stargate: the snapshot {} cannot be compared now: {}\n", row.file, loaded.error().detail);
            return {};
        }
        std::fprintf(stderr,
                     "stargate: the snapshot %s is NOT what the log folds to: it was set aside as %s%.*s. The log goes "
                     "on as it was; keep that file and tell us\n",
                     row.file.c_str(), row.file.c_str(), static_cast<int>(set_aside.size()), set_aside.data());
        kept_.differing.push_back(row.fact_seq);
        const auto path = store::snapshot_path(folder_, row);
        if (!disk_.exists(path)) return {};
        if (auto renamed = disk_.rename(path, path + std::string{set_aside}); !renamed) return renamed;
        return disk_.sync_folder(store::snapshots_folder(folder_));
    }

    Result<void> write_next() {
        const bool is_there =
            std::any_of(rows_.begin(), rows_.end(), [&](const auto& row) { return row.fact_seq == state_.last_fact; });
        if (is_there || state_.last_fact == 0) return {};
        if (auto made = make_folder_durably(store::snapshots_folder(folder_), disk_); !made) return made;
        const auto bytes = state_.state.rows();
        const SnapshotRow row{state_.last_fact, state_.last_input, fmt::format("{}.snapshot", state_.last_fact),
                              digest_of(bytes), false};
        kept_.written_fact = row.fact_seq;
        kept_.written_input = row.input_seq;
        kept_.written_file = row.file;
        kept_.written_digest = row.digest;
        return write_durably(store::snapshot_path(folder_, row), bytes, disk_);
    }

    Result<void> seal() {
        const auto log = store_.extent();
        if (!log) return tl::unexpected(log.error());
        const auto identity = store_.identity();
        if (!identity) return tl::unexpected(identity.error());
        auto newest = newest_segment(*log, identity->incarnation);
        if (!newest) return tl::unexpected(newest.error());
        store::SegmentHead next;
        next.incarnation = identity->incarnation;
        next.first_fact = log->first_fact;
        next.first_input = log->first_input;
        if (*newest) {
            const auto follows = follower_of(**newest, next);
            // Else the one that came next is gone, and with it what the log no longer has: the chain begins anew.
            const bool is_whole = follows.first_fact >= log->first_fact && follows.first_input >= log->first_input;
            if (is_whole) next = follows;
        }
        kept_.sealed_fact = next.first_fact - 1;
        kept_.sealed_input = next.first_input - 1;
        const auto until = older_of_two(rows_, [this](const SnapshotRow& row) {
            const auto digest = digest_of_file(store::snapshot_path(folder_, row), disk_);
            return row.verified && digest && *digest == row.digest;
        });
        while (until && next.first_fact <= until->fact_seq) {
            auto sealed = seal_one(next, *until);
            if (!sealed) return tl::unexpected(sealed.error());
            kept_.sealed_fact = sealed->head.last_fact;
            kept_.sealed_input = sealed->head.last_input;
            next = follower_of(*sealed, next);
            if (auto removed = remove_oldest(); !removed) return removed;
        }
        return {};
    }

    /// The newest segment of this log, of which rows have been forgotten: somebody had seen then that it is durable.
    /// Whether a later one is nobody knows, and its rows are still here, so it is removed and made anew. What is no
    /// segment of this log is set aside, once, and with it the chain up to there ends.
    Result<std::optional<store::Segment>> newest_segment(const store::LogExtent& log,
                                                         const store::Incarnation& incarnation) {
        auto files = store::list_segments(folder_, disk_);
        if (!files) return tl::unexpected(files.error());
        for (; !files->empty(); files->pop_back()) {
            const auto& file = files->back();
            auto segment = store::read_segment(file.path, disk_);
            const bool is_damaged = !segment && segment.error().fault == Fault::malformed;
            if (!segment && !is_damaged) return tl::unexpected(segment.error());
            const bool is_ours = segment && segment->head.incarnation == incarnation &&
                                 segment->head.first_fact == file.first_fact &&
                                 segment->head.last_fact == file.last_fact && file.last_fact < log.end_fact;
            const bool is_in_log = file.first_fact >= log.first_fact && file.last_fact < log.end_fact &&
                                   (is_damaged || (is_ours && segment->head.first_input >= log.first_input));
            if (is_ours && !is_in_log) return std::optional{*segment};
            auto gone = is_in_log ? remove_durably(file.path, disk_)
                                  : set_segment_aside(file.path, is_damaged ? "damaged" : "of another log");
            if (!gone) return tl::unexpected(gone.error());
        }
        return std::optional<store::Segment>{};
    }

    Result<void> set_segment_aside(const std::string& path, std::string_view why) {
        print_error(
            "stargate: the segment {0} is {1}: it was set aside as {0}{2}, and the next one begins a new chain; "
            "put the file back from a backup if events that old are wanted; nothing that runs needs it\n",
            path, why, store::segment_set_aside);
        if (auto renamed = disk_.rename(path, path + std::string{store::segment_set_aside}); !renamed) return renamed;
        return disk_.sync_folder(store::segments_folder(folder_));
    }

    static store::SegmentHead follower_of(const store::Segment& segment, store::SegmentHead next) {
        next.first_fact = segment.head.last_fact + 1;
        next.first_input = segment.head.last_input + 1;
        next.previous = segment.digest;
        return next;
    }

    Result<store::Segment> seal_one(store::SegmentHead head, const SnapshotRow& until) {
        head.last_fact = std::min(until.fact_seq, head.first_fact + limits_.facts_between_snapshots - 1);
        head.last_input = head.first_input - 1;
        const auto read = store_.read_facts(head.first_fact, [&](const store::FactRow& row) {
            head.last_input = std::max(head.last_input, row.input_seq);
            return row.seq < head.last_fact;
        });
        if (!read) return tl::unexpected(read.error());
        return store::seal_segment(store_, folder_, head, disk_);
    }

    Result<void> remove_oldest() {
        const auto files = store::list_segments(folder_, disk_);
        if (!files) return tl::unexpected(files.error());
        for (std::size_t i = 0; i + limits_.segments_kept < files->size(); ++i) {
            if (auto removed = remove_durably((*files)[i].path, disk_); !removed) return removed;
        }
        return {};
    }

    store::Reader& store_;
    const std::string& folder_;
    const LogLimits& limits_;
    Folded& state_;
    Disk& disk_;
    std::vector<SnapshotRow> rows_;  // newest first
    LogKept kept_;
};
}  // namespace

Result<LogKept> keep_log(store::Reader& store, const std::string& folder, const LogLimits& limits, Folded& state,
                         Disk& disk) {
    return Follow{store, folder, limits, state, disk}.run();
}

Result<void> record_snapshots(store::Store& store, const LogKept& kept) {
    Result<void> done;
    for (const auto fact : kept.verified) {
        if (done) done = store.mark_verified(fact);
    }
    for (const auto fact : kept.differing) {
        if (done) done = store.forget_snapshot(fact);
    }
    if (done && kept.written_fact != 0) {
        done =
            store.add_snapshot({kept.written_fact, kept.written_input, kept.written_file, kept.written_digest, false});
    }
    if (!done) return done;
    const auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
    const auto oldest_needed = older_of_two(*rows, [](const SnapshotRow& row) { return row.verified; });
    for (const auto& row : *rows) {  // their files go when the follower comes next
        const bool is_old = oldest_needed && row.fact_seq < oldest_needed->fact_seq;
        if (done && is_old) done = store.forget_snapshot(row.fact_seq);
    }
    return done;
}

Result<std::uint64_t> forget_sealed(store::Store& store, const LogKept& kept, std::uint32_t row_limit) {
    const auto rows = store.snapshots();
    if (!rows) return tl::unexpected(rows.error());
    const auto oldest_needed = older_of_two(*rows, [](const SnapshotRow& row) { return row.verified; });
    if (!oldest_needed) return std::uint64_t{0};
    store::Retention retention;
    retention.facts_before = std::min(kept.sealed_fact, oldest_needed->fact_seq) + 1;
    retention.inputs_before = std::min(kept.sealed_input, oldest_needed->input_seq) + 1;
    retention.row_limit = row_limit;
    return store.forget(retention);
}

Result<bool> is_forgotten(store::Reader& store, const State& state, JobId job) {
    if (job.value > state.counters().jobs || state.find<Job>(job) != nullptr) return false;
    return store.find_history(job).map([](const auto& row) { return !row.has_value(); });
}

}  // namespace stargate::live
