#include "api/request_reader.hpp"

#include "api/frame.hpp"
#include "api/served_files.hpp"
#include "net/message.hpp"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace stargate::api {

namespace {

namespace http = boost::beast::http;

std::string_view view_of(boost::string_view text) { return {text.data(), text.size()}; }

/// `127.0.0.1`, `localhost` and `[::1]`, with or without a port: what a browser that was lured here would not send.
bool is_this_machine(std::string_view host) {
    const auto colon = host.rfind(':');
    const auto bracket = host.rfind(']');  // an IPv6 address has colons of its own, within brackets
    const bool has_port = colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
    const auto bare = host.substr(0, has_port ? colon : host.size());
    // Numbers alone: anybody may own a name that begins with 127.
    const bool is_number = bare.find_first_not_of("0123456789.") == std::string_view::npos;
    return bare == "localhost" || bare == "[::1]" || (is_number && bare.substr(0, 4) == "127.");
}

bool is_from_this_machine(const http::request<http::string_body>& head) {
    const auto origin = view_of(head[http::field::origin]);
    const auto scheme = origin.find("://");
    return is_this_machine(view_of(head[http::field::host])) &&
           (origin.empty() || (scheme != std::string_view::npos && is_this_machine(origin.substr(scheme + 3))));
}

/// What needs no token: that we are here, and the page, which knows nothing until it has one.
std::optional<Reply> open_to_all(std::string_view target) {
    if (target == "/healthz") return Reply{200, "ok\n", "text/plain"};
    if (target == "/") return Reply{200, std::string{page_html}, "text/html; charset=utf-8"};
    if (target == "/page.css") return Reply{200, std::string{page_css}, "text/css; charset=utf-8"};
    if (target == "/page.js") return Reply{200, std::string{page_js}, "text/javascript; charset=utf-8"};
    return std::nullopt;
}

std::optional<Reply> complaint_of(boost::system::error_code error) {
    if (error == http::error::body_limit) {
        return error_reply(413, "too_large", "the body is larger than 1 MiB", "send less at once");
    }
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        return error_reply(431, "too_large", "the request's head is too large", "send fewer or shorter fields");
    }
    return error_reply(400, "malformed", "not HTTP: " + error.message(), "speak HTTP/1.1");
}

/// Whether two readers could see the request's end in different places. Beast passes over a coding that it does not
/// know, and so would take the body for the next request.
bool has_doubtful_end(const http::request<http::string_body>& head) {
    const auto codings = head.count(http::field::transfer_encoding);
    if (codings + head.count(http::field::content_length) > 1) return true;
    const bool is_chunked = boost::beast::iequals(head[http::field::transfer_encoding], "chunked");
    return codings == 1 && !(is_chunked && head.version() >= 11);
}

}  // namespace

struct RequestReader::Parser : http::request_parser<http::string_body> {};

RequestReader::RequestReader() : parser_{std::make_unique<Parser>()} {
    parser_->header_limit(max_head_bytes);
    parser_->body_limit(max_body_bytes);
}

RequestReader::~RequestReader() = default;

std::size_t RequestReader::put(std::string_view bytes) {
    if (stage_ == Stage::done || stage_ == Stage::broken || bytes.empty()) return 0;
    boost::system::error_code error;
    const bool had_head = stage_ == Stage::body;
    parser_->eager(had_head);
    const auto used = parser_->put(boost::asio::const_buffer{bytes.data(), bytes.size()}, error);
    if (error && error != http::error::need_more) {
        stage_ = Stage::broken;
        complaint_ = complaint_of(error);
    } else if (!had_head && parser_->is_header_done() && has_doubtful_end(parser_->get())) {
        stage_ = Stage::broken;
        complaint_ = error_reply(400, "malformed", "where the request ends is in doubt",
                                 "send one Content-Length, or Transfer-Encoding: chunked");
    } else if (parser_->is_done()) {
        stage_ = Stage::done;
    } else if (parser_->is_header_done()) {
        stage_ = Stage::body;
    }
    return used;
}

bool RequestReader::expects_continue() const {
    return boost::beast::iequals(parser_->get()[http::field::expect], "100-continue");
}
bool RequestReader::keeps_alive() const { return parser_->keep_alive(); }
bool RequestReader::knows_chunks() const { return parser_->get().version() >= 11; }
bool RequestReader::has_two_ends() const { return parser_->chunked() && parser_->content_length(); }
std::size_t RequestReader::body_size() const {
    const auto told = parser_->content_length();
    return told ? std::min<std::size_t>(*told, max_body_bytes) : parser_->chunked() ? max_body_bytes : 0;
}

std::optional<Reply> RequestReader::turn_away(const std::optional<Caller>& peer, const Tokens& tokens,
                                              Caller& caller) const {
    const auto& head = parser_->get();
    // Two readers of a request must not take different ones for it.
    for (const auto field : {http::field::host, http::field::origin, http::field::authorization}) {
        if (head.count(field) > 1) {
            return error_reply(400, "malformed", "a field of the head that may come once comes twice", "send it once");
        }
    }
    if (!peer && !is_from_this_machine(head)) {
        return error_reply(403, "denied", "this address is for tools of this machine", "ask 127.0.0.1 directly");
    }
    if (head.method() == http::verb::get) {
        if (auto open = open_to_all(view_of(head.target()))) return open;
    }
    if (peer) {
        caller = *peer;
        return std::nullopt;
    }
    const auto token = net::bearer_token(view_of(head[http::field::authorization]));
    if (const auto known = token.empty() ? std::nullopt : tokens.caller_of(token)) {
        caller = *known;
        return std::nullopt;
    }
    return error_reply(401, "unauthenticated", "no token, or one that is not known here",
                       "send `Authorization: Bearer TOKEN` with what STATE/token holds");
}

std::optional<Request> RequestReader::take(const Caller& caller) {
    auto& message = parser_->get();
    auto target = Target::parse(view_of(message.target()));
    if (!target) return std::nullopt;
    Request request;
    request.method = view_of(message.method_string());
    request.target = std::move(*target);
    request.idempotency_key = view_of(message["Idempotency-Key"]);
    request.accept = view_of(message[http::field::accept]);
    request.body = std::move(message.body());
    request.caller = caller;
    return request;
}

}  // namespace stargate::api
