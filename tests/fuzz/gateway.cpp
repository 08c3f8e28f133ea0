#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/events.hpp"
#include "gateway/json_scan.hpp"
#include "gateway/messages.hpp"
#include "gateway/request.hpp"

namespace {

using namespace stargate;
using namespace stargate::gateway;

void demand(bool holds) {
    if (!holds) std::abort();
}

/// What goes upstream is JSON with the model's other name and the usage told, and all else is as it was.
void read_body(std::string_view body) {
    const auto read = read_completion(body);
    if (const auto* refusal = std::get_if<Refusal>(&read))
        return demand(refusal->status == 400 && is_json(error_body(*refusal)));
    const auto& request = std::get<CompletionRequest>(read);
    const auto sent = upstream_body(request, body, "up\"stream");
    demand(is_json(sent));
    demand(json_text_of(member_of(sent, "model").value_or("")) == "up\"stream");
    if (request.streams) demand(member_of(member_of(sent, "stream_options").value_or(""), "include_usage") == "true");
    std::vector<std::string_view> before;
    for_each_member(body, [&](const JsonMember& member) {
        if (!member.is_named("model") && !member.is_named("stream_options")) before.push_back(member.value);
    });
    std::size_t at = 0;
    for_each_member(sent, [&](const JsonMember& member) {
        if (member.is_named("model") || member.is_named("stream_options")) return;
        demand(at < before.size() && before[at++] == member.value);
    });
    demand(at == before.size());
}

/// What is understood of a line is told again as it was.
void read_lines(std::string_view line) {
    if (const auto read = read_order(line); read && std::holds_alternative<Order>(*read)) {
        const auto& order = std::get<Order>(*read);
        const auto again = read_order(to_line(order));
        demand(again && std::get<Order>(*again) == order);
    }
    if (const auto read = read_report(line); read && std::holds_alternative<Report>(*read)) {
        const auto& report = std::get<Report>(*read);
        const auto again = read_report(to_line(report));
        demand(again && std::get<Report>(*again) == report);
    }
}

/// Events are the same however they come.
void read_events(std::string_view stream) {
    std::vector<std::string> whole;
    EventCutter at_once;
    demand(at_once.put(stream, [&](std::string_view event) {
        (void)look_at(event);
        whole.emplace_back(event);
    }));
    std::vector<std::string> pieces;
    EventCutter by_piece;
    for (std::size_t at = 0; at < stream.size(); at += 3) {
        demand(by_piece.put(stream.substr(at, 3), [&](std::string_view event) { pieces.emplace_back(event); }));
    }
    demand(whole == pieces);
    demand(at_once.holds_some() == by_piece.holds_some());
}

}  // namespace

/// Any bytes as a request's body, as a line of the link to the control plane, and as a replica's stream.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    read_body(bytes);
    read_lines(bytes);
    read_events(bytes);
    return 0;
}
