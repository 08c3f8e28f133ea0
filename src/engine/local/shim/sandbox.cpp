#include "engine/local/shim/sandbox.hpp"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/shim/as_account.hpp"
#include "engine/local/shim/devices.hpp"
#include "engine/local/shim/mount_point.hpp"
#include "engine/local/shim/mounts.hpp"

namespace stargate::local {

namespace {

using Outcome = std::optional<SandboxFault>;

SandboxFault ours(std::string_view what) { return {EndKind::refused, failure(what)}; }
SandboxFault theirs(std::string why) { return {EndKind::could_not_start, std::move(why)}; }

bool is_folder(const Fd& place) {
    struct stat about {};
    return fstat(place.get(), &about) == 0 && S_ISDIR(about.st_mode);
}

/// A folder of the submitter that must stay usable wherever it lies.
struct Kept {
    std::string path;
    Fd place;
    Fd tree;
};

struct Declared {
    std::string target;
    Fd place;
    Fd tree;
    bool read_only = false;
    bool is_folder = true;
};

bool write_kernel_file(const char* path, const std::string& text) {
    const Fd file{open(path, O_WRONLY | O_CLOEXEC)};
    return file && write_all(file.get(), text);
}

bool map_identity(uid_t uid, gid_t gid) {
    const auto line = [](std::uint32_t id) { return std::to_string(id) + " " + std::to_string(id) + " 1"; };
    return write_kernel_file("/proc/self/setgroups", "deny") && write_kernel_file("/proc/self/uid_map", line(uid)) &&
           write_kernel_file("/proc/self/gid_map", line(gid));
}

bool raise_loopback() {
    const Fd handle{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq request{};
    std::memcpy(request.ifr_name, "lo", 3);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return handle && ioctl(handle.get(), SIOCSIFFLAGS, &request) == 0;
}

bool is_plain_target(const std::string& path) {
    return path.size() > 1 && path.front() == '/' && path.find("/../") == std::string::npos && !path.ends_with("/..") &&
           path.find("//") == std::string::npos && !path.ends_with("/");
}

class Builder {
public:
    Builder(const Spec& spec, std::uint64_t gpus) : spec_{spec}, gpus_{gpus} {}

    Outcome build() {
        if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
            return ours("cannot leave the host's mounts");
        if (auto fault = take_job_folder()) return fault;
        if (!spec_.mounts.empty()) {
            if (auto fault = look_at_mounts()) return fault;
            if (auto fault = make_mount_points()) return fault;
        }
        if (auto fault = look_at_mounts()) return fault;
        if (auto fault = open_everything()) return fault;
        if (auto fault = hide_state()) return fault;
        if (auto fault = take_along()) return fault;
        if (spec_.confinement == Confinement::strict && !restrict_tree(open_place("/"), MOUNT_ATTR_RDONLY)) {
            return ours("cannot make the root read-only");
        }
        if (auto fault = cover_tmp()) return fault;
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
            return ours("cannot mount /proc");
        }
        if (auto trouble = build_devices(spec_.real_gpus ? gpus_ : 0, job_tree_, shared_memory_)) {
            return SandboxFault{EndKind::refused, *trouble};
        }
        return put_back();
    }

private:
    Outcome look_at_mounts() {
        auto table = mount_table();
        if (!table) return SandboxFault{EndKind::refused, "the table of mounts cannot be read whole"};
        table_ = std::move(*table);
        hidden_ = aliases_of(table_, spec_.state);
        return std::nullopt;
    }

    /// Makes mount points that are not there. First of all, because it may replace the root: a place that was opened
    /// before would lead to the old one.
    Outcome make_mount_points() {
        for (const auto& mounted : spec_.mounts) {
            if (!is_plain_target(mounted.target)) {
                return theirs("mount target " + mounted.target + " is not a plain path");
            }
            if (is_within(mounted.target, "/tmp")) continue;  // made later, in the private one
            bool for_folder = true;
            {
                const AsAccount submitter{spec_.account};
                if (!submitter.is_ok()) return ours("cannot act as user " + spec_.account.name);
                const auto source = open_place(mounted.source);
                if (!source) return theirs(failure("cannot mount " + mounted.source));
                for_folder = is_folder(source);
            }
            if (auto fault = make_mount_point(spec_.account, hidden_, mounted.target, for_folder)) return fault;
        }
        return std::nullopt;
    }

    /// Opens what the job names, as the submitter.
    Outcome open_everything() {
        const AsAccount submitter{spec_.account};
        if (!submitter.is_ok()) return ours("cannot act as user " + spec_.account.name);
        auto folder = open_place(spec_.folder);
        if (!folder) return theirs(failure("cannot enter folder " + spec_.folder));
        const auto path = canonical_path(folder);
        if (is_hidden(path)) return theirs("folder " + path + " lies inside the state folder");
        keep_tmp_ = path == "/tmp";
        kept_.push_back({path, std::move(folder), {}});
        for (const auto& extra : {spec_.account.home, spec_.checkpoint_folder}) {
            auto place = extra.empty() ? Fd{} : open_place(extra);
            auto extra_path = place ? canonical_path(place) : std::string{};
            if (place && extra_path != "/" && extra_path != "/tmp" && is_folder(place)) {
                kept_.push_back({std::move(extra_path), std::move(place), {}});
            }
        }
        for (const auto& mounted : spec_.mounts) {
            auto place = open_place(mounted.source);
            if (!place) return theirs(failure("cannot mount " + mounted.source));
            const auto source = canonical_path(place);
            if (is_hidden(source)) return theirs("mount " + source + " lies inside the state folder");
            if (shows_the_machine(table_, source)) {
                return theirs("mount " + source + " would show the machine's own processes or devices");
            }
            const bool folder_shown = is_folder(place);
            declared_.push_back({mounted.target, std::move(place), {}, mounted.read_only, folder_shown});
        }
        return std::nullopt;
    }

    /// By the current folder, because a descriptor from before leads to the mounts of the host, which are not ours to
    /// copy; and before the state folder is hidden.
    Outcome take_job_folder() {
        const auto job_folder = open_place(job_folder_name);
        job_tree_ = job_folder ? copy_tree(job_folder) : Fd{};
        if (!job_tree_) return ours("cannot copy the job's own folder");
        return std::nullopt;
    }

    [[nodiscard]] bool is_hidden(const std::string& path) const {
        return std::any_of(hidden_.begin(), hidden_.end(),
                           [&](const std::string& state) { return is_within(path, state); });
    }

    Outcome hide_state() {
        for (const auto& path : hidden_) {
            const auto place = open_place(path);
            if (!place && path != spec_.state) continue;  // that file system is covered by another there
            if (!place || !cover(place)) return ours("cannot hide the state folder at " + path);
        }
        return std::nullopt;
    }

    /// Copies the trees of what will be covered or made read-only, with the masks that lie in them.
    Outcome take_along() {
        std::sort(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) { return a.path < b.path; });
        const bool strict = spec_.confinement == Confinement::strict;
        std::string outer = "//";  // the last one taken: what lies beneath it comes with it
        for (auto& kept : kept_) {
            const bool covered = !keep_tmp_ && is_within(kept.path, "/tmp") && kept.path != "/tmp";
            if (is_within(kept.path, outer) || kept.path == "/" || !(strict || covered)) continue;
            if (shows_the_machine(table_, kept.path)) continue;  // what the sandbox has there instead is enough
            kept.tree = copy_tree(kept.place);
            if (!kept.tree) return ours("cannot copy the mounts of " + kept.path);
            outer = kept.path;
        }
        for (auto& declared : declared_) {
            declared.tree = copy_tree(declared.place);
            const std::uint64_t more = declared.read_only ? MOUNT_ATTR_RDONLY : 0;
            if (!declared.tree || !restrict_tree(declared.tree, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | more)) {
                return ours("cannot copy the mounts for " + declared.target);
            }
        }
        if (const auto place = open_place("/dev/shm")) shared_memory_ = copy_tree(place);
        return std::nullopt;
    }

    Outcome cover_tmp() {
        if (!keep_tmp_ && !mount_tmpfs("/tmp", MS_NOSUID | MS_NODEV, "mode=1777")) return ours("cannot mount /tmp");
        return std::nullopt;
    }

    Outcome put_back() {
        for (const auto& kept : kept_) {
            if (!kept.tree) continue;
            if (auto fault = put_at(kept.path, kept.tree, true)) return fault;
        }
        for (const auto& declared : declared_) {
            if (auto fault = put_at(declared.target, declared.tree, declared.is_folder)) return fault;
        }
        return std::nullopt;
    }

    /// By way of a place that the submitter reaches, or makes in the private /tmp: a folder there may be their own, in
    /// which a link that is put up meanwhile would lead root anywhere.
    Outcome put_at(const std::string& path, const Fd& tree, bool folder_shown) {
        Fd place;
        {
            const AsAccount submitter{spec_.account};
            if (!submitter.is_ok()) return ours("cannot act as user " + spec_.account.name);
            if (is_within(path, "/tmp") && !make_room_in_tmp(path, folder_shown)) {
                return theirs(failure("cannot make the mount point " + path));
            }
            place = open_place(path);
        }
        if (!place) return theirs(failure("cannot mount at " + path));
        if (!attach(tree, place)) return ours("cannot mount at " + path);
        return std::nullopt;
    }

    static bool make_room_in_tmp(const std::string& path, bool for_folder) {
        if (for_folder) return make_folders(path);
        return make_folders(path.substr(0, path.rfind('/'))) &&
               Fd{open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644)};
    }

    const Spec& spec_;
    std::uint64_t gpus_;
    bool keep_tmp_ = false;  // the submit folder is /tmp itself: to hide it would hide the job's own files
    std::vector<MountPoint> table_;
    std::vector<std::string> hidden_;  // the state folder, by each path that leads to it
    Fd job_tree_;
    Fd shared_memory_;
    std::vector<Kept> kept_;
    std::vector<Declared> declared_;
};

}  // namespace

unsigned long namespace_flags(Confinement confinement) {
    unsigned long flags = 0;
    if (confinement == Confinement::none) return flags;
    flags |= CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;
    if (geteuid() != 0) flags |= CLONE_NEWUSER;
    if (confinement == Confinement::strict) flags |= CLONE_NEWNET;
    return flags;
}

Outcome build_sandbox(const Spec& spec, std::uint64_t gpus, uid_t uid, gid_t gid) {
    if (spec.account.uid == 0) return theirs("jobs never run as root");
    if (uid != 0 && uid != spec.account.uid) {
        return theirs("this control plane may not run jobs as user " + spec.account.name);
    }
    if (spec.confinement == Confinement::none) return std::nullopt;
    if (uid != 0 && !map_identity(uid, gid)) return ours("cannot map the user into a user namespace");
    if (spec.confinement == Confinement::strict && !raise_loopback()) return ours("cannot raise the loopback device");
    return Builder{spec, gpus}.build();
}

}  // namespace stargate::local
