#include "api/mount_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

namespace stargate::api {

namespace {

/// The sandbox makes its own there, or has the kernel's.
constexpr std::string_view own_folders[] = {"/proc", "/sys", "/dev"};
constexpr std::string_view shared_memory = "/dev/shm";  // the one folder in them that is the host's, and open to all
/// Programs are found and started by what lies there; places in them may be mounted at.
constexpr std::string_view needed_folders[] = {
    "/",    "/bin",     "/sbin",     "/lib",     "/lib32",     "/lib64",     "/libx32",     "/etc",
    "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec"};

std::string plain(std::string_view path) {
    auto text = std::filesystem::path{path}.lexically_normal().string();
    if (text.size() > 1 && text.back() == '/') text.pop_back();
    return text;
}

/// As /lib/x86_64-linux-gnu, where Debian keeps the loader and the C library.
bool is_multiarch(std::string_view path) {
    const bool is_of_libraries = path.starts_with("/lib/") || path.starts_with("/usr/lib/");
    return is_of_libraries && path.ends_with("-linux-gnu");
}

bool is_within(std::string_view path, std::string_view folder) {
    return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

bool is_the_sandboxes_own(std::string_view path) {
    return !is_within(path, shared_memory) && std::any_of(std::begin(own_folders), std::end(own_folders),
                                                          [&](std::string_view own) { return is_within(path, own); });
}

auto refuse(std::string what) { return fail(Fault::malformed, std::move(what)); }

}  // namespace

Result<void> check_mount_source(std::string_view source, std::string_view state) {
    const auto path = plain(source);
    if (path == "/") {
        return refuse(fmt::format("`{}` holds what no job may see; mount the folders in it that you need", source));
    }
    if (is_the_sandboxes_own(path)) {
        return refuse(fmt::format(
            "`{}` would show the job the machine's own processes and devices; mount another folder", source));
    }
    if (!state.empty() && is_within(path, state)) {
        return refuse(fmt::format("`{}` lies in the state folder, which no job sees; mount another folder", source));
    }
    return {};
}

Result<void> check_folder(std::string_view folder, std::string_view state) {
    if (state.empty() || !is_within(plain(folder), state)) return {};
    return refuse(fmt::format("`{}` lies in the state folder, which no job sees; choose another folder", folder));
}

std::string folder_in_mounts(const Launch& launch) {
    const auto folder = plain(launch.folder);
    std::string inside;
    for (const auto& mount : launch.mounts) {
        if (is_within(folder, mount.target)) inside = mount.source + folder.substr(mount.target.size());
    }
    return inside;
}

Result<std::string> read_mount_target(std::string_view target, std::string_view state) {
    constexpr std::string_view remedy = "choose another target, as /data";
    auto path = plain(target);
    const bool is_needed =
        std::find(std::begin(needed_folders), std::end(needed_folders), path) != std::end(needed_folders);
    if (is_needed || is_multiarch(path)) {
        return refuse(fmt::format("a mount at `{}` would hide what every job needs; {}", target, remedy));
    }
    if (is_the_sandboxes_own(path)) {
        return refuse(fmt::format("nothing can be mounted at `{}`, which is the sandbox's own; {}", target, remedy));
    }
    if (!state.empty() && is_within(path, state)) {
        return refuse(fmt::format("nothing can be mounted at `{}`, which is the state folder; {}", target, remedy));
    }
    return path;
}

}  // namespace stargate::api
