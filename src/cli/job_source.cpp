#include "cli/job_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/posix.hpp"
#include "base/print_error.hpp"
#include "base/spelling.hpp"
#include "base/utf8.hpp"
#include "cli/run.hpp"

namespace stargate::cli {

namespace {

constexpr std::size_t longest = 256U << 10;  // the server refuses more; do not read a disk to find out

auto unreadable(const std::string& name) {
    return fail(Fault::malformed, fmt::format("{}: cannot be read: {}; name a job file", name, std::strerror(errno)));
}

/// Up to its end, or until it is too long; false with errno.
bool read_all(int descriptor, std::string& text) {
    text.resize(longest + 1);
    std::size_t size = 0;
    while (size < text.size()) {
        const auto got = ::read(descriptor, text.data() + size, text.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
    }
    text.resize(size);
    return true;
}

/// Of a file its own. What a here-document was written to has none any more.
Result<std::string> folder_of(const std::string& path, bool is_file) {
    std::error_code failed;
    const auto whole = is_file ? std::filesystem::canonical(path, failed) : std::filesystem::path{};
    if (whole.empty()) return callers_folder();
    return whole.parent_path().string();
}

}  // namespace

Result<JobSource> read_job_source(const std::string& path) {
    if (path.empty())
        return fail(Fault::malformed, "the job file's name is empty; name a job file, or - for what is piped in");
    const bool is_input = path == "-";
    JobSource source{.name = is_input ? "standard input" : path, .text = {}, .folder = {}};
    const FileDescriptor file{is_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                                       : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    struct stat seen {};
    if (!file || ::fstat(file.get(), &seen) != 0) return unreadable(source.name);
    if (S_ISDIR(seen.st_mode)) {
        return fail(Fault::malformed, fmt::format("{}: is a folder; name a job file", source.name));
    }
    if (::isatty(file.get()) == 1) {
        print_error("stargate: reading the job file from the terminal; end it with Ctrl-D on a line of its own\n");
    }
    if (!read_all(file.get(), source.text)) return unreadable(source.name);
    auto folder = folder_of(path, !is_input && S_ISREG(seen.st_mode));
    if (!folder) return tl::unexpected(folder.error());
    source.folder = std::move(*folder);
    if (!is_utf8(source.name) || !is_utf8(source.folder)) {
        const auto& bad = is_utf8(source.folder) ? source.name : source.folder;
        return fail(Fault::malformed,
                    fmt::format("the job file's name or folder, {}, is not UTF-8; rename it", without_controls(bad)));
    }
    return source;
}

}  // namespace stargate::cli
