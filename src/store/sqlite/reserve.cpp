#include "store/sqlite/reserve.hpp"

#include <fcntl.h>

#include <cerrno>

#include "store/sqlite/schema.hpp"

namespace stargate::store {

std::int64_t bytes_of_wal(int pages) {
    // sqlite.org/fileformat2.html, section 4.1: a head, then a head before each page.
    constexpr std::int64_t head = 32;
    constexpr std::int64_t bytes_a_page = 24 + 4096;
    return head + pages * bytes_a_page;
}

Reserve::Reserve(const std::string& folder, Bytes size)
    : wal_{folder + "/" + std::string{database_name} + "-wal"}, size_{size.count()} {}

Result<void> Reserve::keep(int wal_pages) {
    const auto needed = bytes_of_wal(wal_pages) + size_;
    if (size_ == 0 || needed <= allocated_) return {};
    // SQLite locks the database and its -shm, never the WAL: closing this descriptor takes no lock of its away.
    if (!file_) file_ = FileDescriptor{::open(wal_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (!file_) return fail_with_errno("open", wal_);
    const auto allocate = [this](std::int64_t end) {
        if (::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, allocated_, end - allocated_) != 0) return false;
        allocated_ = end;
        return true;
    };
    const auto ahead = needed + size_ / 4;  // so that a growing WAL asks seldom
    if (!allocate(ahead) && !allocate(needed)) {
        if (errno != EOPNOTSUPP && errno != ENOSYS) return fail_with_errno("keep room for", wal_);
        size_ = 0;
    }
    return {};
}

}  // namespace stargate::store
