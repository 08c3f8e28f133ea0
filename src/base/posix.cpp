#include "base/posix.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stargate {
namespace {

Fault fault_of(int code) {
    switch (code) {
        case ENOENT:
        case ENOTDIR:
            return Fault::not_found;
        case EEXIST:
            return Fault::conflict;
        case EACCES:
        case EPERM:
        case EROFS:
            return Fault::denied;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return Fault::full;
        default:
            return Fault::unavailable;
    }
}

/// Not strerror(), which would bring message catalogues into the static shim.
const char* reason(int code) {
    const char* text = ::strerrordesc_np(code);
    return text != nullptr ? text : "unknown error";
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

FileDescriptor::~FileDescriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

tl::unexpected<Error> fail_with_errno(std::string_view verb, std::string_view path) {
    const int code = errno;
    std::string detail{"cannot "};
    detail.append(verb).append(" ").append(path).append(": ").append(reason(code));
    return fail(fault_of(code), std::move(detail));
}

tl::unexpected<Error> fail_sync(std::string_view path) {
    const int code = errno;
    std::string detail{"cannot make "};
    detail.append(path).append(" durable: ").append(reason(code));
    return fail(Fault::unknown_outcome, detail + "; the last change to it may or may not survive a power cut");
}

std::uint64_t raise_open_files_limit() {
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return 0;
    const auto before = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);  // where it is not allowed, the limit stays as it is
    return before;
}

}  // namespace stargate
