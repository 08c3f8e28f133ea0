#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/json_text.hpp"
#include "core/serving.hpp"

/// What operators do with the control plane itself.
namespace stargate::api {

Response Api::make_token(const Request& request) {
    if (!request.caller.is_operator) { return for_operators("tokens are made"); }
    const auto body = parse_body(request.body);
    if (!body) return bad_body(body.error());
    const auto& given_name = (*body)["name"];
    if (given_name.kind != Json::Kind::text && given_name.kind != Json::Kind::null) {
        return malformed("name: no text; write it in quotes");
    }
    const auto name = given_name.text.empty() ? std::string{"token"} : given_name.text;
    const bool fits =
        name.size() <= 63 && std::none_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c == 0x7F; });
    if (!fits)
        return error_reply(422, "malformed", "name: not one word of at most 63 letters", "give another one, as ci");
    const auto& gateway = (*body)["gateway"];
    if (gateway.kind != Json::Kind::boolean && gateway.kind != Json::Kind::null) {
        return malformed("gateway: neither true nor false; give one of them, or leave it out");
    }
    if (gateway.boolean) return make_gateway_key(*body, name);
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

/// A key for the gateway's clients instead of a token for this API.
Response Api::make_gateway_key(const Json& body, const std::string& name) {
    const auto& given = body["tenant"];
    if (given.kind != Json::Kind::text && given.kind != Json::Kind::null) {
        return malformed("tenant: no text; give the path of a tenant");
    }
    if (given.text.size() > 128)
        return malformed("tenant: longer than 128 bytes; keys are of tenants with shorter paths");
    const auto tenant = given.text.empty() ? std::string{"default"} : given.text;
    bool is_known = false;
    control_.read(
        [&](const State& state, Instant, std::uint64_t) { is_known = state.tenant_named(tenant).has_value(); });
    if (!is_known) {
        return error_reply(422, "unknown_tenant", fmt::format("tenant: there is no tenant `{}`", tenant),
                           "list them: stargate tenants");
    }
    if (setting_.gateway_keys == nullptr) {
        return error_reply(409, "no_gateway", "this control plane has no gateway", "start it with --gateway");
    }
    const auto secret = setting_.gateway_keys->make(name, tenant);
    if (!secret) return error_reply(507, "store_full", secret.error().detail, "free disk space, then try again");
    return Reply{201, fmt::format("{{\"token\":\"{}\"}}\n", *secret)};
}

Response Api::list_tokens(const Request& request) {
    if (!request.caller.is_operator) { return for_operators("tokens are listed"); }
    Reply reply;
    JsonList rows{reply.body};
    for (const auto& token : tokens_.all()) {
        rows.item() +=
            fmt::format(R"({{"id":"{}","uid":{},"operator":{},"name":)", token.id, token.uid, token.is_operator);
        json_string(reply.body, token.name);
        reply.body += R"(,"gateway":false,"tenant":null})";
    }
    static const std::vector<GatewayKeys::Key> none;
    for (const auto& key : setting_.gateway_keys == nullptr ? none : setting_.gateway_keys->all()) {
        rows.item() += fmt::format(R"({{"id":"{}","uid":null,"operator":false,"name":)", key.id());
        json_string(reply.body, key.name);
        reply.body += ",\"gateway\":true,\"tenant\":";
        json_string(reply.body, key.tenant);
        reply.body += "}";
    }
    rows.close();
    reply.body.push_back('\n');
    return reply;
}

Response Api::revoke_token(const Request& request) {
    if (!request.caller.is_operator) { return for_operators("tokens are revoked"); }
    if (setting_.gateway_keys != nullptr) {
        const auto was_key = setting_.gateway_keys->revoke(request.target.path[3]);
        if (!was_key) return failure_reply(was_key.error());
        if (*was_key) return Reply{200, "{\"ok\":true}\n"};
    }
    const auto revoked = tokens_.revoke(request.target.path[3]);
    if (revoked) return Reply{200, "{\"ok\":true}\n"};
    if (revoked.error().fault != Fault::not_found) return failure_reply(revoked.error());
    return error_reply(404, "not_found", revoked.error().detail, "list them: stargate token list");
}

namespace {

/// How many jobs run, and which; of many the first.
void append_running(std::string& out, const Control& control) {
    constexpr int most_named = 10;
    int count = 0;
    std::string named;
    JsonList jobs{named};
    control.read([&](const State& state, Instant, std::uint64_t) {
        const auto add = [&](const Job& job) {
            if (++count > most_named) return;
            jobs.item() += fmt::format(R"({{"id":{},"name":)", job.id.value);
            json_string(named, label_of(state, job));
            named += "}";
        };
        state.table<Attempt>().for_each([&](const Attempt& attempt) { add(state.at<Job>(attempt.job)); });
        for (const auto service : routed_services(state)) add(state.at<Job>(service));
    });
    jobs.close();
    out += fmt::format(R"({},"jobs":{})", count, named);
}

}  // namespace

Response Api::shut_down(const Request& request) {
    if (!request.caller.is_operator) { return for_operators("the control plane is taken down"); }
    const auto body = parse_body(request.body);
    if (!body) return bad_body(body.error());
    const auto& jobs = (*body)["jobs"];
    if (jobs.kind != Json::Kind::boolean && jobs.kind != Json::Kind::null) {
        return malformed("jobs: neither true nor false; give one of them, or leave it out");
    }
    Reply reply{202, fmt::format(R"({{"pid":{},"running":)", getpid())};
    append_running(reply.body, control_);
    reply.body += "}\n";
    control_.shut_down(jobs.boolean ? RunningWork::ends : RunningWork::goes_on);
    return reply;
}

}  // namespace stargate::api
