#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http.hpp"
#include "base/names.hpp"

/// What routes take behind the `?` of a target. Each says what it takes (`Route`); all is checked before a route is
/// asked.
namespace stargate::api {

struct Parameter {
    enum class Kind : std::uint8_t { text, flag, whole, word };
    std::string_view name;
    Kind kind = Kind::text;
    std::uint64_t least = 0, most = 0;      // of a whole number
    std::vector<std::string_view> words{};  // of which a word is one
};

constexpr auto any_number = std::numeric_limits<std::uint64_t>::max();

inline Parameter text_in(std::string_view name) { return {name}; }
inline Parameter flag_in(std::string_view name) { return {name, Parameter::Kind::flag}; }
inline Parameter whole_in(std::string_view name, std::uint64_t least, std::uint64_t most = any_number) {
    return {name, Parameter::Kind::whole, least, most};
}
inline Parameter word_in(std::string_view name, std::vector<std::string_view> words) {
    return {name, Parameter::Kind::word, 0, 0, std::move(words)};
}
template <class Enum>
Parameter word_in(std::string_view name) {
    std::vector<std::string_view> words;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<Enum>>(
        [&](auto known) { words.emplace_back(known.name); });
    return word_in(name, std::move(words));
}

/// A refusal of what the route does not take, of what comes twice, and of values that are none; nothing when all is
/// well.
[[nodiscard]] std::optional<Reply> check_query(const Target& target, const std::vector<Parameter>& taken);

/// `limit: `0` is no whole number from 1 to 10`
[[nodiscard]] Reply not_in_range(std::string_view name, std::string_view given, std::uint64_t least,
                                 std::uint64_t most);

/// Digits alone, of a number that fits.
[[nodiscard]] std::optional<std::uint64_t> whole_number(std::string_view text);

/// The value of a whole number in a checked query.
[[nodiscard]] std::uint64_t whole_in_query(const Target& target, std::string_view name, std::uint64_t otherwise);

}  // namespace stargate::api
