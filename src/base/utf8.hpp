#pragma once

#include <cstddef>
#include <string_view>

/// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
namespace stargate {

/// Bytes of the character at the front; 0 when none begins there.
constexpr std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const auto lead = byte(0);
    if (text.empty()) return 0;
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF && follows(1)) return 2;
    if (lead >= 0xE0 && lead <= 0xEF && follows(1) && follows(2)) {
        const bool is_overlong = lead == 0xE0 && byte(1) < 0xA0;
        const bool is_surrogate = lead == 0xED && byte(1) > 0x9F;
        return is_overlong || is_surrogate ? 0 : 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4 && follows(1) && follows(2) && follows(3)) {
        const bool is_overlong = lead == 0xF0 && byte(1) < 0x90;
        const bool is_too_high = lead == 0xF4 && byte(1) > 0x8F;
        return is_overlong || is_too_high ? 0 : 4;
    }
    return 0;
}

/// Where the first byte stands that is not UTF-8; the size when all is.
constexpr std::size_t first_bad_utf8(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        const auto length = utf8_length(text.substr(at));
        if (length == 0) return at;
        at += length;
    }
    return text.size();
}

constexpr bool is_utf8(std::string_view text) { return first_bad_utf8(text) == text.size(); }

}  // namespace stargate
