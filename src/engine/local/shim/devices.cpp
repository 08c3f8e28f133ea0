#include "engine/local/shim/devices.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <vector>

#include "engine/local/shim/environment.hpp"
#include "engine/local/shim/mounts.hpp"

namespace stargate::local {

namespace {

struct Device {
    const char* path;
    unsigned major_number;
    unsigned minor_number;
};
constexpr Device harmless[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                               {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};

/// A host's device file, taken along before /dev is covered.
struct Carried {
    std::string path;
    Fd tree;
};

void carry(std::vector<Carried>& carried, std::string path) {
    const auto place = open_place(path);
    if (!place) return;
    if (auto tree = copy_tree(place)) carried.push_back({std::move(path), std::move(tree)});
}

std::vector<Carried> carry_gpus(std::uint64_t gpus) {
    std::vector<Carried> carried;
    if (gpus == 0) return carried;
    for (int gpu = 0; gpu < 64; ++gpu) {
        if ((gpus >> gpu & 1U) != 0) carry(carried, "/dev/nvidia" + std::to_string(gpu));
    }
    for (const auto* shared : {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}) {
        carry(carried, shared);
    }
    return carried;
}

}  // namespace

std::optional<std::string> build_devices(std::uint64_t gpus, const Fd& job_folder, const Fd& shared_memory) {
    // Root makes device files itself: cheaper than mounting each. In a user namespace that is not allowed.
    const bool may_make = geteuid() == 0;
    auto carried = carry_gpus(gpus);
    if (!may_make) {
        for (const auto& device : harmless) carry(carried, device.path);
    }

    if (!mount_tmpfs("/dev", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")) return failure("cannot mount /dev");
    for (const auto& device : harmless) {
        if (!may_make) break;
        if (mknod(device.path, S_IFCHR | 0666, makedev(device.major_number, device.minor_number)) != 0) {
            return failure(std::string{"cannot make "} + device.path);
        }
    }
    for (const auto& device : carried) {
        if (!Fd{open(device.path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666)} || !attach(device.tree, device.path)) {
            return failure("cannot bind " + device.path);
        }
    }
    mkdir("/dev/pts", 0755);
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620") != 0) {
        return failure("cannot mount /dev/pts");
    }
    mkdir("/dev/shm", 01777);
    if (shared_memory && !attach(shared_memory, "/dev/shm")) return failure("cannot bind /dev/shm");
    mkdir(job_folder_in_sandbox, 0755);
    if (!attach(job_folder, job_folder_in_sandbox)) return failure("cannot bind the job's own folder");
    constexpr const char* links[][2] = {{"pts/ptmx", "/dev/ptmx"},
                                        {"/proc/self/fd", "/dev/fd"},
                                        {"/proc/self/fd/0", "/dev/stdin"},
                                        {"/proc/self/fd/1", "/dev/stdout"},
                                        {"/proc/self/fd/2", "/dev/stderr"}};
    for (const auto& [target, path] : links) {
        if (symlink(target, path) != 0) return failure(std::string{"cannot make "} + path);
    }
    return std::nullopt;
}

}  // namespace stargate::local
