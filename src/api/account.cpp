#include "api/account.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <vector>

#include "api/mount_rules.hpp"
#include "base/check.hpp"
#include "base/posix.hpp"

namespace stargate::api {

namespace {

constexpr std::string_view base_path = "/usr/local/bin:/usr/bin:/bin";  // as the shim sets it

Result<Account> from_entry(const passwd& entry) {
    Account account;
    account.uid = entry.pw_uid;
    account.gid = entry.pw_gid;
    account.name = entry.pw_name;
    account.home = entry.pw_dir;
    account.shell = entry.pw_shell;
    std::vector<gid_t> groups(64);
    int count = static_cast<int>(groups.size());
    if (getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) < 0) {
        groups.resize(static_cast<std::size_t>(count));
        if (getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) < 0) {
            return fail(Fault::unavailable, fmt::format("the groups of account {} cannot be read", account.name));
        }
    }
    account.groups.assign(groups.begin(), groups.begin() + count);
    return account;
}

/// Gives this thread the account's rights on files, for as long as the object lives. They belong to a thread, so others
/// keep theirs; glibc's own calls would change all of them, hence the bare system calls. The effective uid stays
/// root's, which is what lets the destructor go back.
class RightsOf {
public:
    explicit RightsOf(const Account& account) : taken_{geteuid() == 0 && account.uid != 0} {
        if (!taken_) return;
        groups_.resize(static_cast<std::size_t>(std::max(0, getgroups(0, nullptr))));
        if (!groups_.empty() && getgroups(static_cast<int>(groups_.size()), groups_.data()) < 0) groups_.clear();
        group_ = getegid();
        (void)syscall(SYS_setgroups, account.groups.size(), account.groups.data());
        syscall(SYS_setfsgid, account.gid);
        syscall(SYS_setfsuid, account.uid);
    }
    RightsOf(const RightsOf&) = delete;
    RightsOf& operator=(const RightsOf&) = delete;
    ~RightsOf() {
        if (!taken_) return;
        syscall(SYS_setfsuid, 0);
        syscall(SYS_setfsgid, group_);
        (void)syscall(SYS_setgroups, groups_.size(), groups_.data());
        CHECK(syscall(SYS_setfsuid, -1) ==
              0);  // asks without changing: a thread that is not itself again may not go on
    }

private:
    bool taken_;
    std::vector<gid_t> groups_;
    gid_t group_ = 0;
};

/// Opens a place without reading it, and through no link of /proc that leads into another process: those ask for a
/// capability that RightsOf leaves root, and lead past folders that are closed to the account. False with errno.
FileDescriptor open_place(int folder, const std::string& path, int flags = 0) {
    open_how how{};
    how.flags = static_cast<unsigned>(O_PATH | O_CLOEXEC | flags);
    how.resolve = RESOLVE_NO_MAGICLINKS;
    auto place = static_cast<int>(syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how));
    if (place < 0 && errno == ENOSYS) place = openat(folder, path.c_str(), O_PATH | O_CLOEXEC | flags);
    return FileDescriptor{place};
}

bool is_executable(const FileDescriptor& folder, const std::string& path) {
    constexpr int effective = 0x200;  // AT_EACCESS: by the thread's file-system ids
    const auto program = open_place(folder.get(), path);
    struct stat found {};
    if (!program || fstat(program.get(), &found) != 0 || !S_ISREG(found.st_mode)) return false;
    return syscall(SYS_faccessat2, program.get(), "", X_OK, effective | AT_EMPTY_PATH) == 0 || errno == ENOSYS;
}

std::string path_of(const Launch& launch) {
    std::string path{base_path};
    for (const auto& [name, value] : launch.env) {
        if (name == "PATH") path = value;
    }
    return path;
}

bool is_on_path(const Launch& launch, const FileDescriptor& folder) {
    std::string_view path = launch.argv.front();
    const auto search = path_of(launch);
    std::string_view rest = search;
    while (true) {
        const auto end = rest.find(':');
        const auto place = rest.substr(0, end);
        if (is_executable(folder, place.empty() ? std::string{path} : fmt::format("{}/{}", place, path))) return true;
        if (end == std::string_view::npos) return false;
        rest.remove_prefix(end + 1);
    }
}

/// Where an opened place lies, without links.
std::string real_path(const FileDescriptor& place) {
    std::error_code failed;
    return std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", place.get()), failed).string();
}

std::string why_not_startable(const Launch& launch, const std::string& state) {
    const auto folder = open_place(AT_FDCWD, launch.folder + "/.", O_DIRECTORY);
    if (!folder) {
        return fmt::format("dir: {} cannot be entered by {}: {}; make it so, or choose another folder", launch.folder,
                           launch.account.name, std::strerror(errno));
    }
    if (launch.sandbox != Sandbox::none) {
        if (const auto fits = check_folder(real_path(folder), state); !fits) return "dir: " + fits.error().detail;
    }
    std::string why;
    // With mounts the job may see programs that the host does not have.
    if (!launch.argv.empty() && launch.mounts.empty()) {
        const auto& program = launch.argv.front();
        const bool has_path = program.find('/') != std::string::npos;
        if (has_path && !is_executable(folder, program)) {
            why = fmt::format("run: {} is no program that {} can execute from {}; check its path and mode", program,
                              launch.account.name, launch.folder);
        } else if (!has_path && !is_on_path(launch, folder)) {
            why =
                fmt::format("run: {} is not found in {}; install it or write its full path", program, path_of(launch));
        }
    }
    return why;
}

std::string why_not_mountable(const Launch& launch, const std::string& state) {
    for (const auto& mount : launch.mounts) {
        const auto place = open_place(AT_FDCWD, mount.source);
        if (!place) {
            return fmt::format("mounts: {} cannot be reached by {}: {}; make it, or correct its path", mount.source,
                               launch.account.name, std::strerror(errno));
        }
        const auto fits = check_mount_source(real_path(place), state);
        if (!fits) return fmt::format("mounts: {}", fits.error().detail);
    }
    const auto inside = folder_in_mounts(launch);
    if (!inside.empty() && !open_place(AT_FDCWD, inside + "/.", O_DIRECTORY)) {
        return fmt::format(
            "mounts: the job starts in {}, which would be {}, and that cannot be entered by {}: {}; make that "
            "folder, or choose another target or `dir`",
            launch.folder, inside, launch.account.name, std::strerror(errno));
    }
    return {};
}

/// Libraries of account databases say in several ways that there is no such account: see getpwnam(3).
bool means_no_account(int error) {
    return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

template <class Look>
Result<Account> look_up(const std::string& who, Look look) {
    std::vector<char> buffer(16U << 10);
    passwd entry{};
    passwd* found = nullptr;
    const int error = look(&entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return from_entry(*found);
    if (!means_no_account(error)) {
        return fail(Fault::unavailable,
                    fmt::format("account {} cannot be looked up: {}; try again later", who, std::strerror(error)));
    }
    return fail(Fault::not_found, fmt::format("there is no account {} on this machine; make it with useradd", who));
}

}  // namespace

Result<Account> account_of(std::uint32_t uid) {
    auto account =
        look_up(fmt::format("with uid {}", uid), [&](passwd* entry, char* buffer, std::size_t size, passwd** found) {
            return getpwuid_r(uid, entry, buffer, size, found);
        });
    if (account || uid != geteuid()) return account;
    // Containers run under uids that no database knows; we can still run work as ourselves.
    Account self;
    self.uid = uid;
    self.gid = getegid();
    self.groups = {self.gid};
    self.name = std::to_string(uid);
    self.home = "/";
    self.shell = "/bin/sh";
    return self;
}

Result<Account> account_named(const std::string& name) {
    return look_up(name, [&](passwd* entry, char* buffer, std::size_t size, passwd** found) {
        return getpwnam_r(name.c_str(), entry, buffer, size, found);
    });
}

Result<Account> job_account(const std::string& name) {
    auto account = account_named(name);
    std::uint32_t uid = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), uid);
    const bool is_uid = bad == std::errc{} && end == name.data() + name.size();
    if (!account && is_uid) account = account_of(uid);  // as chown(1) takes one
    if (!account) {
        return tl::unexpected<Error>(
            {account.error().fault, fmt::format("--job-user {}: {}", name, account.error().detail)});
    }
    if (account->uid == 0) {
        return fail(Fault::denied, fmt::format("--job-user {}: jobs never run as root; name another account", name));
    }
    return account;
}

Result<void> can_start(const Launch& launch, const std::string& state) {
    const RightsOf rights{launch.account};
    const auto why = why_not_startable(launch, state);
    return why.empty() ? Result<void>{} : fail(Fault::malformed, why);
}

Result<void> can_mount(const Launch& launch, const std::string& state) {
    const RightsOf rights{launch.account};
    const auto why = why_not_mountable(launch, state);
    return why.empty() ? Result<void>{} : fail(Fault::malformed, why);
}

}  // namespace stargate::api
