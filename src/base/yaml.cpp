#include "base/yaml.hpp"

#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <array>
#include <new>

#include "base/utf8.hpp"

namespace stargate {

namespace {

using namespace std::string_view_literals;

/// The library's parser on a text, and the event that it has come to.
class Events {
public:
    explicit Events(std::string_view text) {
        if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc{};
        yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
        const auto* bytes = text.empty() ? "" : text.data();  // the library wants an address in any case
        yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(bytes), text.size());
    }
    Events(const Events&) = delete;
    Events& operator=(const Events&) = delete;
    ~Events() {
        yaml_event_delete(&event_);
        yaml_parser_delete(&parser_);
    }

    /// Goes to the next event; false where the text is not YAML.
    [[nodiscard]] bool advance() {
        yaml_event_delete(&event_);
        return yaml_parser_parse(&parser_, &event_) != 0;
    }
    [[nodiscard]] const yaml_event_t& now() const { return event_; }
    [[nodiscard]] const yaml_parser_t& parser() const { return parser_; }

private:
    yaml_parser_t parser_{};
    yaml_event_t event_{};
};

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
constexpr std::string_view blanks = " \t\r\n";
constexpr std::string_view no_token = "found character that cannot start any token";  // the library's words

int line_of(const yaml_mark_t& mark) { return static_cast<int>(mark.line) + 1; }

bool is_null(std::string_view word) {
    return word.empty() || word == "~" || word == "null" || word == "Null" || word == "NULL";
}

std::string_view text_of(const yaml_char_t* text) { return reinterpret_cast<const char*>(text); }

int line_at(std::string_view text, std::size_t at) {
    return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

/// What is left of a text after so many characters.
std::string_view after(std::string_view text, std::size_t characters) {
    for (; characters > 0 && !text.empty(); --characters)
        text.remove_prefix(std::max(utf8_length(text), std::size_t{1}));
    return text;
}

/// Where the text is not YAML, in the library's words or, where these would puzzle people, in ours.
YamlError not_yaml(const yaml_parser_t& parser, std::string_view text) {
    if (parser.error == YAML_MEMORY_ERROR) throw std::bad_alloc{};
    const auto said = [](int line, std::string what) {
        return YamlError{line, std::string{whole_file}, std::move(what)};
    };
    if (parser.error == YAML_READER_ERROR) {  // the bytes are known to be UTF-8
        return said(line_at(text, parser.problem_offset), "a control character; remove it");
    }
    const std::string_view problem = parser.problem;
    const std::string_view context = parser.context == nullptr ? "" : parser.context;
    auto line = line_of(parser.problem_mark);
    const auto rest = after(text, parser.problem_mark.index);
    if (problem.find("tab character") != std::string_view::npos || (problem == no_token && rest.substr(0, 1) == "\t")) {
        return said(line, "not YAML: a tab stands where spaces belong; indent with spaces");
    }
    if (problem == no_token) {
        const auto what = rest.substr(0, 1) == "`" ? "a backquote" : fmt::format("`{}`", rest.substr(0, 1));
        return said(line, fmt::format("not YAML: no value begins with {}; write it in quotes", what));
    }
    const auto begun = context.empty() ? line : line_of(parser.context_mark);
    // What is noticed only at the end, or with the next line, is wrong where it begins.
    if (rest.find_first_not_of(blanks) == std::string_view::npos) {
        line = std::min(begun, line_at(text, std::min(text.find_last_not_of(blanks), text.size())));
    } else if (context == "while scanning a simple key") {
        line = begun;
    }
    const auto since = begun < line ? fmt::format(" that begins in line {}", begun) : std::string{};
    return said(line, fmt::format("not YAML: {}{}{}{}; check indentation, colons and quotes", problem,
                                  context.empty() ? "" : " ", context, since));
}

/// Builds the tree from the parser's events, each value in its place.
class TreeReader {
public:
    TreeReader(std::string_view text, std::string_view of) : events_{text}, text_{text}, of_{of} {}

    YamlResult<YamlNode> read() {
        YamlNode root;
        if (!read_stream(root)) return tl::unexpected<YamlError>(std::move(error_));
        return root;
    }

private:
    // Each of these returns false after an error, which then stands in error_.

    bool next() {
        if (events_.advance()) return true;
        error_ = not_yaml(events_.parser(), text_);
        return false;
    }
    bool refuse(int line, std::string what) {
        error_ = {line, field(), std::move(what)};
        return false;
    }
    bool check_tag(const yaml_char_t* tag, int line) {
        return tag == nullptr || refuse(line, fmt::format("tags ({}) are not taken; leave it out", text_of(tag)));
    }

    bool read_stream(YamlNode& root) {
        bool has_document = false;
        while (next()) {
            if (at(YAML_STREAM_END_EVENT)) return true;
            if (!at(YAML_DOCUMENT_START_EVENT)) continue;  // the stream's start, or a document's end
            if (has_document) {
                return refuse(line_of(events_.now().start_mark),
                              fmt::format("more than one document; write one {} a file", of_));
            }
            has_document = true;
            if (!next() || !read_value(root)) return false;
        }
        return false;
    }
    bool read_value(YamlNode& into) {
        const auto& event = events_.now();
        into.line = line_of(event.start_mark);
        if (event.type == YAML_ALIAS_EVENT) {
            return refuse(into.line, "aliases (*name) are not taken; write the value out");
        }
        if (++nodes_ > max_yaml_nodes) {
            return refuse(into.line,
                          fmt::format("more than {} values; no {} file needs that many", max_yaml_nodes, of_));
        }
        if (event.type == YAML_SCALAR_EVENT) return read_scalar(into);
        const bool is_sequence = event.type == YAML_SEQUENCE_START_EVENT;
        into.kind = is_sequence ? YamlNode::Kind::sequence : YamlNode::Kind::map;
        const auto* tag = is_sequence ? event.data.sequence_start.tag : event.data.mapping_start.tag;
        if (!check_tag(tag, into.line)) return false;
        if (depth_ == max_yaml_depth) {
            return refuse(into.line,
                          fmt::format("nested deeper than {} levels; no {} file needs that", max_yaml_depth, of_));
        }
        keys_[depth_++] = nullptr;
        if (!(is_sequence ? read_items(into) : read_members(into))) return false;
        --depth_;
        return true;
    }
    bool read_scalar(YamlNode& into) {
        const auto& scalar = events_.now().data.scalar;
        if (!check_tag(scalar.tag, into.line)) return false;
        const std::string_view value{reinterpret_cast<const char*>(scalar.value), scalar.length};
        if (value.find('\0') != std::string_view::npos) return refuse(into.line, "a NUL character; remove it");
        into.quoted = scalar.style != YAML_PLAIN_SCALAR_STYLE;
        if (!into.quoted && is_null(value)) return true;
        into.kind = YamlNode::Kind::scalar;
        into.text = value;
        return true;
    }
    bool read_items(YamlNode& into) {
        while (next()) {
            if (at(YAML_SEQUENCE_END_EVENT)) return true;
            if (!read_value(into.items.emplace_back())) return false;
        }
        return false;
    }
    bool read_members(YamlNode& into) {
        into.members.reserve(4);  // most have more than one
        while (next()) {
            if (at(YAML_MAPPING_END_EVENT)) return true;
            YamlNode key;
            if (!read_value(key)) return false;
            if (key.kind != YamlNode::Kind::scalar) {
                return refuse(key.line, "a key must be a plain word; write `name: value`");
            }
            const auto& members = into.members;
            const auto same =
                std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.key.text == key.text; });
            const auto line_before = same == members.end() ? 0 : same->key.line;
            auto& member = into.members.emplace_back();
            member.key = {std::move(key.text), key.line};
            keys_[depth_ - 1] = &member.key;
            if (line_before != 0) {
                return refuse(key.line, fmt::format("stands here and in line {}; remove one of them", line_before));
            }
            if (!next() || !read_value(member.value)) return false;
            keys_[depth_ - 1] = nullptr;
        }
        return false;
    }

    [[nodiscard]] bool at(yaml_event_type_t type) const { return events_.now().type == type; }
    /// The field that is being read, as `env.A`.
    [[nodiscard]] std::string field() const {
        std::string path;
        for (std::size_t level = 0; level < depth_; ++level) {
            if (keys_[level] != nullptr) path += (path.empty() ? "" : ".") + keys_[level]->text;
        }
        return path.empty() ? std::string{whole_file} : path;
    }

    Events events_;
    std::string_view text_;
    std::string_view of_;
    std::array<const YamlNode::Key*, max_yaml_depth> keys_{};  // of each open level, while its value is read
    std::size_t depth_ = 0;
    std::size_t nodes_ = 0;
    YamlError error_;
};

bool is_forbidden_control(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
}

/// Where a character stands that means something to YAML and is not seen: line breaks of a rare kind, a byte order mark
/// that is not at the front. npos where there is none.
std::size_t find_hidden(std::string_view text) {
    auto found = std::string_view::npos;
    for (const auto one : {"\xC2\x85"sv, "\xE2\x80\xA8"sv, "\xE2\x80\xA9"sv, byte_order_mark}) {
        found = std::min(found, text.find(one));
    }
    for (auto at = text.find('\r'); at < found; at = text.find('\r', at + 1)) {
        if (text.substr(at + 1, 1) != "\n") return at;
    }
    return found;
}

/// Where the first %TAG directive stands that is one too many; npos where there is none. No tag is taken, so more than
/// a few say nothing, and the library compares each with all before it.
std::size_t find_spare_directive(std::string_view text) {
    constexpr int most = 16;
    int directives = 0;
    for (auto at = text.find("%TAG"); at != std::string_view::npos; at = text.find("%TAG", at + 1)) {
        if ((at == 0 || text[at - 1] == '\n') && ++directives > most) return at;
    }
    return std::string_view::npos;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
    const auto found = std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.key.text == key; });
    return found == members.end() ? nullptr : &found->value;
}

YamlNode* YamlNode::find(std::string_view key) {
    const auto found = std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.key.text == key; });
    return found == members.end() ? nullptr : &found->value;
}

YamlResult<YamlNode> parse_yaml(std::string_view text, std::string_view of) {
    const auto refused = [&](std::size_t at, std::string what) {
        return tl::unexpected<YamlError>(YamlError{line_at(text, at), std::string{whole_file}, std::move(what)});
    };
    if (text.substr(0, byte_order_mark.size()) == byte_order_mark) text.remove_prefix(byte_order_mark.size());
    if (text.size() > max_yaml_bytes) {
        return refused(0, fmt::format("larger than 256 KiB; no {} file needs that", of));
    }
    if (const auto bad = first_bad_utf8(text); bad < text.size())
        return refused(bad, "not UTF-8; save the file as UTF-8");
    if (const auto bad = std::find_if(text.begin(), text.end(), is_forbidden_control); bad != text.end()) {
        return refused(static_cast<std::size_t>(bad - text.begin()), "a control character; remove it");
    }
    if (const auto bad = find_hidden(text); bad < text.size()) {
        return refused(bad,
                       "a character that editors do not show (a lone CR, U+0085, U+2028, U+2029 or U+FEFF); remove it");
    }
    if (const auto spare = find_spare_directive(text); spare < text.size()) {
        return refused(spare, "more than 16 %TAG directives; leave them out, tags are not taken");
    }
    return TreeReader{text, of}.read();
}

}  // namespace stargate
