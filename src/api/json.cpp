#include "api/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>  // the library itself: compiled here and nowhere else

#include "base/spelling.hpp"

namespace stargate::api {

namespace {

namespace json = boost::json;

/// Builds the value as the library's parser tells of it, and stops at a member that its object has already: of two, one
/// reader takes the first and another the last.
class Builder {
public:
    static constexpr std::size_t max_object_size = SIZE_MAX;
    static constexpr std::size_t max_array_size = SIZE_MAX;
    static constexpr std::size_t max_key_size = SIZE_MAX;
    static constexpr std::size_t max_string_size = SIZE_MAX;
    using Code = boost::system::error_code;
    using View = json::string_view;

    Json root;
    std::optional<std::string> twice;  // the path of a member that is there twice

    static bool on_document_begin(Code&) { return true; }
    static bool on_document_end(Code&) { return true; }
    bool on_object_begin(Code&) { return open(Json::Kind::object); }
    bool on_object_end(std::size_t, Code& error) {
        if (find_twice()) error = boost::system::errc::make_error_code(boost::system::errc::invalid_argument);
        open_.pop_back();
        return !error;
    }
    bool on_array_begin(Code&) { return open(Json::Kind::list); }
    bool on_array_end(std::size_t, Code&) { return open_.pop_back(), true; }
    bool on_key_part(View part, std::size_t, Code&) { return add(part); }
    bool on_key(View rest, std::size_t, Code&) {
        add(rest);
        open_.back()->members.push_back({std::exchange(text_, {}), {}});
        return true;
    }
    bool on_string_part(View part, std::size_t, Code&) { return add(part); }
    bool on_string(View rest, std::size_t, Code&) {
        add(rest);
        put(Json::Kind::text).text = std::exchange(text_, {});
        return true;
    }
    static bool on_number_part(View, Code&) { return true; }
    bool on_int64(std::int64_t value, View, Code&) {
        auto& number = put(Json::Kind::number);
        number.whole = value;
        number.number = static_cast<double>(value);
        return true;
    }
    bool on_uint64(std::uint64_t value, View, Code& error) { return on_double(static_cast<double>(value), {}, error); }
    bool on_double(double value, View, Code&) { return put(Json::Kind::number).number = value, true; }
    bool on_bool(bool value, Code&) { return put(Json::Kind::boolean).boolean = value, true; }
    bool on_null(Code&) { return put(Json::Kind::null), true; }
    static bool on_comment_part(View, Code&) { return true; }
    static bool on_comment(View, Code&) { return true; }

private:
    bool add(View part) { return text_.append(part.data(), part.size()), true; }
    /// The next value, where it belongs.
    Json& put(Json::Kind kind) {
        auto* parent = open_.empty() ? nullptr : open_.back();
        auto& place = parent == nullptr                    ? root
                      : parent->kind == Json::Kind::object ? parent->members.back().value
                                                           : parent->items.emplace_back();
        place.kind = kind;
        return place;
    }
    bool open(Json::Kind kind) {
        open_.push_back(&put(kind));
        return true;
    }
    /// Whether the object that ends now has a name twice.
    bool find_twice() {
        std::vector<std::string_view> names;
        for (const auto& member : open_.back()->members) names.push_back(member.name);
        std::sort(names.begin(), names.end());
        const auto found = std::adjacent_find(names.begin(), names.end());
        if (found == names.end()) return false;
        std::string path;
        for (const auto* outer : open_) {
            const bool is_named = outer != open_.back() && outer->kind == Json::Kind::object;
            if (is_named) path += outer->members.back().name + ".";
        }
        twice = presentable(path.append(*found));
        return true;
    }

    std::vector<Json*> open_;  // objects and lists that have not ended: what they stand in does not grow meanwhile
    std::string text_;         // as far as it has come
};

}  // namespace

const Json* Json::find(std::string_view name) const {
    for (const auto& [key, value] : members) {
        if (key == name) return &value;
    }
    return nullptr;
}

const Json& Json::operator[](std::string_view name) const {
    static const Json none;
    const auto* found = find(name);
    return found == nullptr ? none : *found;
}

std::string Json::word() const {
    switch (kind) {
        case Kind::null:
            return {};
        case Kind::boolean:
            return boolean ? "true" : "false";
        case Kind::number:
            return number == static_cast<double>(whole) ? std::to_string(whole) : fmt::format("{}", number);
        case Kind::text:
            return text;
        case Kind::list: {
            std::string all;
            for (const auto& item : items) all += (all.empty() ? "" : ",") + item.word();
            return all;
        }
        case Kind::object:
            return "{...}";
    }
    return {};
}

Result<Json> parse_json(std::string_view text) {
    try {
        json::basic_parser<Builder> parser{json::parse_options{}};
        boost::system::error_code error;
        const auto used = parser.write_some(false, text.data(), text.size(), error);
        if (const auto& twice = parser.handler().twice) {
            return fail(Fault::conflict, fmt::format("{}: is there twice in one object; send it once", *twice));
        }
        if (!error && used < text.size()) error = json::error::extra_data;
        if (error) return fail(Fault::malformed, fmt::format("not JSON: {}; send one JSON value", error.message()));
        return std::move(parser.handler().root);
    } catch (const std::exception& error) { return fail(Fault::malformed, fmt::format("not JSON: {}", error.what())); }
}

Result<Json> parse_body(std::string_view text) {
    auto body = parse_json(text.empty() ? "{}" : text);
    if (body && body->kind != Json::Kind::object) {
        return fail(Fault::malformed, "body: not a JSON object; docs/api.md shows one");
    }
    return body;
}

}  // namespace stargate::api
