#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/disk.hpp"
#include "base/posix.hpp"

namespace stargate {
namespace {

class PosixFile final : public DiskFile {
public:
    PosixFile(FileDescriptor descriptor, std::string path)
        : descriptor_{std::move(descriptor)}, path_{std::move(path)} {}

    Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
        std::size_t done = 0;
        while (done < into.size()) {
            const auto got =
                ::pread(descriptor_.get(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_with_errno("read", path_);
            if (got == 0) break;
            done += static_cast<std::size_t>(got);
        }
        return done;
    }

    Result<void> write(std::uint64_t offset, std::string_view bytes) override {
        while (!bytes.empty()) {
            const auto put = ::pwrite(descriptor_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) return fail_with_errno("write", path_);
            bytes.remove_prefix(static_cast<std::size_t>(put));
            offset += static_cast<std::uint64_t>(put);
        }
        return {};
    }

    Result<void> truncate(std::uint64_t size) override {
        while (::ftruncate(descriptor_.get(), static_cast<off_t>(size)) != 0) {
            if (errno != EINTR) return fail_with_errno("truncate", path_);
        }
        return {};
    }

    Result<void> sync() override {
        // An interrupted fsync (EINTR) counts as failed too: some of its pages may already have been dropped.
        if (::fdatasync(descriptor_.get()) != 0) return fail_sync(path_);
        return {};
    }

    Result<std::uint64_t> size() override {
        struct stat status {};
        if (::fstat(descriptor_.get(), &status) != 0) return fail_with_errno("look at", path_);
        return static_cast<std::uint64_t>(status.st_size);
    }

private:
    FileDescriptor descriptor_;
    std::string path_;
};

int flags_of(Opening how) {
    switch (how) {
        case Opening::read:
            return O_RDONLY | O_CLOEXEC;
        case Opening::edit:
            return O_RDWR | O_CLOEXEC;
        case Opening::edit_or_create:
            return O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;  // never through a link to a file of somebody else's
    }
    return O_RDONLY | O_CLOEXEC;
}

class PosixDisk final : public Disk {
public:
    Result<std::unique_ptr<DiskFile>> open(const std::string& path, Opening how) override {
        FileDescriptor descriptor{::open(path.c_str(), flags_of(how), 0600)};
        if (!descriptor) return fail_with_errno("open", path);
        return std::make_unique<PosixFile>(std::move(descriptor), path);
    }

    Result<void> rename(const std::string& from, const std::string& to) override {
        if (::rename(from.c_str(), to.c_str()) != 0) return fail_with_errno("rename to", to);
        return {};
    }

    Result<void> remove(const std::string& path) override {
        if (::unlink(path.c_str()) != 0) return fail_with_errno("remove", path);
        return {};
    }

    Result<void> make_folder(const std::string& path) override {
        if (::mkdir(path.c_str(), 0700) != 0) return fail_with_errno("make the folder", path);
        return {};
    }

    Result<void> sync_folder(const std::string& path) override {
        const FileDescriptor descriptor{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        // A name in this folder was changed just before, and without a descriptor it can never be made durable.
        if (!descriptor || ::fsync(descriptor.get()) != 0) return fail_sync(path);
        return {};
    }

    Result<std::vector<std::string>> list(const std::string& path) override {
        const std::unique_ptr<DIR, int (*)(DIR*)> folder{::opendir(path.c_str()), ::closedir};
        if (!folder) return fail_with_errno("list", path);
        std::vector<std::string> names;
        errno = 0;
        while (const auto* entry = ::readdir(folder.get())) {
            if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
                names.emplace_back(entry->d_name);
            }
        }
        if (errno != 0) return fail_with_errno("list", path);
        std::sort(names.begin(), names.end());
        return names;
    }

    bool exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }
};

}  // namespace

Disk& real_disk() {
    static PosixDisk disk;
    return disk;
}

std::string folder_of(std::string_view path) {
    const auto slash = path.rfind('/');
    if (slash == std::string_view::npos) return ".";
    return std::string{slash == 0 ? path.substr(0, 1) : path.substr(0, slash)};
}

}  // namespace stargate
