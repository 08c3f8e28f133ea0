#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace stargate::local {

/// Head of a frame of an output file: u32 length of the bytes that follow, u8 stream (1 output, 2 errors), i32 rank,
/// u64 microseconds since the Unix epoch; little-endian, 17 bytes. A frame is written by one call.
struct OutputFrameHead {
    static constexpr std::size_t size = 17;
    static constexpr std::uint32_t longest = 64U << 10;

    std::uint32_t length = 0;
    std::uint8_t stream = 1;
    std::int32_t rank = 0;
    std::uint64_t at_us = 0;

    [[nodiscard]] std::array<char, size> to_bytes() const {
        std::array<char, size> bytes{};
        put(bytes.data(), length, 4);
        put(bytes.data() + 4, stream, 1);
        put(bytes.data() + 5, static_cast<std::uint32_t>(rank), 4);
        put(bytes.data() + 9, at_us, 8);
        return bytes;
    }
    [[nodiscard]] static OutputFrameHead from_bytes(const char* bytes) {
        return {.length = static_cast<std::uint32_t>(take(bytes, 4)),
                .stream = static_cast<std::uint8_t>(take(bytes + 4, 1)),
                .rank = static_cast<std::int32_t>(take(bytes + 5, 4)),
                .at_us = take(bytes + 9, 8)};
    }

private:
    static void put(char* at, std::uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i, value >>= 8) at[i] = static_cast<char>(value & 0xff);
    }
    static std::uint64_t take(const char* at, int bytes) {
        std::uint64_t value = 0;
        for (int i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(at[i]);
        return value;
    }
};

}  // namespace stargate::local
