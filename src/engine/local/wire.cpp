#include "engine/local/wire.hpp"

namespace stargate::local {

namespace {

constexpr std::uint32_t record_magic = 0x31524753;  // "SGR1"

/// CRC-32 (IEEE 802.3), bit by bit: records are small and rare.
std::uint32_t checksum(std::string_view bytes) {
    std::uint32_t sum = ~0U;
    for (const char byte : bytes) {
        sum ^= static_cast<unsigned char>(byte);
        for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1U ? 0xedb88320U : 0U);
    }
    return ~sum;
}

}  // namespace

std::string frame(std::string_view payload) {
    Writer writer;
    writer(static_cast<std::uint32_t>(payload.size()));
    return writer.take().append(payload);
}

std::optional<std::string> FrameReader::next() {
    constexpr std::size_t header = sizeof(std::uint32_t);
    if (broken_ || bytes_.size() < header) return std::nullopt;
    Reader reader{std::string_view{bytes_}.substr(0, header)};
    std::uint32_t length = 0;
    reader(length);
    if (length > max_frame) {
        broken_ = true;
        return std::nullopt;
    }
    if (bytes_.size() - header < length) return std::nullopt;
    auto payload = bytes_.substr(header, length);
    bytes_.erase(0, header + length);
    return payload;
}

std::string seal(std::string_view payload) {
    Writer writer;
    writer(record_magic, static_cast<std::uint32_t>(payload.size()), checksum(payload));
    return writer.take().append(payload);
}

std::optional<std::string> unseal(std::string_view file) {
    constexpr std::size_t header = 3 * sizeof(std::uint32_t);
    if (file.size() < header) return std::nullopt;
    Reader reader{file.substr(0, header)};
    std::uint32_t magic = 0;
    std::uint32_t length = 0;
    std::uint32_t sum = 0;
    reader(magic, length, sum);
    const auto payload = file.substr(header);
    if (magic != record_magic || payload.size() != length || checksum(payload) != sum) return std::nullopt;
    return std::string{payload};
}

}  // namespace stargate::local
