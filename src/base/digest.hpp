#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stargate {

/// BLAKE2b of some bytes, 256 bits: equal digests mean equal bytes, also against somebody who would like otherwise.
using Digest = std::array<std::uint8_t, 32>;
Digest digest_of(std::string_view bytes);

/// Bytes nobody can foresee, from the kernel. For identities, never for decisions.
std::array<std::uint8_t, 16> random_bytes();

}  // namespace stargate
