#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/disk.hpp"
#include "base/result.hpp"

namespace stargate {

/// BLAKE2b of some bytes, 256 bits: equal digests mean equal bytes, also against somebody who would like otherwise.
using Digest = std::array<std::uint8_t, 32>;
Digest digest_of(std::string_view bytes);
/// The same of a file of any size, read in pieces.
[[nodiscard]] Result<Digest> digest_of_file(const std::string& path, Disk& disk = real_disk());

/// Lower-case hexadecimal digits, two a byte.
[[nodiscard]] std::string hex_of(std::span<const std::uint8_t> bytes);
/// Nothing when that is not 64 hexadecimal digits.
[[nodiscard]] std::optional<Digest> digest_from_hex(std::string_view digits);

/// Bytes nobody can foresee, from the kernel. For identities, never for decisions.
std::array<std::uint8_t, 16> random_bytes();

}  // namespace stargate
