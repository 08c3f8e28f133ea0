#include "engine/local/posix.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <ctime>

namespace stargate::local {

namespace {

std::int64_t microseconds_of(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

/// Reads until the end or until `bytes` is longer than `most`.
bool read_up_to(int file, std::size_t most, std::string& bytes) {
    char part[4096];
    while (bytes.size() <= most) {
        const auto got = read(file, part, sizeof part);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) break;
        bytes.append(part, static_cast<std::size_t>(got));
    }
    return true;
}

}  // namespace

void Fd::reset() {
    if (number_ >= 0) close(std::exchange(number_, -1));
}

std::string failure(std::string_view what, int error) {
    const char* why = strerrordesc_np(error);
    return std::string{what} + ": " + (why != nullptr ? why : "unknown error");
}

std::optional<std::string> read_small_file(int folder, const char* name, std::size_t most) {
    const Fd file{openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)};
    struct stat about {};
    if (!file || fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode)) return std::nullopt;
    std::string bytes;
    if (!read_up_to(file.get(), most, bytes) || bytes.size() > most) return std::nullopt;
    return bytes;
}

std::string read_kernel_file(const char* path, std::size_t most) {
    const Fd file{open(path, O_RDONLY | O_CLOEXEC)};
    std::string bytes;
    if (file && !read_up_to(file.get(), most, bytes)) bytes.clear();
    return bytes;
}

bool write_all(int file, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto put = write(file, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
}

std::string boot_id() {
    auto id = read_kernel_file("/proc/sys/kernel/random/boot_id");
    while (!id.empty() && id.back() == '\n') id.pop_back();
    return id;
}

namespace {
/// From the state on (field 3): the command name (field 2) may hold blanks and brackets; the last bracket ends it.
std::string process_fields(int pid) {
    const auto path = "/proc/" + std::to_string(pid) + "/stat";
    const auto line = read_kernel_file(path.c_str());
    const auto name_end = line.rfind(") ");
    return name_end == std::string::npos ? std::string{} : line.substr(name_end + 2);
}

/// Field 22; 0 when there is none.
std::uint64_t start_time_in(const std::string& fields) {
    std::size_t at = 0;
    for (int field = 3; field < 22 && at != std::string::npos; ++field) {
        at = fields.find(' ', at);
        if (at != std::string::npos) ++at;
    }
    return at == std::string::npos || fields.empty() ? 0 : std::strtoull(fields.c_str() + at, nullptr, 10);
}
}  // namespace

std::uint64_t start_ticks(int pid) { return start_time_in(process_fields(pid)); }

bool is_alive(int pid, std::uint64_t start_ticks) {
    const auto fields = process_fields(pid);
    return start_time_in(fields) == start_ticks && !fields.empty() && fields[0] != 'Z' && fields[0] != 'X';
}

// By number: glibc 2.36 declares these without C linkage.
Fd open_process(int pid) { return Fd{static_cast<int>(syscall(SYS_pidfd_open, pid, 0))}; }
bool signal_process(const Fd& process, int number) {
    return syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) == 0;
}

std::int64_t boot_time_us() { return microseconds_of(CLOCK_BOOTTIME); }
std::int64_t unix_time_us() { return microseconds_of(CLOCK_REALTIME); }

}  // namespace stargate::local
