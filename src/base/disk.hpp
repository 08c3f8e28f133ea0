#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace stargate {

/// How a file is opened. Files are made with mode 0600, folders with 0700.
enum class Opening { read, edit, edit_or_create };

/// An open file. Offsets and sizes are bytes. Nothing is durable before sync() answered, and after a sync() that failed
/// (Fault::unknown_outcome) nobody knows what is: the kernel may have dropped the pages and call them clean.
class DiskFile {
public:
    DiskFile() = default;
    DiskFile(const DiskFile&) = delete;
    DiskFile& operator=(const DiskFile&) = delete;
    virtual ~DiskFile() = default;

    /// Fills `into` from `offset` as far as the file reaches; returns how many bytes it gave.
    [[nodiscard]] virtual Result<std::size_t> read(std::uint64_t offset, std::span<char> into) = 0;
    /// Writes all bytes. On an error any part of them may have been written.
    [[nodiscard]] virtual Result<void> write(std::uint64_t offset, std::string_view bytes) = 0;
    [[nodiscard]] virtual Result<void> truncate(std::uint64_t size) = 0;
    [[nodiscard]] virtual Result<void> sync() = 0;
    [[nodiscard]] virtual Result<std::uint64_t> size() = 0;
};

/// The few calls through which everything durable goes: the machine's own disk, or in tests one whose power can be cut
/// at any step. A name made, renamed or removed is durable only after sync_folder() of its folder.
class Disk {
public:
    Disk() = default;
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;
    virtual ~Disk() = default;

    [[nodiscard]] virtual Result<std::unique_ptr<DiskFile>> open(const std::string& path, Opening how) = 0;
    /// Both names lie in one folder. Replaces `to` in one step.
    [[nodiscard]] virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
    /// Removes a file. Fault::not_found when there is none.
    [[nodiscard]] virtual Result<void> remove(const std::string& path) = 0;
    /// Fault::conflict when the name is taken.
    [[nodiscard]] virtual Result<void> make_folder(const std::string& path) = 0;
    [[nodiscard]] virtual Result<void> sync_folder(const std::string& path) = 0;
    /// The names in a folder, without "." and "..", sorted.
    [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
    [[nodiscard]] virtual bool exists(const std::string& path) = 0;
};

/// The disk of this machine.
Disk& real_disk();

/// The folder that holds `path`: "." when it names none.
std::string folder_of(std::string_view path);

}  // namespace stargate
