#pragma once

#include <string>

#include "base/result.hpp"

namespace stargate::store {

/// What to do about a damaged store, whoever says so.
inline constexpr const char* restore_remedy =
    "stop the control plane, keep a copy of the folder, and put back the newest copy from before";

/// Damage (Fault::malformed) as it is told to people: where, what, and behind "; " what to do. Any other error as it
/// is.
[[nodiscard]] Error damage_in(const std::string& folder, Error error);

}  // namespace stargate::store
