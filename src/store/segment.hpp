#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/disk.hpp"
#include "store/port.hpp"

/// The files beside the database in a state folder: snapshots, and sealed segments of the log.
namespace stargate::store {

[[nodiscard]] std::string snapshots_folder(const std::string& folder);
[[nodiscard]] std::string snapshot_path(const std::string& folder, const SnapshotRow& row);
[[nodiscard]] std::string segments_folder(const std::string& folder);

/// What a sealed segment holds: old rows of the log that snapshots have made superfluous, moved out of the database
/// into a file that is written once, `segments/FIRST-LAST.segment` by its facts. Segments follow each other without a
/// gap, and each names the digest of the one before it, so none can be altered, left out or exchanged unseen.
struct SegmentHead {
    std::uint32_t form = 1;  // of the file; rises when a reader of this version could not read it
    Incarnation incarnation{};
    std::uint64_t first_fact = 1, last_fact = 0;    // seqs, both included
    std::uint64_t first_input = 1, last_input = 0;  // the same; last < first: none
    Digest previous{};                              // of the segment before it; zeros in the first one
    friend bool operator==(const SegmentHead&, const SegmentHead&) = default;
};
BOOST_DESCRIBE_STRUCT(SegmentHead, (), (form, incarnation, first_fact, last_fact, first_input, last_input, previous))

/// A segment that has been read: what it says of itself, and the digest of all its bytes.
struct Segment {
    SegmentHead head;
    Digest digest{};
};

/// What is added to the name of a segment that was found to be damaged or of another log.
inline constexpr std::string_view segment_set_aside = ".set-aside";

/// By its name; the file has not been read.
struct SegmentFile {
    std::string path;
    std::uint64_t first_fact = 0;
    std::uint64_t last_fact = 0;
};

/// The segments of a state folder in order; none when there is no folder for them.
[[nodiscard]] Result<std::vector<SegmentFile>> list_segments(const std::string& folder, Disk& disk = real_disk());

/// Copies the rows that `head` names from the log into a segment, durably and in place of a file of that name.
/// Fault::malformed when the log does not have them all.
[[nodiscard]] Result<Segment> seal_segment(Reader& log, const std::string& folder, const SegmentHead& head,
                                           Disk& disk = real_disk());

/// Reads a segment and checks all that can be checked in it: its digest, its rows' checksums, that no seq is missing.
/// Fault::malformed says what is wrong.
[[nodiscard]] Result<Segment> read_segment(const std::string& path, Disk& disk = real_disk());

}  // namespace stargate::store
