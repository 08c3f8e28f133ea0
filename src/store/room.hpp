#pragma once

#include <string>

#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::store {

/// What is said, by whoever it is, when the disk of a state folder has no room: one text for one cause. What is wrong
/// stands before "; ", what to do behind it.
[[nodiscard]] Error no_room(const std::string& folder);

/// The room that a control plane keeps back for itself on the disk of this state folder (sqlite/reserve.hpp).
[[nodiscard]] Result<Bytes> room_kept_back(const std::string& folder);

/// What this process could still write there.
[[nodiscard]] Result<Bytes> room_left(const std::string& folder);

/// Whether that is too little for the start of a single job, or for SQLite to open the store. One system call.
[[nodiscard]] bool is_full(const std::string& folder);

}  // namespace stargate::store
