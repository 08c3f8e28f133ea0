#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/json_text.hpp"

/// What operators do with the control plane itself.
namespace stargate::api {

Response Api::make_token(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "tokens are made by operators", "ask an operator");
    }
    const auto body = parse_json(request.body.empty() ? "{}" : request.body);
    if (!body) return error_reply(422, "malformed", body.error().detail, "send {\"name\": NAME}");
    const auto name = (*body)["name"].text.empty() ? std::string{"token"} : (*body)["name"].text;
    const bool fits =
        name.size() <= 63 && std::none_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c == 0x7F; });
    if (!fits) return error_reply(422, "malformed", "name: not one short word", "send {\"name\": NAME}");
    auto uid = request.caller.uid;
    if (const auto* given = body->find("uid"); given != nullptr) {
        if (given->kind != Json::Kind::number || given->whole < 0 || given->whole > 0xFFFFFFFEL) {
            return error_reply(422, "malformed", "uid: no user's number", "leave it out, or give one");
        }
        uid = static_cast<std::uint32_t>(given->whole);
    }
    const auto& is_operator = (*body)["operator"];
    if (is_operator.kind != Json::Kind::boolean && is_operator.kind != Json::Kind::null) {
        return error_reply(422, "malformed", "operator: neither true nor false", "give one of them, or leave it out");
    }
    const auto token = tokens_.make(name, uid, is_operator.boolean);
    if (!token) return error_reply(507, "store_full", token.error().detail, "free disk space, then try again");
    return Reply{201, fmt::format("{{\"token\":\"{}\"}}\n", *token)};
}

Response Api::list_tokens(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "tokens are listed by operators", "ask an operator");
    }
    Reply reply;
    JsonList rows{reply.body};
    for (const auto& token : tokens_.all()) {
        rows.item() +=
            fmt::format(R"({{"id":"{}","uid":{},"operator":{},"name":)", token.id, token.uid, token.is_operator);
        json_string(reply.body, token.name);
        reply.body += "}";
    }
    rows.close();
    reply.body.push_back('\n');
    return reply;
}

Response Api::revoke_token(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "tokens are revoked by operators", "ask an operator");
    }
    const auto revoked = tokens_.revoke(request.target.path[3]);
    if (revoked) return Reply{200, "{\"ok\":true}\n"};
    if (revoked.error().fault != Fault::not_found) return failure_reply(revoked.error());
    return error_reply(404, "not_found", revoked.error().detail, "list them: stargate token list");
}

Response Api::shut_down(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "the control plane is taken down by operators", "ask an operator");
    }
    const auto body = parse_json(request.body.empty() ? "{}" : request.body);
    if (!body) return malformed(body.error().detail);
    const auto& jobs = (*body)["jobs"];
    if (jobs.kind != Json::Kind::boolean && jobs.kind != Json::Kind::null) {
        return malformed("jobs: neither true nor false; give one of them, or leave it out");
    }
    const bool ends = jobs.boolean;
    control_.shut_down(ends ? RunningWork::ends : RunningWork::goes_on);
    return Reply{202, fmt::format("{{\"pid\":{}}}\n", getpid())};
}

}  // namespace stargate::api
