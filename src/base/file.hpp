#pragma once

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

/// Makes a folder, or finds it made: it is there, durably, when this answers.
[[nodiscard]] Result<void> make_folder_durably(const std::string& path, Disk& disk = real_disk());

/// The whole file. Fault::malformed when it is longer than `limit`, which guards memory against a foreign file.
[[nodiscard]] Result<std::string> read_file(const std::string& path, Bytes limit, Disk& disk = real_disk());

/// Removes a file for good. A missing one is no error: somebody may have got this far before a crash.
[[nodiscard]] Result<void> remove_durably(const std::string& path, Disk& disk = real_disk());

}  // namespace stargate
