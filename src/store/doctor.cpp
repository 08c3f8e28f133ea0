#include "store/doctor.hpp"

#include <fmt/format.h>

#include "base/digest.hpp"
#include "store/damage.hpp"
#include "store/segment.hpp"
#include "store/sqlite/opening.hpp"
#include "store/sqlite/schema.hpp"

namespace stargate::store {
namespace {

constexpr std::size_t findings_of_a_kind = 5;  // damage seldom comes alone, and the remedy is the same for all of it

class Examination {
public:
    Examination(std::string folder, SqliteReader& reader) : folder_{std::move(folder)}, reader_{reader} {}

    Report run() {
        check_pages();
        check_identity();
        check_log();
        report_.launches = check_rows("launches", launch_columns, read_launch_row);
        report_.history = check_rows("history", history_columns, read_history_row);
        report_.keys = check_rows("keys", key_columns, read_key_row);
        check_snapshots();
        check_set_aside();
        check_segments();
        return std::move(report_);
    }

private:
    void find(std::string what, std::string remedy = restore_remedy) {
        report_.findings.push_back({std::move(what), std::move(remedy)});
    }

    /// Calls `visit` with the statement on each row; what stops the reading is a finding.
    template <class Visit>
    void each_row(const std::string& sql, const Visit& visit) {
        auto statement = reader_.database().prepare(sql);
        if (!statement) return find(statement.error().detail);
        for (;;) {
            const auto found = statement->step();
            if (!found) return find(found.error().detail);
            if (!*found) return;
            visit(*statement);
        }
    }

    /// Reads a whole table; every row that its checksum disowns is a finding. Returns how many rows there are.
    template <class Row, class Visit>
    std::uint64_t check_rows(std::string_view table, std::string_view columns, Result<Row> (*read)(const Statement&),
                             std::string_view order, const Visit& visit) {
        std::uint64_t rows = 0;
        std::size_t damaged = 0;
        each_row(fmt::format("SELECT {} FROM {} {}", columns, table, order), [&](const Statement& statement) {
            ++rows;
            const auto row = read(statement);
            if (row) {
                visit(*row);
            } else if (++damaged <= findings_of_a_kind) {
                find(row.error().detail);
            }
        });
        return rows;
    }
    template <class Row>
    std::uint64_t check_rows(std::string_view table, std::string_view columns, Result<Row> (*read)(const Statement&)) {
        return check_rows(table, columns, read, "", [](const Row&) {});
    }

    void check_pages() {
        each_row(fmt::format("PRAGMA integrity_check({})", findings_of_a_kind), [&](const Statement& statement) {
            const auto answer = statement.bytes(0);
            if (answer != "ok") find(fmt::format("the database is damaged: {}", answer));
        });
    }

    void check_identity() {
        const auto version = reader_.database().number("PRAGMA user_version");
        report_.schema_version = version.value_or(0);
        const auto identity = reader_.identity();
        if (!identity) return find(identity.error().detail);
        report_.identity = *identity;
    }

    void check_log() {
        const auto log = reader_.extent();
        if (!log) return find(log.error().detail);
        report_.log = *log;
        check_seqs<InputRow>("inputs", input_columns, read_input_row, log->first_input, log->end_input,
                             [](const InputRow&) {});
        std::size_t orphans = 0;
        check_seqs<FactRow>(
            "facts", fact_columns, read_fact_row, log->first_fact, log->end_fact, [&](const FactRow& row) {
                if (row.input_seq < log->end_input || ++orphans > findings_of_a_kind) return;
                find(fmt::format("fact {} was caused by input {}, which is not there", row.seq, row.input_seq));
            });
    }

    template <class Row, class Visit>
    void check_seqs(std::string_view table, std::string_view columns, Result<Row> (*read)(const Statement&),
                    std::uint64_t first, std::uint64_t end, const Visit& visit) {
        auto expected = first;
        std::size_t gaps = 0;
        check_rows(table, columns, read, "ORDER BY seq", [&](const Row& row) {
            if (row.seq != expected && ++gaps <= findings_of_a_kind) {
                find(fmt::format("{}: {} is followed by {}", table, expected - 1, row.seq));
            }
            expected = row.seq + 1;
            visit(row);
        });
        if (expected != end) find(fmt::format("{}: the last one is {} instead of {}", table, expected - 1, end - 1));
    }

    void check_snapshots() {
        check_rows("snapshots", snapshot_columns, read_snapshot_row, "ORDER BY fact_seq DESC",
                   [&](const SnapshotRow& row) {
                       report_.snapshots.push_back(row);
                       check_snapshot(row);
                   });
    }

    void check_snapshot(const SnapshotRow& row) {
        if (row.fact_seq >= report_.log.end_fact) {
            find(fmt::format("the snapshot {} holds facts up to {}, but the log ends at {}: its end was lost", row.file,
                             row.fact_seq, report_.log.end_fact - 1));
        }
        const auto digest = digest_of_file(snapshot_path(folder_, row));
        if (!digest) {
            find(fmt::format("the snapshot {} cannot be read: {}", row.file, digest.error().detail),
                 "put the file back from a backup; the store itself starts from an older snapshot or the whole log");
        } else if (*digest != row.digest) {
            find(fmt::format("the snapshot {} is not what was written: its digest differs", row.file),
                 "remove the file; the store itself starts from an older snapshot or the whole log");
        }
    }

    /// Snapshots that the follower found to differ from what the log folds to, and segments that did not fit.
    void check_set_aside() {
        const auto segments = segments_folder(folder_);
        for (const auto& name : real_disk().list(segments).value_or(std::vector<std::string>{})) {
            if (!name.ends_with(segment_set_aside)) continue;
            find(fmt::format("the segment {} was damaged or of another log: it was set aside", name),
                 fmt::format("put the file back from a backup, without its last ending, or remove {}/{}; nothing that "
                             "runs needs it",
                             segments, name));
        }
        const auto place = snapshots_folder(folder_);
        const auto names = real_disk().list(place);
        for (const auto& name : names.value_or(std::vector<std::string>{})) {
            if (!name.ends_with(".differs")) continue;
            find(fmt::format("the snapshot {} was not what the log folds to: a bug of ours or damage in memory", name),
                 fmt::format("keep a copy of {}/{} and tell us, then remove it; the log itself goes on", place, name));
        }
    }

    void check_segments() {
        const auto files = list_segments(folder_);
        if (!files) return find(files.error().detail);
        report_.segments = files->size();
        std::optional<Segment> before;
        for (const auto& file : *files) {
            auto segment = read_segment(file.path);
            if (!segment && segment.error().fault == Fault::not_found) continue;  // a running follower has removed it
            if (!segment) {
                find(segment.error().detail, "put the file back from a backup; nothing that runs needs it");
                before.reset();
                continue;
            }
            check_segment(file, *segment, before);
            before = *segment;
        }
        if (before && before->head.last_fact + 1 < report_.log.first_fact) {
            find(fmt::format("facts {} to {} are neither in a segment nor in the log", before->head.last_fact + 1,
                             report_.log.first_fact - 1),
                 "put the missing segments back from a backup; nothing that runs needs them");
        }
    }

    void check_segment(const SegmentFile& file, const Segment& segment, const std::optional<Segment>& before) {
        const auto& head = segment.head;
        constexpr const char* remedy = "it is of another state: move it away, and put back the one that belongs here";
        if (head.first_fact != file.first_fact || head.last_fact != file.last_fact ||
            head.incarnation != report_.identity.incarnation || head.last_fact >= report_.log.end_fact) {
            find(fmt::format("the segment {} is not one of this log", file.path), remedy);
        }
        if (!before) return;
        const bool follows =
            head.first_fact == before->head.last_fact + 1 && head.first_input == before->head.last_input + 1;
        const bool is_begun_anew = head.previous == Digest{};
        // The one before it may have been set aside when this one was sealed, and put back since.
        if (follows && (is_begun_anew || head.previous == before->digest)) return;
        if (is_begun_anew && head.first_fact > before->head.last_fact + 1) {
            // What came between was lost, and a new chain begun.
            find(fmt::format("facts {} to {} are neither in a segment nor in the log", before->head.last_fact + 1,
                             head.first_fact - 1),
                 "put the missing segments back from a backup; nothing that runs needs them");
        } else {
            find(fmt::format("the segment {} does not follow the one before it", file.path), remedy);
        }
    }

    std::string folder_;
    SqliteReader& reader_;
    Report report_;
};

Report unreadable(const Error& error) {
    Report report;
    const auto told = error.detail.find("; ");
    if (told == std::string::npos) {
        report.findings.push_back({error.detail, restore_remedy});
    } else {
        report.findings.push_back({error.detail.substr(0, told), error.detail.substr(told + 2)});
    }
    return report;
}

}  // namespace

Result<Report> examine_store(const std::string& folder) {
    auto opened = open_for_reading(folder, nullptr);
    if (!opened) {
        const auto fault = opened.error().fault;
        if (fault == Fault::malformed || fault == Fault::unavailable) return unreadable(opened.error());
        return tl::unexpected(opened.error());
    }
    SqliteReader reader{std::move(*opened)};
    if (auto prepared = reader.prepare(); !prepared) return unreadable(prepared.error());
    // One look for everything, so that a running control plane changes nothing in between.
    if (auto begun = reader.database().execute("BEGIN"); !begun) return unreadable(begun.error());
    return Examination{folder, reader}.run();
}

}  // namespace stargate::store
