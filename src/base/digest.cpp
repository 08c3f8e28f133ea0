#include "base/digest.hpp"

#include <sodium.h>

#include <charconv>
#include <vector>

namespace stargate {

Digest digest_of(std::string_view bytes) {
    Digest digest;
    crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                       nullptr, 0);
    return digest;
}

Result<Digest> digest_of_file(const std::string& path, Disk& disk) {
    auto file = disk.open(path, Opening::read);
    if (!file) return tl::unexpected(file.error());
    crypto_generichash_state state;
    Digest digest;
    crypto_generichash_init(&state, nullptr, 0, digest.size());
    std::vector<char> piece(1U << 20U);
    for (std::uint64_t offset = 0;;) {
        const auto got = (*file)->read(offset, piece);
        if (!got) return tl::unexpected(got.error());
        if (*got == 0) break;
        crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(piece.data()), *got);
        offset += *got;
    }
    crypto_generichash_final(&state, digest.data(), digest.size());
    return digest;
}

std::string hex_of(std::span<const std::uint8_t> bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const auto byte : bytes) {
        text.push_back(digits[byte >> 4U]);
        text.push_back(digits[byte & 15U]);
    }
    return text;
}

std::optional<Digest> digest_from_hex(std::string_view digits) {
    Digest digest{};
    if (digits.size() != digest.size() * 2) return std::nullopt;
    for (std::size_t i = 0; i < digest.size(); ++i) {
        const auto* at = digits.data() + 2 * i;
        const auto read = std::from_chars(at, at + 2, digest[i], 16);
        if (read.ec != std::errc{} || read.ptr != at + 2) return std::nullopt;
    }
    return digest;
}

std::array<std::uint8_t, 16> random_bytes() {
    std::array<std::uint8_t, 16> bytes;
    randombytes_buf(bytes.data(), bytes.size());
    return bytes;
}

}  // namespace stargate
