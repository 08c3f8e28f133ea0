#include "store/sqlite/disk_vfs.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace stargate::store {
namespace {

int code_of(const Error& error, int otherwise) { return error.fault == Fault::full ? SQLITE_FULL : otherwise; }

/// SQLite allocates this and knows only its first member.
struct VfsFile {
    sqlite3_file base;
    Disk* disk;
    DiskFile* file;
    std::string* path;
    // The name of a new journal or WAL must be durable before what it protects: its first sync syncs the folder too.
    bool name_is_unsynced;
};

VfsFile& of(sqlite3_file* file) { return *reinterpret_cast<VfsFile*>(file); }

int close_file(sqlite3_file* file) {
    delete of(file).file;
    delete of(file).path;
    return SQLITE_OK;
}

int read_file(sqlite3_file* file, void* into, int amount, sqlite3_int64 offset) {
    const std::span<char> buffer{static_cast<char*>(into), static_cast<std::size_t>(amount)};
    const auto got = of(file).file->read(static_cast<std::uint64_t>(offset), buffer);
    if (!got) return SQLITE_IOERR_READ;
    if (*got == buffer.size()) return SQLITE_OK;
    std::memset(buffer.data() + *got, 0, buffer.size() - *got);
    return SQLITE_IOERR_SHORT_READ;
}

int write_file(sqlite3_file* file, const void* bytes, int amount, sqlite3_int64 offset) {
    const std::string_view text{static_cast<const char*>(bytes), static_cast<std::size_t>(amount)};
    const auto done = of(file).file->write(static_cast<std::uint64_t>(offset), text);
    return done ? SQLITE_OK : code_of(done.error(), SQLITE_IOERR_WRITE);
}

int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
    const auto done = of(file).file->truncate(static_cast<std::uint64_t>(size));
    return done ? SQLITE_OK : code_of(done.error(), SQLITE_IOERR_TRUNCATE);
}

int sync_file(sqlite3_file* file, int) {
    if (!of(file).file->sync()) return SQLITE_IOERR_FSYNC;
    if (of(file).name_is_unsynced) {
        if (!of(file).disk->sync_folder(folder_of(*of(file).path))) return SQLITE_IOERR_DIR_FSYNC;
        of(file).name_is_unsynced = false;
    }
    return SQLITE_OK;
}

int size_of_file(sqlite3_file* file, sqlite3_int64* size) {
    const auto bytes = of(file).file->size();
    if (!bytes) return SQLITE_IOERR_FSTAT;
    *size = static_cast<sqlite3_int64>(*bytes);
    return SQLITE_OK;
}

int change_lock(sqlite3_file*, int) { return SQLITE_OK; }
int check_lock(sqlite3_file*, int* is_reserved) {
    *is_reserved = 0;
    return SQLITE_OK;
}
int control_file(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sector_size(sqlite3_file*) { return 4096; }                                  // as "unix" says
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }  // as "unix" says

constexpr sqlite3_io_methods methods{
    1,           close_file,  read_file,  write_file,   truncate_file, sync_file,       size_of_file,
    change_lock, change_lock, check_lock, control_file, sector_size,   characteristics, nullptr,
    nullptr,     nullptr,     nullptr,    nullptr,      nullptr};

Disk& disk_of(sqlite3_vfs* vfs) { return *static_cast<Disk*>(vfs->pAppData); }

int open_file(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* given_flags) {
    file->pMethods = nullptr;                     // until there is something to close
    if (path == nullptr) return SQLITE_CANTOPEN;  // a temporary file: temp_store keeps those in memory
    const bool may_create = (flags & SQLITE_OPEN_CREATE) != 0;
    const auto how = may_create                             ? Opening::edit_or_create
                     : (flags & SQLITE_OPEN_READWRITE) != 0 ? Opening::edit
                                                            : Opening::read;
    auto opened = disk_of(vfs).open(path, how);
    if (!opened) return code_of(opened.error(), SQLITE_CANTOPEN);
    constexpr int journals = SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
    new (file) VfsFile{
        {&methods}, &disk_of(vfs), opened->release(), new std::string{path}, may_create && (flags & journals) != 0};
    if (given_flags != nullptr) *given_flags = flags;
    return SQLITE_OK;
}

int delete_file(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    const auto removed = disk_of(vfs).remove(path);
    if (!removed) return removed.error().fault == Fault::not_found ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
    if (sync_folder != 0 && !disk_of(vfs).sync_folder(folder_of(path))) return SQLITE_IOERR_DIR_FSYNC;
    return SQLITE_OK;
}

int has_access(sqlite3_vfs* vfs, const char* path, int, int* result) {
    *result = disk_of(vfs).exists(path) ? 1 : 0;
    return SQLITE_OK;
}

int full_path(sqlite3_vfs*, const char* path, int room, char* result) {
    const auto size = std::strlen(path) + 1;
    if (size > static_cast<std::size_t>(room)) return SQLITE_CANTOPEN;
    std::memcpy(result, path, size);
    return SQLITE_OK;
}

/// SQLite draws its chance from its default layer; nobody asks this one.
int no_randomness(sqlite3_vfs*, int amount, char* bytes) {
    std::memset(bytes, 0, static_cast<std::size_t>(amount));
    return amount;
}

int no_sleep(sqlite3_vfs*, int microseconds) { return microseconds; }
int no_time(sqlite3_vfs*, sqlite3_int64* milliseconds) {
    *milliseconds = 0;
    return SQLITE_OK;
}

}  // namespace

struct DiskVfs::Registered {
    std::string name;
    sqlite3_vfs vfs{};
};

DiskVfs::DiskVfs(Disk& disk) : registered_{std::make_unique<Registered>()} {
    sqlite3_initialize();
    auto& vfs = registered_->vfs;
    registered_->name = fmt::format("stargate-{}", static_cast<void*>(registered_.get()));
    vfs.iVersion = 2;
    vfs.szOsFile = sizeof(VfsFile);
    vfs.mxPathname = 512;
    vfs.zName = registered_->name.c_str();
    vfs.pAppData = &disk;
    vfs.xOpen = open_file;
    vfs.xDelete = delete_file;
    vfs.xAccess = has_access;
    vfs.xFullPathname = full_path;
    vfs.xRandomness = no_randomness;
    vfs.xSleep = no_sleep;
    vfs.xCurrentTimeInt64 = no_time;
    sqlite3_vfs_register(&vfs, 0);
}

DiskVfs::~DiskVfs() { sqlite3_vfs_unregister(&registered_->vfs); }

const std::string& DiskVfs::name() const { return registered_->name; }

}  // namespace stargate::store
