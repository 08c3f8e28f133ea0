#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate {

/// Cancels every attempt that lives under a state folder, for when no control plane is there to do it: each is warned,
/// has its job's grace (or `grace`), and is killed after it. Returns how many were ended, when all of them are dead;
/// timed_out names one that is not, well after its grace, and unavailable what kept it from beginning. Shims that are
/// on their way to their folders start nothing any more. The caller holds the lock of the state folder.
/// begun  told how many there are, before they are waited for
[[nodiscard]] Result<int> end_all_attempts(const std::string& state, std::optional<Duration> grace = {},
                                           const std::function<void(int)>& begun = {});

}  // namespace stargate
