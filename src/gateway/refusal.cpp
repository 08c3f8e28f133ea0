#include "gateway/refusal.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/json_text.hpp"

namespace stargate::gateway {

namespace {

constexpr auto invalid_request = "invalid_request_error";
constexpr Duration longest_wait = std::chrono::seconds{60};  // clients pass over longer ones

std::string shortened(std::string_view text) {
    constexpr std::size_t most = 200;  // of what a client said, in what we say
    return text.size() <= most ? std::string{text} : std::string{text.substr(0, most)} + "...";
}

}  // namespace

Refusal bad_request(std::string code, std::string message, std::string param) {
    return {400, invalid_request, std::move(code), std::move(message), std::move(param), {}, true};
}

Refusal no_key() {
    return {401, invalid_request, "invalid_api_key", "a key is needed: Authorization: Bearer KEY", {}, {}, true};
}

Refusal unknown_route(std::string_view method, std::string_view path) {
    auto refusal = bad_request("unknown_url", fmt::format("no such route: {} {}", shortened(method), shortened(path)));
    refusal.status = 404;
    return refusal;
}

Refusal wrong_method(std::string_view method, std::string_view path) {
    auto refusal = bad_request("method_not_allowed", fmt::format("{} does not go with {}", shortened(method), path));
    refusal.status = 405;
    return refusal;
}

Refusal unknown_model(std::string_view name) {
    auto refusal = bad_request("model_not_found", fmt::format("there is no model `{}`", shortened(name)), "model");
    refusal.status = 404;
    return refusal;
}

Refusal not_http(int status, const std::string& why) {
    auto refusal = bad_request(status == 413   ? "request_too_large"
                               : status == 431 ? "headers_too_large"
                                               : "malformed_request",
                               why);
    refusal.status = status;
    return refusal;
}

Refusal too_many(Duration wait) {
    return {429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "too many of your requests wait for this model; ask again later",
            {},
            wait};
}

Refusal overloaded(std::string message, Duration wait) {
    return {503, "service_unavailable_error", "server_is_overloaded", std::move(message), {}, wait};
}

Refusal bad_replica(std::string message) { return {502, "server_error", "bad_gateway", std::move(message), {}}; }

std::string error_body(const Refusal& refusal) {
    std::string out = R"({"error":{"message":)";
    json_string(out, refusal.message);
    out += R"(,"type":)";
    json_string(out, refusal.type);
    out += R"(,"param":)";
    if (refusal.param.empty()) {
        out += "null";
    } else {
        json_string(out, refusal.param);
    }
    out += R"(,"code":)";
    json_string(out, refusal.code);
    return out + "}}";
}

net::Reply reply_of(const Refusal& refusal, net::Fields fields) {
    if (refusal.is_final) fields.emplace_back("x-should-retry", "false");
    if (refusal.wait) {
        const auto wait = std::clamp(*refusal.wait, Duration{std::chrono::milliseconds{1}}, longest_wait);
        const auto wait_ms = std::chrono::ceil<std::chrono::milliseconds>(wait);
        fields.emplace_back("retry-after-ms", std::to_string(wait_ms.count()));
        fields.emplace_back("retry-after", std::to_string(std::chrono::ceil<std::chrono::seconds>(wait).count()));
    }
    return {refusal.status, "application/json", std::move(fields), error_body(refusal)};
}

}  // namespace stargate::gateway
