#include "base/file.hpp"

namespace stargate {
namespace {

std::string temporary_name(const std::string& path) {
    const auto slash = path.rfind('/');
    const auto name_at = slash == std::string::npos ? 0 : slash + 1;
    return path.substr(0, name_at) + "." + path.substr(name_at) + ".new";
}

Result<void> write_whole(const std::string& path, std::string_view bytes, Disk& disk) {
    auto file = disk.open(path, Opening::edit_or_create);
    if (!file) return tl::unexpected(file.error());
    // A crash may have left this name behind with other bytes in it.
    if (auto emptied = (*file)->truncate(0); !emptied) return emptied;
    if (auto written = (*file)->write(0, bytes); !written) return written;
    return (*file)->sync();
}

}  // namespace

Result<void> write_durably(const std::string& path, std::string_view bytes, Disk& disk) {
    const auto temporary = temporary_name(path);
    auto written = write_whole(temporary, bytes, disk);
    if (written) written = disk.rename(temporary, path);
    if (!written) {
        // Gives the room back; what is left behind if even this fails, the next write of this path overwrites.
        if (written.error().fault != Fault::unknown_outcome) (void)disk.remove(temporary);
        return written;
    }
    return disk.sync_folder(folder_of(path));
}

Result<void> make_folder_durably(const std::string& path, Disk& disk) {
    auto made = disk.make_folder(path);
    if (!made && made.error().fault != Fault::conflict) return made;
    return disk.sync_folder(folder_of(path));  // also when it was there: whoever made it may have ended before this
}

Result<std::string> read_file(const std::string& path, Bytes limit, Disk& disk) {
    auto file = disk.open(path, Opening::read);
    if (!file) return tl::unexpected(file.error());
    const auto size = (*file)->size();
    if (!size) return tl::unexpected(size.error());
    if (*size > static_cast<std::uint64_t>(limit.count())) {
        return fail(Fault::malformed, path + " has " + std::to_string(*size) + " bytes, but at most " +
                                          std::to_string(limit.count()) + " are read here");
    }
    std::string bytes(*size, '\0');
    const auto got = (*file)->read(0, bytes);
    if (!got) return tl::unexpected(got.error());
    bytes.resize(*got);
    return bytes;
}

Result<void> remove_durably(const std::string& path, Disk& disk) {
    auto removed = disk.remove(path);
    if (!removed && removed.error().fault != Fault::not_found) return removed;
    // Also when it was gone already: the removal before the crash may not have been durable.
    const auto folder = folder_of(path);
    if (!removed && !disk.exists(folder)) return {};
    return disk.sync_folder(folder);
}

}  // namespace stargate
