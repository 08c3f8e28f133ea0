#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "core/state.hpp"

/// Servers of services that Stargate did not start: how they are written, and what is said of them.
namespace stargate::api {

/// `http://HOST:PORT`, its host in small letters and a numeric address in its usual form, so that the same server is
/// written in one way. Errors read `what; remedy`.
[[nodiscard]] Result<Endpoint> read_endpoint(std::string_view text);
/// As read_endpoint reads it.
[[nodiscard]] std::string url_of(const Endpoint& endpoint);

/// How a server answered when it was last asked.
struct EndpointSight {
    bool is_serving = false;
    std::string detail;  // why not
};
/// What is known of a service's endpoints, in their order; fewer or none where nothing is known yet.
using LookAtEndpoints = std::function<std::vector<EndpointSight>(JobId service)>;

/// Appends a list with `{url, serving, detail}` of each.
void append_endpoints(std::string& out, const Service& service, const LookAtEndpoints& look);
/// `requests go to 1 of its 2 endpoints; http://b:8000: connection refused`
[[nodiscard]] std::string endpoints_in_words(const Service& service, const LookAtEndpoints& look);

}  // namespace stargate::api
