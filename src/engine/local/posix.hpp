#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

// Small POSIX helpers shared by the engine and the shim. Plain libc only: the shim is linked static and must stay tiny.
namespace stargate::local {

/// Owns a file descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int number) : number_{number} {}
    Fd(Fd&& other) noexcept : number_{std::exchange(other.number_, -1)} {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset();
            number_ = std::exchange(other.number_, -1);
        }
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    [[nodiscard]] int get() const { return number_; }
    [[nodiscard]] int release() { return std::exchange(number_, -1); }
    [[nodiscard]] explicit operator bool() const { return number_ >= 0; }
    void reset();

private:
    int number_ = -1;
};

/// "WHAT: No such file or directory", for people.
[[nodiscard]] std::string failure(std::string_view what, int error = errno);

/// The whole of a small file, or nothing: when it cannot be opened, is no regular file or is longer than `most`. Never
/// follows a link in the last component and never blocks, so it may be used beneath folders that a job can write.
[[nodiscard]] std::optional<std::string> read_small_file(int folder, const char* name, std::size_t most);

/// As above for files of /proc and /sys, which have no size; cut at `most`.
[[nodiscard]] std::string read_kernel_file(const char* path, std::size_t most = 4096);

/// Writes everything; false with errno when the file would not take it.
[[nodiscard]] bool write_all(int file, std::string_view bytes);

/// This boot of this machine, as /proc/sys/kernel/random/boot_id has it.
[[nodiscard]] std::string boot_id();

/// When a process started, in clock ticks since boot; 0 when there is no such process. With the pid and the boot id it
/// names a process for ever, where a pid alone is used again.
[[nodiscard]] std::uint64_t start_ticks(int pid);

/// Whether that process, of this boot, has not died: a zombie has.
[[nodiscard]] bool is_alive(int pid, std::uint64_t start_ticks);

/// Opens a process by number; signals the process that was opened, whoever has its number now.
[[nodiscard]] Fd open_process(int pid);
bool signal_process(const Fd& process, int number);

/// Microseconds of CLOCK_BOOTTIME: goes on while the machine sleeps, knows nothing of the wall clock's jumps.
[[nodiscard]] std::int64_t boot_time_us();

/// Microseconds since the Unix epoch by the wall clock: for people and logs, never for deadlines.
[[nodiscard]] std::int64_t unix_time_us();

}  // namespace stargate::local
