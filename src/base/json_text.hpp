#pragma once

#include <charconv>
#include <string>
#include <string_view>

#include "base/codec.hpp"
#include "base/names.hpp"
#include "base/utf8.hpp"

/// Described values as JSON text: facts in `events`, golden files and digests read by people. Output only; what comes
/// in is parsed by a library in the adapters.
namespace stargate {

/// Appends `text` as a JSON string. UTF-8 passes; a byte that is none, as a file's name may hold, becomes U+FFFD.
inline void json_string(std::string& out, std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    out.push_back('"');
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x80) {
            const auto length = utf8_length(text.substr(i));
            out += length == 0 ? std::string_view{"\xEF\xBF\xBD"} : text.substr(i, length);
            if (length > 1) i += length - 1;
        } else if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (c == '\n') {
            out += "\\n";
        } else if (byte < 0x20 || byte == 0x7F) {
            out += "\\u00";
            out.push_back(hex[byte >> 4]);
            out.push_back(hex[byte & 15]);
        } else {
            out.push_back(c);
        }
    }
    out.push_back('"');
}

template <class T>
void json_members(std::string& out, const T& value, bool first);

template <class T>
void json_text(std::string& out, const T& value) {
    using namespace codec;
    if constexpr (std::is_same_v<T, bool>) {
        out += value ? "true" : "false";
    } else if constexpr (std::is_enum_v<T>) {
        json_string(out, name_of(value));
    } else if constexpr (std::integral<T>) {
        out += std::to_string(value);
    } else if constexpr (AnInstant<T>) {
        out += value == never ? "null" : std::to_string(value.time_since_epoch().count());
    } else if constexpr (AQuantity<T>) {
        out += std::to_string(value.count());
    } else if constexpr (AText<T>) {
        json_string(out, value);
    } else if constexpr (is_byte_array<T>::value) {
        std::string hex;
        for (const auto byte : value) {
            hex.push_back("0123456789abcdef"[byte >> 4]);
            hex.push_back("0123456789abcdef"[byte & 15]);
        }
        json_string(out, hex);
    } else if constexpr (is_optional<T>::value) {
        if (value) {
            json_text(out, *value);
        } else {
            out += "null";
        }
    } else if constexpr (is_pair<T>::value) {
        out.push_back('[');
        json_text(out, value.first);
        out.push_back(',');
        json_text(out, value.second);
        out.push_back(']');
    } else if constexpr (is_variant<T>::value) {
        std::visit([&](const auto& alternative) { json_text(out, alternative); }, value);
    } else if constexpr (ASequence<T>) {
        out.push_back('[');
        bool first = true;
        for (const auto& element : value) {
            if (!first) out.push_back(',');
            first = false;
            json_text(out, element);
        }
        out.push_back(']');
    } else if constexpr (Described<T>) {
        out.push_back('{');
        json_members(out, value, true);
        out.push_back('}');
    } else {
        static_assert(AnId<T>, "no JSON form is known for this type");
        out += std::to_string(value.value);
    }
}

/// The members of a described struct without the braces, so that a caller can put its own before them.
template <class T>
void json_members(std::string& out, const T& value, bool first) {
    boost::mp11::mp_for_each<codec::members_of<T>>([&](auto member) {
        if (!first) out.push_back(',');
        first = false;
        json_string(out, member.name);
        out.push_back(':');
        json_text(out, value.*member.pointer);
    });
}

}  // namespace stargate
