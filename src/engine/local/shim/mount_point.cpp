#include "engine/local/shim/mount_point.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <vector>

#include "engine/local/shim/as_account.hpp"
#include "engine/local/shim/mounts.hpp"

namespace stargate::local {

namespace {

using Outcome = std::optional<SandboxFault>;

/// An entry of a folder that is being rebuilt: a copied tree, or a link's text.
struct Entry {
    std::string name;
    Fd tree;
    std::string link;
    bool is_folder = false;
};

std::optional<std::vector<Entry>> entries_of(const Fd& folder) {
    const int again = openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* listing = again >= 0 ? fdopendir(again) : nullptr;
    if (listing == nullptr) return std::nullopt;
    std::vector<Entry> entries;
    while (const dirent* found = readdir(listing)) {
        Entry entry{.name = found->d_name, .tree = {}, .link = {}, .is_folder = false};
        if (entry.name == "." || entry.name == "..") continue;
        struct stat about {};
        if (fstatat(folder.get(), found->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISLNK(about.st_mode)) {
            char text[PATH_MAX];
            const auto length = readlinkat(folder.get(), found->d_name, text, sizeof text);
            if (length > 0) entry.link.assign(text, static_cast<std::size_t>(length));
        } else {
            const Fd place{openat(folder.get(), found->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC)};
            if (place) entry.tree = copy_tree(place);
            entry.is_folder = S_ISDIR(about.st_mode);
        }
        entries.push_back(std::move(entry));
    }
    closedir(listing);
    return entries;
}

/// A new entry, or nothing: what is there already is not ours.
bool make_entry(const Fd& folder, const std::string& name, bool is_folder) {
    if (is_folder) return mkdirat(folder.get(), name.c_str(), 0755) == 0;
    constexpr int flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
    return static_cast<bool>(Fd{openat(folder.get(), name.c_str(), flags, 0644)});
}

bool put_entry(const Fd& top, const Entry& entry) {
    if (!entry.link.empty()) return symlinkat(entry.link.c_str(), top.get(), entry.name.c_str()) == 0;
    if (!entry.tree) return true;  // could not be opened: not shown
    return make_entry(top, entry.name, entry.is_folder) &&
           move_mount(entry.tree.get(), "", top.get(), entry.name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

/// An empty file system in memory whose top has this owner and mode, attached nowhere yet.
Fd make_tmpfs(const struct stat& like) {
    char mode[8];
    const auto bits = like.st_mode & 07777;
    for (int digit = 0; digit < 4; ++digit) mode[digit] = static_cast<char>('0' + (bits >> (9 - 3 * digit) & 7));
    mode[4] = '\0';
    const Fd made{fsopen("tmpfs", FSOPEN_CLOEXEC)};
    if (!made || fsconfig(made.get(), FSCONFIG_SET_STRING, "mode", mode, 0) != 0 ||
        fsconfig(made.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return {};
    }
    Fd top{fsmount(made.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)};
    // In a user namespace the owner may have no name; there all is the submitter's own in any case.
    if (top && geteuid() == 0 && fchownat(top.get(), "", like.st_uid, like.st_gid, AT_EMPTY_PATH) != 0) top.reset();
    return top;
}

/// Replaces a folder by a tmpfs with the same entries, and returns its top. Empty with errno.
Fd rebuild(const Fd& folder, bool is_root) {
    struct stat about {};
    if (fstat(folder.get(), &about) != 0) return {};
    const auto entries = entries_of(folder);
    auto top = make_tmpfs(about);
    if (!entries || !top || !attach(top, folder)) return {};
    // A mount upon "/" is not entered by the path "/", but "/.." leads to what lies on top of it.
    if (is_root && (chdir("/..") != 0 || chroot(".") != 0)) return {};
    for (const auto& entry : *entries) {
        if (!put_entry(top, entry)) return {};
    }
    return top;
}

/// Makes "/a/b/c" beneath a folder that only we can write. What is there already was put there while we worked, and
/// leads anywhere: it is not entered.
bool make_beneath(Fd folder, const std::string& path, bool for_folder) {
    for (std::size_t at = 1; at < path.size();) {
        const auto end = std::min(path.find('/', at), path.size());
        const auto name = path.substr(at, end - at);
        if (end == path.size()) return make_entry(folder, name, for_folder);
        if (!make_entry(folder, name, true)) return false;
        folder = Fd{openat(folder.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
        at = end + 1;
    }
    return false;
}

bool create(const std::string& path, bool for_folder) {
    if (for_folder) return make_folders(path);
    const auto parent = path.substr(0, path.rfind('/'));
    if (!parent.empty() && !make_folders(parent)) return false;
    return static_cast<bool>(Fd{open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644)});
}

std::string parent_of(const std::string& path) {
    const auto end = path.rfind('/');
    return path.substr(0, end == 0 ? 1 : end);
}

}  // namespace

Outcome make_mount_point(const RunAs& submitter, const std::vector<std::string>& hidden, const std::string& path,
                         bool for_folder) {
    const auto refuse = [&](EndKind kind) { return SandboxFault{kind, failure("cannot mount at " + path)}; };
    auto nearest = path;
    Fd folder;
    {
        const AsAccount rights{submitter};
        if (!rights.is_ok()) return refuse(EndKind::refused);
        auto place = open_place(nearest);
        while (!place && errno == ENOENT && nearest != "/") {
            nearest = parent_of(nearest);
            place = open_place(nearest);
        }
        if (!place) return refuse(EndKind::could_not_start);
        const auto real = canonical_path(place);
        if (std::any_of(hidden.begin(), hidden.end(), [&](const auto& closed) { return is_within(real, closed); })) {
            return SandboxFault{EndKind::could_not_start, "mount target " + path + " lies inside the state folder"};
        }
        if (nearest == path || create(path, for_folder)) return std::nullopt;
        folder = Fd{open(nearest.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        // "." is found only by who may search, and opened for reading only by who may read.
        if (!folder || !Fd{openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)}) {
            return refuse(EndKind::could_not_start);
        }
    }
    auto top = rebuild(folder, nearest == "/");
    const auto rest = nearest == "/" ? path : path.substr(nearest.size());
    if (!top || !make_beneath(std::move(top), rest, for_folder)) return refuse(EndKind::refused);
    return std::nullopt;
}

}  // namespace stargate::local
