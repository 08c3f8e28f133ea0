#include "store/room.hpp"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "base/posix.hpp"

namespace stargate::store {
namespace {

/// Some hundred batches of ends and cancels, each of which dirties a few pages.
constexpr Bytes most_kept_back = mebibytes(8);
/// Of the whole disk: a small one is the user's, not ours.
constexpr std::int64_t least_part = 16;
/// The files of an attempt take some blocks each, the index of a WAL 32 KiB.
constexpr Bytes least_room{64 << 10};

}  // namespace

Error no_room(const std::string& folder) {
    return {Fault::full, fmt::format("the disk that holds the state folder {0} is full; free some space on it: the "
                                     "output of jobs lies in {0}/logs",
                                     folder)};
}

Result<Bytes> room_kept_back(const std::string& folder) {
    struct statvfs disk {};
    if (::statvfs(folder.c_str(), &disk) != 0) return fail_with_errno("look at the disk of", folder);
    const auto whole = static_cast<std::int64_t>(disk.f_blocks * disk.f_frsize);
    return std::min(most_kept_back, Bytes{whole / least_part});
}

Result<Bytes> room_left(const std::string& folder) {
    struct statvfs disk {};
    if (::statvfs(folder.c_str(), &disk) != 0) return fail_with_errno("look at the disk of", folder);
    const auto blocks = ::geteuid() == 0 ? disk.f_bfree : disk.f_bavail;
    return Bytes{static_cast<std::int64_t>(blocks * disk.f_frsize)};
}

bool is_full(const std::string& folder) {
    const auto left = room_left(folder);
    return left && *left < least_room;
}

}  // namespace stargate::store
