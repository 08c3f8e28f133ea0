#include "engine/local/attempt_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

namespace stargate::local {

std::string attempt_folder_name(std::uint64_t attempt) { return std::to_string(attempt); }

std::optional<std::uint64_t> attempt_of(const std::string& name) {
    std::uint64_t attempt = 0;
    const auto* end = name.data() + name.size();
    const auto read = std::from_chars(name.data(), end, attempt);
    if (read.ec != std::errc{} || read.ptr != end || attempt_folder_name(attempt) != name) return std::nullopt;
    return attempt;
}

Fd open_attempts(const std::string& state) {
    const auto path = state + "/attempts";
    // Searchable, not readable: without a sandbox a job reaches its own folder by name and lists nobody's. The mode is
    // given once more, because what mkdir gives is less the caller's umask.
    if (mkdir(path.c_str(), 0711) == 0) chmod(path.c_str(), 0711);
    return Fd{open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
}

Fd open_attempt(int attempts, std::uint64_t attempt) {
    const auto name = attempt_folder_name(attempt);
    return Fd{openat(attempts, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
}

Fd take_lock(int folder) {
    Fd lock{openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (lock && flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.reset();
    const Fd older{lock ? openat(folder, older_lock_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1};
    const bool may_be_held = older ? flock(older.get(), LOCK_EX | LOCK_NB) != 0 : errno != ENOENT;
    if (lock && may_be_held) lock.reset();
    return lock;
}

bool has_file(int folder, const char* name) { return faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

bool has_living_init(const ShimRecord& record, const std::string& boot_id) {
    return record.init.pid != 0 && record.boot_id == boot_id && is_alive(record.init.pid, record.init.start_ticks);
}

bool is_shortage(int error) {
    return error == ENOSPC || error == EDQUOT || error == ENOMEM || error == EMFILE || error == ENFILE;
}

Fd connect_to_shim(int folder) {
    // Through /proc, because a socket's path is limited to 108 bytes and a state folder's is not.
    const auto path = "/proc/self/fd/" + std::to_string(folder) + "/" + socket_name;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    Fd link{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (link && connect(link.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) link.reset();
    return link;
}

}  // namespace stargate::local
