#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/local/posix.hpp"

// Mounting by file descriptor (open_tree, move_mount; Linux 5.12): what has been opened once cannot be swapped for
// another by renaming or linking, and what gets covered can be taken along before.
namespace stargate::local {

/// A place, opened without reading it. Empty with errno.
[[nodiscard]] Fd open_place(const std::string& path);
/// Where an opened place lies, without links. Empty with errno.
[[nodiscard]] std::string canonical_path(const Fd& place);
/// `path` is `folder` or lies beneath it. Both canonical.
[[nodiscard]] bool is_within(std::string_view path, std::string_view folder);

/// A copy of the mount tree at a place, with all that is mounted below, attached nowhere yet.
[[nodiscard]] Fd copy_tree(const Fd& place);
[[nodiscard]] bool attach(const Fd& tree, const Fd& place);
[[nodiscard]] bool attach(const Fd& tree, const std::string& path);
/// Adds MOUNT_ATTR_... to a tree and all that is mounted below.
[[nodiscard]] bool restrict_tree(const Fd& tree, std::uint64_t attributes);

[[nodiscard]] bool mount_tmpfs(const char* path, unsigned long flags, const char* options);
/// Covers a folder with an empty one that nobody can write.
[[nodiscard]] bool cover(const Fd& place);

/// mkdir -p. False with errno.
[[nodiscard]] bool make_folders(const std::string& path);

/// One line of /proc/self/mountinfo.
struct MountPoint {
    std::string device;
    std::string root;  // the part of the file system that is shown
    std::string path;  // where
    std::string type;  // of file system: "ext4", "proc"
};
/// The whole table, or nothing: what is hidden by a part of it may be seen by the rest.
[[nodiscard]] std::optional<std::vector<MountPoint>> mount_table();

/// Every path under which the folder at `path` can be seen, when its file system is mounted in several places.
[[nodiscard]] std::vector<std::string> aliases_of(const std::vector<MountPoint>& table, const std::string& path);

/// The canonical `path` lies in, is or holds a file system that shows the machine's own processes or devices, as /proc
/// and /dev do. /dev/shm is no such.
[[nodiscard]] bool shows_the_machine(const std::vector<MountPoint>& table, const std::string& path);

}  // namespace stargate::local
