#include "api/endpoints.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json_text.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t longest_host = 128;  // as gateways take it

tl::unexpected<Error> refuse(std::string_view text, std::string_view what) {
    return fail(Fault::malformed, fmt::format("`{}` {}", text, what));
}

/// The address in its usual form; empty when it is none of this family.
std::string canonical(int family, const std::string& host) {
    std::array<unsigned char, sizeof(in6_addr)> bytes{};
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (inet_pton(family, host.c_str(), bytes.data()) != 1) return {};
    return inet_ntop(family, bytes.data(), text.data(), text.size());
}

bool is_host_name(std::string_view host) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    };
    const bool has_letter = std::any_of(host.begin(), host.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    return has_letter && host.size() <= longest_host && host.front() != '-' && host.front() != '.' &&
           host.find("..") == std::string_view::npos && std::all_of(host.begin(), host.end(), fits);
}

/// What of `HOST:PORT` is the host, and the rest, which begins with the colon where there is a port.
std::pair<std::string, std::string_view> split_host(std::string_view authority) {
    if (authority.starts_with('[')) {
        const auto end = authority.find(']');
        if (end == std::string_view::npos) return {};
        return {canonical(AF_INET6, std::string{authority.substr(1, end - 1)}), authority.substr(end + 1)};
    }
    const auto colon = std::min(authority.find(':'), authority.size());
    std::string host{authority.substr(0, colon)};
    std::transform(host.begin(), host.end(), host.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (const auto address = canonical(AF_INET, host); !address.empty()) return {address, authority.substr(colon)};
    return {!host.empty() && is_host_name(host) ? host : std::string{}, authority.substr(colon)};
}

/// Of each endpoint, in their order.
std::vector<EndpointSight> look_at(const Service& service, const LookAtEndpoints& look) {
    auto seen = look ? look(service.first) : std::vector<EndpointSight>{};
    seen.resize(service.spec.endpoints.size(), {false, "it has not been asked yet"});
    return seen;
}

}  // namespace

Result<Endpoint> read_endpoint(std::string_view text) {
    constexpr std::string_view scheme = "http://";
    if (text.starts_with("https://")) {
        return refuse(
            text,
            "is reached by TLS, which the gateway does not speak to servers yet; give an http address, as of a "
            "proxy beside it that does");
    }
    if (!text.starts_with(scheme)) return refuse(text, "is no server's address; write http://HOST:PORT");
    const auto rest = text.substr(scheme.size());
    const auto slash = std::min(rest.find_first_of("/?#"), rest.size());
    if (rest.substr(slash) != "" && rest.substr(slash) != "/") {
        return refuse(text, "goes on after the port, and paths are the clients' own; write http://HOST:PORT alone");
    }
    auto [host, port] = split_host(rest.substr(0, slash));
    if (host.empty()) {
        return refuse(text, "names no host; write http://HOST:PORT with a name, an IPv4 address or an IPv6 one in []");
    }
    if (port.empty()) return refuse(text, "has no port; write http://HOST:PORT");
    port.remove_prefix(1);
    Endpoint endpoint{std::move(host), 0};
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (error != std::errc{} || end != port.data() + port.size() || endpoint.port == 0) {
        return refuse(text, "has no port from 1 to 65535; write http://HOST:PORT");
    }
    return endpoint;
}

std::string url_of(const Endpoint& endpoint) {
    const bool is_ipv6 = endpoint.host.find(':') != std::string::npos;
    return is_ipv6 ? fmt::format("http://[{}]:{}", endpoint.host, endpoint.port)
                   : fmt::format("http://{}:{}", endpoint.host, endpoint.port);
}

void append_endpoints(std::string& out, const Service& service, const LookAtEndpoints& look) {
    const auto seen = look_at(service, look);
    out.push_back('[');
    for (std::size_t i = 0; i < service.spec.endpoints.size(); ++i) {
        out += i == 0 ? R"({"url":)" : R"(,{"url":)";
        json_string(out, url_of(service.spec.endpoints[i]));
        out += fmt::format(R"(,"serving":{},"detail":)", seen[i].is_serving);
        json_string(out, seen[i].detail);
        out.push_back('}');
    }
    out.push_back(']');
}

std::string endpoints_in_words(const Service& service, const LookAtEndpoints& look) {
    const auto seen = look_at(service, look);
    const auto all = service.spec.endpoints.size();
    const auto serving =
        std::count_if(seen.begin(), seen.end(), [](const EndpointSight& each) { return each.is_serving; });
    auto words = serving > 0 ? fmt::format("requests go to {} of its {} endpoint{}", serving, all, all == 1 ? "" : "s")
                             : std::string{"requests wait until an endpoint answers"};
    for (std::size_t i = 0; i < all; ++i) {
        if (!seen[i].is_serving) words += fmt::format("; {}: {}", url_of(service.spec.endpoints[i]), seen[i].detail);
    }
    return words;
}

}  // namespace stargate::api
