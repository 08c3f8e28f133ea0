#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace stargate::api {

/// The longest body of a request.
constexpr std::size_t max_body_bytes = 1U << 20;

/// The unit of a followed job's stream (`application/x-stargate-frames`): u32 length of what follows the head, u8
/// kind, u32 task, u32 rank, u64 where to read on after it; little-endian, 21 bytes.
struct Frame {
    enum class Kind : std::uint8_t {
        nothing = 0,   // the server is still there
        output = 1,    // what a rank wrote to standard output
        errors = 2,    // to standard error
        accepted = 3,  // JSON {id, count, name}: durable from now on
        attempt = 4,   // JSON {attempt}: what follows of this task is this attempt's; its output is read from 0
        finished = 5,  // JSON {state, exit_status, detail}: the last of this task
    };
    static constexpr std::size_t head_size = 21;
    static constexpr std::uint32_t longest = 16U << 20;

    Kind kind = Kind::nothing;
    std::uint32_t task = 0;
    std::uint32_t rank = 0;
    std::uint64_t next_offset = 0;
    std::string_view bytes;

    void append_to(std::string& out) const {
        put(out, bytes.size(), 4);
        put(out, static_cast<std::uint8_t>(kind), 1);
        put(out, task, 4);
        put(out, rank, 4);
        put(out, next_offset, 8);
        out.append(bytes);
    }
    /// Takes the frame at the front of `in`; nothing while it is not there whole. `bytes` looks into the old `in`.
    /// `broken` is set when no frame can begin so.
    [[nodiscard]] static std::optional<Frame> take(std::string_view& in, bool& broken) {
        if (in.size() < head_size) return std::nullopt;
        const auto length = get(in, 0, 4);
        broken = length > longest || get(in, 4, 1) > 5;
        if (broken || in.size() - head_size < length) return std::nullopt;
        Frame frame;
        frame.kind = static_cast<Kind>(get(in, 4, 1));
        frame.task = static_cast<std::uint32_t>(get(in, 5, 4));
        frame.rank = static_cast<std::uint32_t>(get(in, 9, 4));
        frame.next_offset = get(in, 13, 8);
        frame.bytes = in.substr(head_size, static_cast<std::size_t>(length));
        in.remove_prefix(head_size + static_cast<std::size_t>(length));
        return frame;
    }

private:
    static void put(std::string& out, std::uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i, value >>= 8) out.push_back(static_cast<char>(value & 0xFF));
    }
    static std::uint64_t get(std::string_view in, std::size_t at, std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(in[at + i]);
        return value;
    }
};

}  // namespace stargate::api
