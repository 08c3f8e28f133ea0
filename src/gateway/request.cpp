#include "gateway/request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json_text.hpp"
#include "base/utf8.hpp"
#include "gateway/json_scan.hpp"

namespace stargate::gateway {

namespace {

constexpr std::int64_t bytes_per_token = 4;  // of JSON in English, roughly

/// The members of a body that we act upon, as they are written; empty where one is missing.
struct Members {
    std::string_view model;
    std::string_view stream;
    std::string_view stream_options;
    std::string_view max_tokens;
    std::string_view max_completion_tokens;
    std::string_view service_tier;
    std::string_view messages;
    std::string_view prompt;
};

constexpr std::array<std::pair<std::string_view, std::string_view Members::*>, 8> known{{
    {"model", &Members::model},
    {"stream", &Members::stream},
    {"stream_options", &Members::stream_options},
    {"max_tokens", &Members::max_tokens},
    {"max_completion_tokens", &Members::max_completion_tokens},
    {"service_tier", &Members::service_tier},
    {"messages", &Members::messages},
    {"prompt", &Members::prompt},
}};

/// Returns the name of a member that is there twice.
std::optional<std::string_view> find_members(std::string_view body, Members& members) {
    std::optional<std::string_view> twice;
    for_each_member(body, [&](const JsonMember& member) {
        for (const auto& [name, place] : known) {
            if (!member.is_named(name)) continue;
            if (!(members.*place).empty()) twice = name;
            members.*place = member.value;
        }
    });
    return twice;
}

/// null counts as not there.
bool is_given(std::string_view value) { return !value.empty() && value != "null"; }

bool is_boolean(std::string_view value) { return value == "true" || value == "false"; }

CompletionRequest::Edit replacing(std::string_view body, std::string_view part, std::string text) {
    return {static_cast<std::size_t>(part.data() - body.data()), part.size(), std::move(text)};
}

/// Has the stream's usage told.
std::optional<Refusal> read_stream_options(std::string_view body, std::string_view value, CompletionRequest& request) {
    constexpr auto told = R"({"include_usage":true})";
    if (value.empty()) {
        const auto end = body.rfind('}');
        request.edits.push_back({end, 0, fmt::format(R"(,"stream_options":{})", told)});
        return std::nullopt;
    }
    if (!is_given(value)) {
        request.edits.push_back(replacing(body, value, told));
        return std::nullopt;
    }
    if (!is_json_object(value)) return bad_request("invalid_type", "`stream_options` is an object", "stream_options");
    std::string_view include;
    bool is_twice = false;
    bool is_empty = true;
    for_each_member(value, [&](const JsonMember& member) {
        is_empty = false;
        if (!member.is_named("include_usage")) return;
        is_twice = is_twice || !include.empty();
        include = member.value;
    });
    if (is_twice) return bad_request("duplicate_parameter", "`include_usage` is there twice", "stream_options");
    if (is_given(include) && !is_boolean(include)) {
        return bad_request("invalid_type", "`include_usage` is true or false", "stream_options");
    }
    request.asks_usage = include == "true";
    if (include.empty()) {
        const auto text = is_empty ? R"("include_usage":true)" : R"("include_usage":true,)";
        request.edits.push_back(replacing(body, value.substr(1, 0), text));
    } else if (!request.asks_usage) {
        request.edits.push_back(replacing(body, include, "true"));
    }
    return std::nullopt;
}

/// Tokens that the answer may have. What is no such number, the replica is to judge.
std::optional<std::int64_t> limit_of(const Members& members) {
    const auto value = is_given(members.max_completion_tokens) ? members.max_completion_tokens : members.max_tokens;
    const auto limit = json_whole_of(value);
    return limit && *limit > 0 ? limit : std::nullopt;
}

}  // namespace

std::variant<CompletionRequest, Refusal> read_completion(std::string_view body) {
    if (const auto end = json_ends_at(body)) {
        const auto* why = is_utf8(body) ? "the body is no JSON, or deeper than 128 levels" : "the body is not UTF-8";
        return bad_request("invalid_json", fmt::format("{}, from byte {} of {} on", why, *end, body.size()));
    }
    if (!is_json_object(json_trimmed(body))) return bad_request("invalid_json", "the body is no JSON object");
    Members members;
    if (const auto twice = find_members(body, members)) {
        return bad_request("duplicate_parameter", fmt::format("`{}` is there twice", *twice), std::string{*twice});
    }
    if (!is_given(members.model)) { return bad_request("missing_required_parameter", "`model` is missing", "model"); }
    CompletionRequest request;
    auto model = json_text_of(members.model);
    if (!model) return bad_request("invalid_type", "`model` is a text", "model");
    request.model = std::move(*model);
    request.edits.push_back(replacing(body, members.model, {}));
    if (is_given(members.stream) && !is_boolean(members.stream)) {
        return bad_request("invalid_type", "`stream` is true or false", "stream");
    }
    request.streams = members.stream == "true";
    if (request.streams) {
        if (auto refusal = read_stream_options(body, members.stream_options, request)) return std::move(*refusal);
    }
    request.limit = limit_of(members);
    request.service_tier = json_text_of(members.service_tier);
    const auto prompt_bytes = static_cast<std::int64_t>(members.messages.size() + members.prompt.size());
    request.prompt_tokens = std::max<std::int64_t>(prompt_bytes / bytes_per_token, 1);
    return request;
}

std::string upstream_body(const CompletionRequest& request, std::string_view body, std::string_view upstream_model) {
    auto edits = request.edits;
    json_string(edits.front().text, upstream_model);
    std::sort(edits.begin(), edits.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::string out;
    out.reserve(body.size() + upstream_model.size() + 64);
    std::size_t at = 0;
    for (const auto& edit : edits) {
        out.append(body.substr(at, edit.begin - at));
        out += edit.text;
        at = edit.begin + edit.length;
    }
    out.append(body.substr(at));
    return out;
}

}  // namespace stargate::gateway
