#include "store/sqlite/opening.hpp"

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/file.hpp"
#include "base/spelling.hpp"
#include "store/damage.hpp"
#include "store/room.hpp"
#include "store/sqlite/schema.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "store/sqlite/writer.hpp"

namespace stargate::store {
namespace {

std::string database_path(const std::string& folder) { return fmt::format("{}/{}", folder, database_name); }

// cache_size in KiB: bounded, and enough for most batches to stay in memory until they are committed.
constexpr const char* settings =
    "PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY; "
    "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;";

Result<Opened> open_database(const std::string& folder, Access access, Disk* disk) {
    Opened opened;
    if (disk != nullptr) opened.vfs = std::make_unique<DiskVfs>(*disk);
    auto database =
        Database::open(database_path(folder), access, opened.vfs == nullptr ? std::string{} : opened.vfs->name());
    if (!database) return tl::unexpected(database.error());
    opened.database = std::make_unique<Database>(std::move(*database));
    // Without shared memory, SQLite keeps the index of the WAL in its heap, which one connection alone may do.
    if (disk != nullptr) {
        if (auto set = opened.database->execute("PRAGMA locking_mode = EXCLUSIVE"); !set) {
            return tl::unexpected(set.error());
        }
    }
    if (auto set = opened.database->execute(settings); !set) return tl::unexpected(set.error());
    if (auto known = check_schema(*opened.database); !known) return tl::unexpected(known.error());
    return opened;
}

/// Makes an empty store, or looks at the one that is there before SQLite touches it.
Result<void> make_or_check(const std::string& folder, Disk& disk) {
    const auto path = database_path(folder);
    if (disk.exists(path)) return check_untouched(path, disk);
    if (disk.exists(path + "-wal")) {
        return fail(Fault::malformed,
                    fmt::format("{0} is missing, but {0}-wal is there: put the file back or restore a backup; to begin "
                                "an empty store, move {0}-wal away",
                                path));
    }
    const auto image = empty_store(random_bytes());
    if (!image) return tl::unexpected(image.error());
    return write_durably(path, *image, disk);
}

/// Writes zeros to where the WAL will grow, so that a commit overwrites: one that makes the file longer has the file
/// system's own journal to wait for, which makes its fsync half as dear again. SQLite takes frames without its salt for
/// the end of the WAL.
Result<void> make_room_for_wal(const std::string& path, int pages, Disk& disk) {
    const std::string zeros(256 << 10, '\0');
    auto file = disk.open(path, Opening::edit_or_create);
    if (!file) return tl::unexpected(file.error());
    const auto size = (*file)->size();
    if (!size) return tl::unexpected(size.error());
    const auto wanted = static_cast<std::uint64_t>(bytes_of_wal(pages + pages / 8));
    if (*size >= wanted) return {};
    for (auto at = *size; at < wanted; at += zeros.size()) {
        const auto written = (*file)->write(at, std::string_view{zeros}.substr(0, wanted - at));
        if (!written && written.error().fault == Fault::full) break;  // then it grows as it always did
        if (!written) return tl::unexpected(written.error());
    }
    if (auto synced = (*file)->sync(); !synced) return synced;
    return disk.sync_folder(folder_of(path));
}

/// Speed is worth a part of a disk that nobody will miss there.
bool has_plenty_of_room(const std::string& folder) {
    const auto left = room_left(folder);
    return left && *left >= mebibytes(256);
}

Result<std::unique_ptr<Store>> open_locked(const std::string& folder, std::optional<FileLock> lock, Disk* disk,
                                           int checkpoint_pages) {
    auto& files = disk == nullptr ? real_disk() : *disk;
    if (auto ready = make_or_check(folder, files); !ready) return tl::unexpected(ready.error());
    if (disk != nullptr || has_plenty_of_room(folder)) {
        const auto room = make_room_for_wal(database_path(folder) + "-wal", checkpoint_pages, files);
        if (!room) return tl::unexpected(room.error());
    }
    auto opened = open_database(folder, Access::read_write, disk);
    if (!opened) return tl::unexpected(opened.error());
    opened->lock = std::move(lock);
    std::optional<Reserve> reserve;
    if (disk == nullptr) {
        const auto size = room_kept_back(folder);
        if (!size) return tl::unexpected(size.error());
        reserve.emplace(folder, *size);
    }
    auto store = std::make_unique<SqliteStore>(std::move(*opened), checkpoint_pages, std::move(reserve));
    if (auto begun = store->begin(); !begun) return tl::unexpected(begun.error());
    return store;
}

Error in_folder(const std::string& folder, Error error) {
    // SQLite needs room also to look at a store, and has no word of its own for the lack of it.
    const bool wants_room = error.fault == Fault::unavailable || error.fault == Fault::denied;
    if (error.fault == Fault::full || (wants_room && is_full(folder))) return no_room(folder);
    error.detail = fmt::format("the store in {}: {}", folder, error.detail);
    return damage_in(folder, std::move(error));
}

}  // namespace

Result<Opened> open_for_reading(const std::string& folder, Disk* disk) {
    if (!(disk == nullptr ? real_disk() : *disk).exists(database_path(folder))) {
        return fail(Fault::not_found, fmt::format("there is no store in {}; name a state folder with --state", folder));
    }
    if (disk == nullptr && ::access(database_path(folder).c_str(), R_OK) != 0 && errno == EACCES) {
        return fail(Fault::denied,
                    fmt::format("the store in {} may be read by its owner alone; ask as that user or as root", folder));
    }
    return open_database(folder, Access::read_only, disk).map_error([&](Error error) {
        return in_folder(folder, std::move(error));
    });
}

Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& folder) {
    auto lock = FileLock::take(folder + "/lock");
    if (!lock && lock.error().fault == Fault::conflict) {
        return fail(Fault::conflict, fmt::format("another Stargate runs on this state: {}; stop it with `stargate down "
                                                 "--state {}`, or use another state folder",
                                                 lock.error().detail, shell_word(folder)));
    }
    if (!lock) return tl::unexpected(lock.error());
    return open_locked(folder, std::move(*lock), nullptr, default_checkpoint_pages).map_error([&](Error error) {
        return in_folder(folder, std::move(error));
    });
}

Result<std::unique_ptr<Store>> open_sqlite_store_on(Disk& disk, const std::string& folder, int checkpoint_pages) {
    return open_locked(folder, std::nullopt, &disk, checkpoint_pages);
}

Result<std::unique_ptr<Reader>> open_sqlite_reader(const std::string& folder) {
    auto opened = open_for_reading(folder, nullptr);
    if (!opened) return tl::unexpected(opened.error());
    auto reader = std::make_unique<SqliteReader>(std::move(*opened));
    if (auto prepared = reader->prepare(); !prepared) return tl::unexpected(in_folder(folder, prepared.error()));
    return reader;
}

}  // namespace stargate::store
