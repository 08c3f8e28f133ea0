#pragma once

#include <string>

#include "base/posix.hpp"
#include "base/result.hpp"

namespace stargate {

/// A file held by one process at a time, for as long as this object (or the process) lives. The kernel lets go when the
/// process ends in whatever way. Not inherited by programs that this process starts; a plain fork shares it.
class FileLock {
public:
    /// Waits a second at most. Fault::conflict when another process still holds the file; the detail names its pid.
    [[nodiscard]] static Result<FileLock> take(const std::string& path);

private:
    explicit FileLock(FileDescriptor descriptor) : descriptor_{std::move(descriptor)} {}

    FileDescriptor descriptor_;
};

}  // namespace stargate
