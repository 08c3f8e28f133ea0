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

}  // namespace

std::string head_of(int status, std::string_view type, bool keep_alive, int retry_after_s) {
    auto head = fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nCache-Control: no-store\r\n", status,
                            phrase_of(status), type);
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
