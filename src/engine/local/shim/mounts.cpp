#include "engine/local/shim/mounts.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace stargate::local {

namespace {

std::string fd_path(const Fd& place) { return "/proc/self/fd/" + std::to_string(place.get()); }

std::string unescape(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            plain.push_back(
                static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
            i += 3;
        } else {
            plain.push_back(text[i]);
        }
    }
    return plain;
}

/// "/a" + "/b" with "/" as the empty path.
std::string joined(std::string_view base, std::string_view rest) {
    std::string path{base == "/" ? "" : base};
    path += rest == "/" ? "" : rest;
    return path.empty() ? "/" : path;
}

/// The mount that shows `path`: the longest that holds it, of equals the last, which lies on top.
const MountPoint* mount_of(const std::vector<MountPoint>& table, std::string_view path) {
    const MountPoint* home = nullptr;
    for (const auto& point : table) {
        if (is_within(path, point.path) && (home == nullptr || point.path.size() >= home->path.size())) home = &point;
    }
    return home;
}

/// Shows processes, devices or settings of the machine itself.
bool is_of_the_kernel(std::string_view type) {
    return type == "proc" || type == "sysfs" || type == "devtmpfs" || type == "devpts";
}

std::string_view beneath(std::string_view path, std::string_view folder) {
    if (folder == "/") return path;
    return path.size() == folder.size() ? "/" : path.substr(folder.size());
}

}  // namespace

Fd open_place(const std::string& path) { return Fd{open(path.c_str(), O_PATH | O_CLOEXEC)}; }

std::string canonical_path(const Fd& place) {
    char path[PATH_MAX];
    const auto length = readlink(fd_path(place).c_str(), path, sizeof path);
    return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : std::string{};
}

bool is_within(std::string_view path, std::string_view folder) {
    if (folder == "/") return true;
    return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

Fd copy_tree(const Fd& place) {
    return Fd{open_tree(place.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)};
}

bool attach(const Fd& tree, const Fd& place) {
    return move_mount(tree.get(), "", place.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
}

bool attach(const Fd& tree, const std::string& path) {
    return move_mount(tree.get(), "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

bool restrict_tree(const Fd& tree, std::uint64_t attributes) {
    mount_attr change{};
    change.attr_set = attributes;
    return mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change) == 0;
}

bool mount_tmpfs(const char* path, unsigned long flags, const char* options) {
    return mount("tmpfs", path, "tmpfs", flags, options) == 0;
}

bool cover(const Fd& place) {
    return mount_tmpfs(fd_path(place).c_str(), MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=555");
}

bool make_folders(const std::string& path) {
    for (auto at = path.find('/', 1);; at = path.find('/', at + 1)) {
        const auto part = path.substr(0, at);
        if (mkdir(part.c_str(), 0755) != 0 && !open_place(part)) return false;  // access() would ask the real uid
        if (at == std::string::npos) return true;
    }
}

std::optional<std::vector<MountPoint>> mount_table() {
    constexpr std::size_t longest = 64U << 20;  // the kernel's limit is 100,000 mounts, of some 200 bytes each
    const auto text = read_kernel_file("/proc/self/mountinfo", longest);
    if (text.empty() || text.size() >= longest) return std::nullopt;
    std::string_view left = text;
    std::vector<MountPoint> table;
    while (!left.empty()) {
        auto line = left.substr(0, left.find('\n'));
        left.remove_prefix(line.size() < left.size() ? line.size() + 1 : line.size());
        std::string_view fields[5];  // id, parent, device, root, mount point; options follow, then " - " and the type
        for (auto& field : fields) {
            field = line.substr(0, line.find(' '));
            line.remove_prefix(field.size() < line.size() ? field.size() + 1 : line.size());
        }
        const auto dash = line.find(" - ");
        auto type = dash == std::string_view::npos ? std::string_view{} : line.substr(dash + 3);
        type = type.substr(0, type.find(' '));
        table.push_back({std::string{fields[2]}, unescape(fields[3]), unescape(fields[4]), std::string{type}});
    }
    return table;
}

std::vector<std::string> aliases_of(const std::vector<MountPoint>& table, const std::string& path) {
    std::vector<std::string> seen{path};
    const auto* home = mount_of(table, path);
    if (home == nullptr) return seen;
    const auto inside = joined(home->root, beneath(path, home->path));  // the folder as its file system names it
    for (const auto& point : table) {
        if (&point == home || point.device != home->device || !is_within(inside, point.root)) continue;
        auto alias = joined(point.path, beneath(inside, point.root));
        if (alias != path) seen.push_back(std::move(alias));
    }
    return seen;
}

bool shows_the_machine(const std::vector<MountPoint>& table, const std::string& path) {
    for (const auto* own : {"/proc", "/sys", "/dev"}) {
        if (is_within(path, own) && !is_within(path, "/dev/shm")) return true;
    }
    const auto* home = mount_of(table, path);
    if (home != nullptr && is_of_the_kernel(home->type)) return true;
    return std::any_of(table.begin(), table.end(), [&](const MountPoint& point) {
        return is_of_the_kernel(point.type) && is_within(point.path, path);
    });
}

}  // namespace stargate::local
