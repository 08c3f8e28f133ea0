#include "engine/local/shim/mounts.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

namespace stargate::local {

namespace {

std::string fd_path(const Fd& place) { return "/proc/self/fd/" + std::to_string(place.get()); }

/// An entry of a folder that is being rebuilt: a copied tree, or a link's text.
struct Entry {
    std::string name;
    Fd tree;
    std::string link;
    bool is_folder = false;
};

bool take_entries(const std::string& folder, std::vector<Entry>& entries) {
    DIR* listing = opendir(folder.c_str());
    if (listing == nullptr) return false;
    while (const dirent* found = readdir(listing)) {
        Entry entry{.name = found->d_name, .tree = {}, .link = {}, .is_folder = false};
        if (entry.name == "." || entry.name == "..") continue;
        struct stat about {};
        if (fstatat(dirfd(listing), found->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISLNK(about.st_mode)) {
            char text[PATH_MAX];
            const auto length = readlinkat(dirfd(listing), found->d_name, text, sizeof text);
            if (length > 0) entry.link.assign(text, static_cast<std::size_t>(length));
        } else {
            const Fd place{openat(dirfd(listing), found->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC)};
            if (place) entry.tree = copy_tree(place);
            entry.is_folder = S_ISDIR(about.st_mode);
        }
        entries.push_back(std::move(entry));
    }
    closedir(listing);
    return true;
}

bool put_entry(const Entry& entry) {
    if (!entry.link.empty()) return symlink(entry.link.c_str(), entry.name.c_str()) == 0;
    if (!entry.tree) return true;  // could not be opened: not shown
    if (entry.is_folder ? mkdir(entry.name.c_str(), 0755) != 0
                        : !Fd{open(entry.name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)}) {
        return false;
    }
    return attach(entry.tree, entry.name);
}

/// Replaces `folder` by a tmpfs with the same entries.
bool rebuild(const std::string& folder) {
    std::vector<Entry> entries;
    if (!take_entries(folder, entries) || !mount_tmpfs(folder.c_str(), MS_NOSUID | MS_NODEV, "mode=755")) return false;
    // A mount upon "/" is not entered by the path "/", but "/.." leads to what lies on top of it.
    if (folder == "/" && (chdir("/..") != 0 || chroot(".") != 0)) return false;
    if (chdir(folder.c_str()) != 0) return false;
    for (const auto& entry : entries) {
        if (!put_entry(entry)) return false;
    }
    return true;
}

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

struct MountPoint {
    std::string_view device;
    std::string root;  // the part of the file system that is shown
    std::string path;  // where
};

std::vector<MountPoint> mount_points(std::string_view table) {
    std::vector<MountPoint> points;
    while (!table.empty()) {
        auto line = table.substr(0, table.find('\n'));
        table.remove_prefix(line.size() < table.size() ? line.size() + 1 : line.size());
        std::string_view fields[5];  // id, parent, device, root, mount point
        for (auto& field : fields) {
            field = line.substr(0, line.find(' '));
            line.remove_prefix(field.size() < line.size() ? field.size() + 1 : line.size());
        }
        points.push_back({fields[2], unescape(fields[3]), unescape(fields[4])});
    }
    return points;
}

/// "/a" + "/b" with "/" as the empty path.
std::string joined(std::string_view base, std::string_view rest) {
    std::string path{base == "/" ? "" : base};
    path += rest == "/" ? "" : rest;
    return path.empty() ? "/" : path;
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

bool make_read_only(const Fd& tree) {
    mount_attr change{};
    change.attr_set = MOUNT_ATTR_RDONLY;
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
        if (mkdir(part.c_str(), 0755) != 0 && access(part.c_str(), F_OK) != 0) return false;
        if (at == std::string::npos) return true;
    }
}

bool make_room(const std::string& path, bool for_folder) {
    auto folder = path;
    while (folder != "/" && access(folder.c_str(), F_OK) != 0) {
        const auto end = folder.rfind('/');
        folder.resize(end == 0 ? 1 : end);
    }
    if (folder == path) return true;
    if (!rebuild(folder)) return false;
    const auto parent = path.substr(0, path.rfind('/'));
    if (!parent.empty() && !make_folders(parent)) return false;
    if (for_folder) return mkdir(path.c_str(), 0755) == 0;
    return static_cast<bool>(Fd{open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644)});
}

std::vector<std::string> aliases_of(const std::string& path) {
    const auto table = read_kernel_file("/proc/self/mountinfo", 1U << 20);
    const auto points = mount_points(table);
    // The mount that shows `path`: the longest that holds it, of equals the last, which lies on top.
    const MountPoint* home = nullptr;
    for (const auto& point : points) {
        if (is_within(path, point.path) && (home == nullptr || point.path.size() >= home->path.size())) home = &point;
    }
    std::vector<std::string> seen{path};
    if (home == nullptr) return seen;
    const auto inside = joined(home->root, beneath(path, home->path));  // the folder as its file system names it
    for (const auto& point : points) {
        if (&point == home || point.device != home->device || !is_within(inside, point.root)) continue;
        auto alias = joined(point.path, beneath(inside, point.root));
        if (alias != path) seen.push_back(std::move(alias));
    }
    return seen;
}

}  // namespace stargate::local
