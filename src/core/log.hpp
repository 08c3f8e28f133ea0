#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/codec.hpp"
#include "core/fact.hpp"
#include "core/input.hpp"

/// How a fact lies in the log: with its instant and the type of the input that caused it, so that folding and listing
/// need no other row.
namespace stargate {

struct LogEntry {
    Instant at{};
    std::uint16_t cause = 0;  // index of the causing input in Input
    Fact fact;
};

/// The type numbers that the store keeps beside a body.
inline std::uint16_t type_of(const Fact& fact) { return static_cast<std::uint16_t>(fact.index()); }
inline std::uint16_t type_of(const Input& input) { return static_cast<std::uint16_t>(input.index()); }

inline std::string encode_entry(Instant at, std::uint16_t cause, const Fact& fact) {
    std::string out;
    Encoder encoder{out};
    encode(encoder, at);
    encode(encoder, cause);
    encode(encoder, fact);
    return out;
}

inline std::optional<LogEntry> decode_entry(std::string_view bytes) {
    Decoder in{bytes};
    LogEntry entry;
    decode(in, entry.at);
    decode(in, entry.cause);
    decode(in, entry.fact);
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return entry;
}

}  // namespace stargate
