#include "store/segment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/codec.hpp"
#include "base/file.hpp"
#include "store/sqlite/rows.hpp"

namespace stargate::store {
namespace {

constexpr std::string_view magic = "StGaSeg\n";  // what file(1) and read_segment() know a segment by
constexpr std::string_view ending = ".segment";
constexpr Bytes largest_segment = gibibytes(2);

/// Rows as they lie in the file, each with the checksum that it had in the database.
struct SealedInput {
    std::uint64_t seq = 0;
    Instant at{};
    std::uint16_t type = 0;
    std::string body;
    std::int64_t checksum = 0;
};
BOOST_DESCRIBE_STRUCT(SealedInput, (), (seq, at, type, body, checksum))
struct SealedFact {
    std::uint64_t seq = 0;
    std::uint64_t input_seq = 0;
    std::uint16_t type = 0;
    std::string body;
    std::int64_t checksum = 0;
};
BOOST_DESCRIBE_STRUCT(SealedFact, (), (seq, input_seq, type, body, checksum))

std::string_view text_of(const Digest& digest) { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }

tl::unexpected<Error> damaged(const std::string& path, std::string_view what) {
    return fail(Fault::malformed, fmt::format("the segment {} is damaged: {}", path, what));
}

/// Reads rows first to last from a decoder; false when one is missing or its checksum does not fit.
template <class Sealed, class Row>
bool check_rows(Decoder& in, std::uint64_t first, std::uint64_t last, Row (*row_of)(const Sealed&)) {
    for (auto seq = first; seq <= last; ++seq) {
        Sealed sealed;
        decode(in, sealed);
        if (!in.ok() || sealed.seq != seq || checksum_of(row_of(sealed)) != sealed.checksum) return false;
    }
    return true;
}

InputRow input_row(const SealedInput& sealed) { return {sealed.seq, sealed.at, sealed.type, sealed.body}; }
FactRow fact_row(const SealedFact& sealed) { return {sealed.seq, sealed.input_seq, sealed.type, sealed.body}; }

/// "201-400.segment".
std::optional<SegmentFile> named(const std::string& folder, const std::string& name) {
    SegmentFile file{folder + "/" + name, 0, 0};
    const auto* end = name.data() + name.size();
    const auto first = std::from_chars(name.data(), end, file.first_fact);
    if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '-') return std::nullopt;
    const auto last = std::from_chars(first.ptr + 1, end, file.last_fact);
    if (last.ec != std::errc{} || std::string_view{last.ptr, static_cast<std::size_t>(end - last.ptr)} != ending) {
        return std::nullopt;
    }
    return file;
}

}  // namespace

std::string snapshots_folder(const std::string& folder) { return folder + "/snapshots"; }
std::string snapshot_path(const std::string& folder, const SnapshotRow& row) {
    return snapshots_folder(folder) + "/" + row.file;
}
std::string segments_folder(const std::string& folder) { return folder + "/segments"; }

Result<std::vector<SegmentFile>> list_segments(const std::string& folder, Disk& disk) {
    std::vector<SegmentFile> files;
    const auto place = segments_folder(folder);
    if (!disk.exists(place)) return files;
    const auto names = disk.list(place);
    if (!names) return tl::unexpected(names.error());
    for (const auto& name : *names) {
        if (auto file = named(place, name)) files.push_back(std::move(*file));
    }
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.first_fact < b.first_fact; });
    return files;
}

Result<Segment> seal_segment(Reader& log, const std::string& folder, const SegmentHead& head, Disk& disk) {
    std::string bytes{magic};
    Encoder out{bytes};
    encode(out, head);
    auto next_input = head.first_input;
    auto read = log.read_inputs(next_input, [&](const InputRow& row) {
        if (row.seq != next_input || row.seq > head.last_input) return false;
        encode(out, SealedInput{row.seq, row.at, row.type, std::string{row.body}, checksum_of(row)});
        return ++next_input <= head.last_input;
    });
    auto next_fact = head.first_fact;
    if (read) {
        read = log.read_facts(next_fact, [&](const FactRow& row) {
            if (row.seq != next_fact || row.seq > head.last_fact) return false;
            encode(out, SealedFact{row.seq, row.input_seq, row.type, std::string{row.body}, checksum_of(row)});
            return ++next_fact <= head.last_fact;
        });
    }
    if (!read) return tl::unexpected(read.error());
    if (next_input != head.last_input + 1 || next_fact != head.last_fact + 1) {
        return fail(Fault::malformed, fmt::format("facts {} to {} and their inputs are not all in the log",
                                                  head.first_fact, head.last_fact));
    }
    bytes += text_of(digest_of(bytes));
    const auto place = segments_folder(folder);
    if (auto made = make_folder_durably(place, disk); !made) return tl::unexpected(made.error());
    const auto path = fmt::format("{}/{}-{}{}", place, head.first_fact, head.last_fact, ending);
    return write_durably(path, bytes, disk).map([&] { return Segment{head, digest_of(bytes)}; });
}

Result<Segment> read_segment(const std::string& path, Disk& disk) {
    const auto bytes = read_file(path, largest_segment, disk);
    if (!bytes) return tl::unexpected(bytes.error());
    Segment segment;
    segment.digest = digest_of(*bytes);
    const std::string_view whole{*bytes};
    if (whole.size() < magic.size() + segment.digest.size() || whole.substr(0, magic.size()) != magic) {
        return damaged(path, "it does not begin as one");
    }
    const auto content = whole.substr(0, whole.size() - segment.digest.size());
    if (text_of(digest_of(content)) != whole.substr(content.size())) return damaged(path, "its digest does not fit");
    Decoder in{content.substr(magic.size())};
    auto& head = segment.head;
    decode(in, head);
    if (head.form != SegmentHead{}.form) {
        return fail(Fault::denied,
                    fmt::format("the segment {} has form {}: a newer Stargate wrote it", path, head.form));
    }
    if (!check_rows<SealedInput>(in, head.first_input, head.last_input, input_row) ||
        !check_rows<SealedFact>(in, head.first_fact, head.last_fact, fact_row) || !in.at_end()) {
        return damaged(path, "a row is missing or its checksum does not fit");
    }
    return segment;
}

}  // namespace stargate::store
