#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/units.hpp"
#include "net/server.hpp"

/// Errors as OpenAI's clients read them. docs/gateway.md has the whole list.
namespace stargate::gateway {

struct Refusal {
    int status = 500;
    std::string type;
    std::string code;
    std::string message;             // for people
    std::string param;               // the member of the body that is meant; none: null
    std::optional<Duration> wait{};  // after which to ask again
    bool is_final = false;           // asking again does not help
};

/// A request that is wrong in itself: 400 where nothing else is said.
[[nodiscard]] Refusal bad_request(std::string code, std::string message, std::string param = {});
[[nodiscard]] Refusal no_key();
[[nodiscard]] Refusal unknown_route(std::string_view method, std::string_view path);
[[nodiscard]] Refusal wrong_method(std::string_view method, std::string_view path);
[[nodiscard]] Refusal unknown_model(std::string_view name);
[[nodiscard]] Refusal not_http(int status, const std::string& why);
/// 429: the tenant itself has more waiting than its share.
[[nodiscard]] Refusal too_many(Duration wait);
/// 503: nobody can serve it for now.
[[nodiscard]] Refusal overloaded(std::string message, Duration wait);
/// 502: a replica that failed or answered with what is no answer.
[[nodiscard]] Refusal bad_replica(std::string message);

/// `{"error":{"message","type","param","code"}}`
[[nodiscard]] std::string error_body(const Refusal& refusal);
[[nodiscard]] net::Reply reply_of(const Refusal& refusal, net::Fields fields);

}  // namespace stargate::gateway
