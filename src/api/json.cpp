#include "api/json.hpp"

#include <fmt/format.h>

#include <boost/json/src.hpp>  // the library itself: compiled here and nowhere else

namespace stargate::api {

namespace {

Json converted(const boost::json::value& value) {
    Json out;
    switch (value.kind()) {
        case boost::json::kind::null:
            break;
        case boost::json::kind::bool_:
            out.kind = Json::Kind::boolean;
            out.boolean = value.get_bool();
            break;
        case boost::json::kind::int64:
            out.kind = Json::Kind::number;
            out.whole = value.get_int64();
            out.number = static_cast<double>(out.whole);
            break;
        case boost::json::kind::uint64:
            out.kind = Json::Kind::number;
            out.number = static_cast<double>(value.get_uint64());
            break;
        case boost::json::kind::double_:
            out.kind = Json::Kind::number;
            out.number = value.get_double();
            break;
        case boost::json::kind::string:
            out.kind = Json::Kind::text;
            out.text = value.get_string();
            break;
        case boost::json::kind::array:
            out.kind = Json::Kind::list;
            for (const auto& item : value.get_array()) out.items.push_back(converted(item));
            break;
        case boost::json::kind::object:
            out.kind = Json::Kind::object;
            for (const auto& member : value.get_object()) {
                out.members.push_back({std::string{member.key()}, converted(member.value())});
            }
            break;
    }
    return out;
}

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
        boost::system::error_code error;
        const auto value = boost::json::parse(boost::json::string_view{text.data(), text.size()}, error);
        if (error) return fail(Fault::malformed, fmt::format("not JSON: {}; send one JSON value", error.message()));
        return converted(value);
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
