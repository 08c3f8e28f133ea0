#include "base/digest.hpp"

#include <sodium.h>

namespace stargate {

Digest digest_of(std::string_view bytes) {
    Digest digest;
    crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                       nullptr, 0);
    return digest;
}

std::array<std::uint8_t, 16> random_bytes() {
    std::array<std::uint8_t, 16> bytes;
    randombytes_buf(bytes.data(), bytes.size());
    return bytes;
}

}  // namespace stargate
