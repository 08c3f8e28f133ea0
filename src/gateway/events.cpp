#include "gateway/events.hpp"

#include <algorithm>
#include <cstring>

#include "gateway/json_scan.hpp"

namespace stargate::gateway {

namespace {

/// What stands behind the first `data:`.
std::string_view data_of(std::string_view event) {
    constexpr std::string_view field = "data:";
    while (!event.empty()) {
        const auto end = std::min(event.find('\n'), event.size() - 1);
        auto line = event.substr(0, end);
        event.remove_prefix(end + 1);
        if (!line.starts_with(field)) continue;
        line.remove_prefix(field.size());
        return json_trimmed(line);
    }
    return {};
}

/// Whether `"usage"` is a member here that holds an object. In a text of JSON its quotes would have slashes before
/// them.
bool has_usage(std::string_view data) {
    constexpr std::string_view word = "\"usage\"";
    while (true) {
        const auto* found = static_cast<const char*>(::memmem(data.data(), data.size(), word.data(), word.size()));
        if (found == nullptr) return false;
        data.remove_prefix(static_cast<std::size_t>(found - data.data()) + word.size());
        const auto value = data.find_first_not_of(" :");
        if (value != std::string_view::npos && data[value] == '{') return true;
    }
}

}  // namespace

std::optional<TokenUsage> usage_of(std::string_view answer) {
    const auto usage = member_of(answer, "usage");
    if (!usage || !is_json_object(*usage)) return std::nullopt;
    constexpr std::int64_t most = 1'000'000'000;  // that a replica is believed, so that sums and averages fit
    TokenUsage told;
    for_each_member(*usage, [&](const JsonMember& member) {
        const auto count = std::clamp<std::int64_t>(json_whole_of(member.value).value_or(0), 0, most);
        if (member.is_named("prompt_tokens")) told.prompt_tokens = count;
        if (member.is_named("completion_tokens")) told.completion_tokens = count;
    });
    return told;
}

EventSight look_at(std::string_view event) {
    EventSight sight;
    const auto data = data_of(event);
    if (data.empty()) return sight;  // a comment, to keep the connection alive
    if (data == "[DONE]") {
        sight.is_done = true;
        return sight;
    }
    constexpr std::string_view error = "{\"error\"";
    sight.is_error = data.starts_with(error);
    sight.is_delta = !sight.is_error;
    if (!has_usage(data) || !is_json(data)) return sight;
    sight.usage = usage_of(data);
    const auto choices = member_of(data, "choices");
    sight.is_usage_alone = sight.usage && choices && is_empty_json_list(*choices);
    sight.is_delta = sight.is_delta && !sight.is_usage_alone;
    return sight;
}

std::size_t EventCutter::end_of_event(std::string_view bytes, std::size_t from) {
    for (auto at = bytes.find('\n', from); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
        if (at + 1 < bytes.size() && bytes[at + 1] == '\n') return at + 2;
        if (at + 2 < bytes.size() && bytes[at + 1] == '\r' && bytes[at + 2] == '\n') return at + 3;
    }
    return 0;
}

}  // namespace stargate::gateway
