#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace stargate {

/// The highest term of this incarnation that anything in the state folder has heard of: who started attempts last, and
/// whom the shims obey. 0: none. An older copy of the store, put back beside them, has to rise above it, or the shims
/// would refuse its orders.
[[nodiscard]] std::uint64_t obeyed_term(const std::string& state, const std::array<std::uint8_t, 16>& incarnation);

}  // namespace stargate
