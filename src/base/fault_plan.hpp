#pragma once

#include <cstdint>

namespace stargate {

/// What becomes of changes that no sync has made durable, when the power is cut.
enum class Cut {
    drop_unsynced,  // none arrived
    keep_some,      // a seeded choice of their 512-byte sectors, name changes and file sizes did, in any combination
    tear,           // all did, but of the one in progress only the first sectors: from none to all of them
};

/// What a simulated disk shall suffer, and when. A *step* is a call that changes something or makes it durable: making,
/// writing, truncating, renaming, removing, making a folder, syncing. Steps count from 1; a 0 means never.
struct FaultPlan {
    std::uint64_t cut_at_step = 0;  // the power goes while this step is in progress
    Cut cut = Cut::drop_unsynced;
    std::uint64_t seed = 1;

    /// The n-th sync (of a file or folder) fails, and what it should have made durable never will be: the kernel has
    /// dropped the pages and calls them clean. Later syncs succeed, which is the trap.
    std::uint64_t fail_sync = 0;

    /// From this step on, until before the other one, there is no room: what would need some fails, a write after half
    /// of its bytes. full_until_step 0 means for good.
    std::uint64_t full_from_step = 0;
    std::uint64_t full_until_step = 0;
};

}  // namespace stargate
