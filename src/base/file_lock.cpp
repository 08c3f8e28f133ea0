#include "base/file_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace stargate {
namespace {

/// A killed process holds its locks a little longer: until all its threads are gone, and until the child that it was
/// just starting has become another program.
constexpr auto patience = std::chrono::seconds{1};

/// Whether the file is ours now; errno says why not.
bool lock(int descriptor) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return true;
}

/// Who wrote itself into the lock file: "pid 123", or "another process" in the instant before it has done so.
std::string holder(int descriptor) {
    std::array<char, 32> text{};
    const auto got = ::pread(descriptor, text.data(), text.size() - 1, 0);
    const long pid = got > 0 ? std::strtol(text.data(), nullptr, 10) : 0;
    return pid > 0 ? fmt::format("pid {}", pid) : std::string{"another process"};
}

}  // namespace

Result<FileLock> FileLock::take(const std::string& path) {
    FileDescriptor descriptor{::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!descriptor) return fail_with_errno("open", path);
    if (!lock(descriptor.get())) {
        if (errno != EWOULDBLOCK) return fail_with_errno("lock", path);
        return fail(Fault::conflict, fmt::format("{} is held by {}", path, holder(descriptor.get())));
    }
    // The pid only serves the sentence above: it need not be durable, and whether it could be written does not matter.
    const auto pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(descriptor.get(), 0) == 0) {
        [[maybe_unused]] const auto put = ::pwrite(descriptor.get(), pid.data(), pid.size(), 0);
    }
    return FileLock{std::move(descriptor)};
}

}  // namespace stargate
