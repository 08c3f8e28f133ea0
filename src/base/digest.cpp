#include "base/digest.hpp"

#include <sodium.h>

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

std::array<std::uint8_t, 16> random_bytes() {
    std::array<std::uint8_t, 16> bytes;
    randombytes_buf(bytes.data(), bytes.size());
    return bytes;
}

}  // namespace stargate
