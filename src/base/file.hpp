#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/disk.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate {

/// Durable work on files outside the database. Everything that answers success has survived a power cut from then on.
/// Fault::full and the like mean that the old state still stands; Fault::unknown_outcome means that an fsync failed:
/// the caller stops the process and looks again after its next start. No fsync is ever tried twice. One path has one
/// writer at a time; who that is, the caller knows (a FileLock, or a folder made exclusively).

/// Replaces the file by `bytes` in one step: a reader, or a start after a power cut, finds the old content or the new.
[[nodiscard]] Result<void> write_durably(const std::string& path, std::string_view bytes, Disk& disk = real_disk());

/// Makes a folder that must not exist: of several callers exactly one succeeds, the others get Fault::conflict.
[[nodiscard]] Result<void> make_folder_exclusively(const std::string& path, Disk& disk = real_disk());

/// The whole file. Fault::malformed when it is longer than `limit`, which guards memory against a foreign file.
[[nodiscard]] Result<std::string> read_file(const std::string& path, Bytes limit, Disk& disk = real_disk());

/// Removes a file for good. A missing one is no error: somebody may have got this far before a crash.
[[nodiscard]] Result<void> remove_durably(const std::string& path, Disk& disk = real_disk());

/// A file that only grows. What was appended is durable after the next sync().
class Segment {
public:
    /// Opens or makes the file; its name is durable when this answers.
    [[nodiscard]] static Result<Segment> open(const std::string& path, Disk& disk = real_disk());

    /// On an error (Fault::full) the segment ends where it ended before, so that the next append leaves no gap.
    [[nodiscard]] Result<void> append(std::string_view bytes);
    [[nodiscard]] Result<void> sync() { return file_->sync(); }
    [[nodiscard]] Bytes size() const { return Bytes{static_cast<std::int64_t>(size_)}; }

private:
    Segment(std::unique_ptr<DiskFile> file, std::uint64_t size) : file_{std::move(file)}, size_{size} {}

    std::unique_ptr<DiskFile> file_;
    std::uint64_t size_ = 0;  // bytes that belong to whole appends; what lies behind is overwritten
};

}  // namespace stargate
