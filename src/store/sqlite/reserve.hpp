#pragma once

#include <cstdint>
#include <string>

#include "base/posix.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::store {

/// How long SQLite's WAL is with so many pages in it.
std::int64_t bytes_of_wal(int pages);

/// Room that only the log can use, so that ends and cancels can be written while somebody else fills the disk: blocks
/// behind the end of SQLite's WAL that belong to this file already. (A file of our own, removed when the disk is full,
/// would not do: whoever fills the disk has its blocks before SQLite has asked for one.)
class Reserve {
public:
    /// Of the store in `folder`: `size` bytes.
    Reserve(const std::string& folder, Bytes size);

    /// Sees to it that the room lies behind the first `wal_pages` pages of the WAL, which is there. Cheap when it does.
    /// Fault::full: not all of it, for the disk has no more; try again later. Where a file system cannot do this,
    /// nothing is kept and that is no error.
    [[nodiscard]] Result<void> keep(int wal_pages);

private:
    std::string wal_;
    std::int64_t size_;
    FileDescriptor file_;
    std::int64_t allocated_ = 0;  // bytes, from the beginning of the WAL on, that have blocks
};

}  // namespace stargate::store
