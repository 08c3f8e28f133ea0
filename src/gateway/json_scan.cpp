#include "gateway/json_scan.hpp"

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <charconv>

#include "base/utf8.hpp"

namespace stargate::gateway {

namespace {

namespace json = boost::json;

/// Takes what the parser finds and keeps nothing: whether it is JSON is all that is asked.
struct Judge {
    using Code = boost::system::error_code;
    static constexpr std::size_t max_object_size = SIZE_MAX;
    static constexpr std::size_t max_array_size = SIZE_MAX;
    static constexpr std::size_t max_key_size = SIZE_MAX;
    static constexpr std::size_t max_string_size = SIZE_MAX;
    static bool on_document_begin(Code&) { return true; }
    static bool on_document_end(Code&) { return true; }
    static bool on_array_begin(Code&) { return true; }
    static bool on_array_end(std::size_t, Code&) { return true; }
    static bool on_object_begin(Code&) { return true; }
    static bool on_object_end(std::size_t, Code&) { return true; }
    static bool on_string_part(json::string_view, std::size_t, Code&) { return true; }
    static bool on_string(json::string_view, std::size_t, Code&) { return true; }
    static bool on_key_part(json::string_view, std::size_t, Code&) { return true; }
    static bool on_key(json::string_view, std::size_t, Code&) { return true; }
    static bool on_number_part(json::string_view, Code&) { return true; }
    static bool on_int64(std::int64_t, json::string_view, Code&) { return true; }
    static bool on_uint64(std::uint64_t, json::string_view, Code&) { return true; }
    static bool on_double(double, json::string_view, Code&) { return true; }
    static bool on_bool(bool, Code&) { return true; }
    static bool on_null(Code&) { return true; }
    static bool on_comment_part(json::string_view, Code&) { return true; }
    static bool on_comment(json::string_view, Code&) { return true; }
};

json::parse_options options() {
    json::parse_options options;
    options.max_depth = deepest_json;
    return options;
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t after_space(std::string_view text, std::size_t at) {
    while (at < text.size() && is_space(text[at])) ++at;
    return at;
}

/// Behind the string whose first quote stands at `at`.
std::size_t after_string(std::string_view text, std::size_t at) {
    for (++at;; ++at) {
        at = text.find('"', at);
        if (at == std::string_view::npos) return text.size();
        std::size_t slashes = 0;
        while (text[at - 1 - slashes] == '\\') ++slashes;  // the first quote ends that
        if (slashes % 2 == 0) return at + 1;
    }
}

/// Behind the value that begins at `at`.
std::size_t after_value(std::string_view text, std::size_t at) {
    std::size_t depth = 0;
    while (at < text.size()) {
        const char c = text[at];
        if (c == '"') {
            at = after_string(text, at);
        } else if (c == '{' || c == '[') {
            ++depth;
            ++at;
        } else if (c == '}' || c == ']') {
            --depth;
            ++at;
        } else {
            at = text.find_first_of("\"{}[],", at + 1);
            if (at == std::string_view::npos) at = text.size();
            if (depth == 0) return at;
            continue;
        }
        if (depth == 0) return at;
    }
    return text.size();
}

}  // namespace

namespace {

/// The first byte that is no JSON any more, as far as the parser knows; nothing where all is.
std::optional<std::size_t> judge(std::string_view text) {
    static thread_local json::basic_parser<Judge> parser{options()};
    parser.reset();
    boost::system::error_code error;
    const auto used = parser.write_some(false, text.data(), text.size(), error);
    if (!error && used == text.size()) return std::nullopt;
    return used;
}

/// The same text with `\uD83D` and the like, which mean a character only as a pair, as another escape of that length.
std::string without_surrogates(std::string_view text) {
    std::string out{text};
    for (auto at = out.find('\\'); at != std::string::npos && at + 5 < out.size(); at = out.find('\\', at)) {
        const bool is_surrogate = out[at + 1] == 'u' && (out[at + 2] | 0x20) == 'd' && out[at + 3] >= '8';
        if (is_surrogate) out.replace(at + 2, 2, "00");
        at += 2;  // an escaped backslash begins no escape
    }
    return out;
}

}  // namespace

std::optional<std::size_t> json_ends_at(std::string_view text) {
    const auto end = judge(text);
    if (!end) return std::nullopt;
    const bool may_be_a_surrogate =
        text.find("\\ud") != std::string_view::npos || text.find("\\uD") != std::string_view::npos;
    return may_be_a_surrogate ? judge(without_surrogates(text)) : end;
}

bool is_json(std::string_view text) { return !json_ends_at(text); }

bool JsonMember::is_named(std::string_view wanted) const {
    if (name.find('\\') == std::string_view::npos) return name == wanted;
    return json_text_of({name.data() - 1, name.size() + 2}) == wanted;
}

void for_each_member(std::string_view object, const std::function<void(const JsonMember&)>& call) {
    object = json_trimmed(object);
    if (!is_json_object(object)) return;
    for (std::size_t at = after_space(object, 1); at < object.size() && object[at] == '"';) {
        const auto name_end = after_string(object, at);
        const auto colon = after_space(object, name_end);
        const auto begin = after_space(object, colon + 1);
        const auto end = after_value(object, begin);
        call({object.substr(at + 1, name_end - at - 2), json_trimmed(object.substr(begin, end - begin))});
        const auto comma = after_space(object, end);
        at = after_space(object, comma + 1);
    }
}

std::optional<std::string_view> member_of(std::string_view object, std::string_view name) {
    std::optional<std::string_view> found;
    for_each_member(object, [&](const JsonMember& member) {
        if (!found && member.is_named(name)) found = member.value;
    });
    return found;
}

std::optional<std::string> json_text_of(std::string_view value) {
    if (!value.starts_with('"')) return std::nullopt;
    const auto inner = value.substr(1, value.size() - 2);
    if (inner.find('\\') == std::string_view::npos) return std::string{inner};
    boost::system::error_code error;
    const auto parsed = json::parse(json::string_view{value.data(), value.size()}, error);
    if (error || !parsed.is_string()) return std::nullopt;
    return std::string{parsed.get_string().data(), parsed.get_string().size()};
}

std::optional<std::int64_t> json_whole_of(std::string_view value) {
    std::int64_t number = 0;
    const auto* end = value.data() + value.size();
    const auto read = std::from_chars(value.data(), end, number);
    if (read.ec != std::errc{} || read.ptr != end) return std::nullopt;
    return number;
}

bool is_empty_json_list(std::string_view value) {
    return value.starts_with('[') && value.ends_with(']') && json_trimmed(value.substr(1, value.size() - 2)).empty();
}

std::string_view json_trimmed(std::string_view text) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

}  // namespace stargate::gateway
