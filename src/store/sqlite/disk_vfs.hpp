#pragma once

#include <memory>
#include <string>

#include "base/disk.hpp"

namespace stargate::store {

/// Lets SQLite work on a Disk of ours, so that one fault plan governs the database and the files beside it. For tests:
/// it has no locks and no shared memory, so a database has one connection at a time, in exclusive locking mode. In what
/// it syncs and when it does as SQLite's own "unix" layer does.
class DiskVfs {
public:
    explicit DiskVfs(Disk& disk);  // which must outlive it
    DiskVfs(const DiskVfs&) = delete;
    DiskVfs& operator=(const DiskVfs&) = delete;
    ~DiskVfs();
    /// What SQLite knows it by.
    [[nodiscard]] const std::string& name() const;

private:
    struct Registered;
    std::unique_ptr<Registered> registered_;
};

}  // namespace stargate::store
