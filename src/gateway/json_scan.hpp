#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

/// JSON that is looked at where it lies, so that what we do not know passes on byte for byte.
namespace stargate::gateway {

/// Whether that is one JSON value in UTF-8, at most `deepest_json` levels deep. All below wants text that is. Halves of
/// surrogate pairs that stand alone (`\ud83d`) are let through: the grammar has them (RFC 8259, section 8.2), and a
/// text with one has no meaning here (json_text_of).
[[nodiscard]] bool is_json(std::string_view text);
/// The first byte from which on it is none; nothing where it is.
[[nodiscard]] std::optional<std::size_t> json_ends_at(std::string_view text);
constexpr std::size_t deepest_json = 128;  // tools' schemas are the deepest that people send

/// One member of an object: parts of the text it stands in.
struct JsonMember {
    std::string_view name;   // as written, without its quotes
    std::string_view value;  // as written, without space around it
    /// Compares with what the name means: `mod\u0065l` is `model`.
    [[nodiscard]] bool is_named(std::string_view wanted) const;
};

/// Calls for each member of an object, in order; not at all where `object` is none.
void for_each_member(std::string_view object, const std::function<void(const JsonMember&)>& call);
/// The value of the first member of that name.
[[nodiscard]] std::optional<std::string_view> member_of(std::string_view object, std::string_view name);

/// What a value means; nothing where it is of another kind.
[[nodiscard]] std::optional<std::string> json_text_of(std::string_view value);
[[nodiscard]] std::optional<std::int64_t> json_whole_of(std::string_view value);
[[nodiscard]] inline bool is_json_object(std::string_view value) { return value.starts_with('{'); }
/// `[]`, with any space in it.
[[nodiscard]] bool is_empty_json_list(std::string_view value);

/// Without JSON's space at its ends.
[[nodiscard]] std::string_view json_trimmed(std::string_view text);

}  // namespace stargate::gateway
