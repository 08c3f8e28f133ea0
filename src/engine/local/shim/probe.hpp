#pragma once

namespace stargate::local {

/// Builds the default sandbox once, for nothing. Prints what this machine lacks and returns 1, or returns 0.
[[nodiscard]] int probe();

}  // namespace stargate::local
