#include "api/reply_text.hpp"

#include <fmt/format.h>

#include <boost/beast/http/status.hpp>

namespace stargate::api {

namespace {

namespace http = boost::beast::http;

std::string_view phrase_of(int status) {
    const auto words = http::obsolete_reason(static_cast<http::status>(status));
    return {words.data(), words.size()};
}

/// The page runs what we serve and nothing else, asks us alone, and stands in nobody's frame.
constexpr std::string_view page_policy =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "
    "data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n";

}  // namespace

std::string head_of(int status, std::string_view type, bool keep_alive, int retry_after_s) {
    auto head = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n", status,
        phrase_of(status), type);
    if (type.substr(0, 9) == "text/html") head += page_policy;
    if (retry_after_s > 0) head += fmt::format("Retry-After: {}\r\n", retry_after_s);
    if (status == 401) head += "WWW-Authenticate: Bearer\r\n";
    if (!keep_alive) head += "Connection: close\r\n";
    return head;
}

std::string whole_reply(const Reply& reply, bool keep_alive) {
    auto text = head_of(reply.status, reply.type, keep_alive, reply.retry_after_s);
    text += fmt::format("Content-Length: {}\r\n\r\n", reply.body.size());
    return text + reply.body;
}

}  // namespace stargate::api
