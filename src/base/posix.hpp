#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace stargate {

/// Owns a file descriptor and closes it. False when it holds none.
class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int descriptor) : descriptor_{descriptor} {}
    FileDescriptor(FileDescriptor&& other) noexcept : descriptor_{std::exchange(other.descriptor_, -1)} {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept;
    ~FileDescriptor();
    [[nodiscard]] int get() const { return descriptor_; }
    explicit operator bool() const { return descriptor_ >= 0; }
    /// Gives it to somebody else to close.
    [[nodiscard]] int release() { return std::exchange(descriptor_, -1); }

private:
    int descriptor_ = -1;
};

/// The Error for the system call that has just failed, from errno: "cannot open /x: No such file or directory".
tl::unexpected<Error> fail_with_errno(std::string_view verb, std::string_view path);

/// The Error for an fsync that has just failed: Fault::unknown_outcome, whatever errno says.
tl::unexpected<Error> fail_sync(std::string_view path);

/// Raises this process's soft limit on open files to the hard one: a control plane holds two for each running attempt,
/// and the usual soft limit is meant for programs that use select(). Returns the one before, which programs that it
/// starts should get back.
std::uint64_t raise_open_files_limit();

}  // namespace stargate
