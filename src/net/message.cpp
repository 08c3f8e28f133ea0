#include "net/message.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>
#include <boost/optional.hpp>

namespace stargate::net {

namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;

std::string text(beast::string_view view) { return {view.data(), view.size()}; }

/// Beast's parser, which calls us with what it finds.
template <bool is_request>
class Base : public http::basic_parser<is_request> {
public:
    Fields fields;

private:
    void on_request_impl(http::verb, beast::string_view, beast::string_view, int, ErrorCode&) override {}
    void on_response_impl(int, beast::string_view, int, ErrorCode&) override {}
    void on_field_impl(http::field, beast::string_view name, beast::string_view value, ErrorCode&) override {
        fields.emplace_back(text(name), text(value));
    }
    void on_header_impl(ErrorCode&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
    std::size_t on_body_impl(beast::string_view part, ErrorCode& error) override { return take(part, error); }
    void on_chunk_header_impl(std::uint64_t, beast::string_view, ErrorCode&) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view part, ErrorCode& error) override {
        return take(part, error);
    }
    void on_finish_impl(ErrorCode&) override {}
    virtual std::size_t take(beast::string_view part, ErrorCode& error) = 0;
};

template <class Parser>
Stage stage_of(const Parser& parser) {
    if (parser.is_broken) return Stage::broken;
    if (parser.is_done()) return Stage::whole;
    return parser.is_header_done() ? Stage::body : Stage::head;
}

}  // namespace

std::string_view field(const Fields& fields, std::string_view name) {
    for (const auto& [key, value] : fields) {
        if (beast::iequals(key, name)) return value;
    }
    return {};
}

std::size_t count_of(const Fields& fields, std::string_view name) {
    std::size_t count = 0;
    for (const auto& each : fields) count += beast::iequals(each.first, name) ? 1U : 0U;
    return count;
}

std::string_view bearer_token(std::string_view credentials) {
    constexpr std::string_view scheme = "Bearer ";
    if (!beast::iequals(credentials.substr(0, scheme.size()), scheme)) return {};
    credentials.remove_prefix(std::min(credentials.find_first_not_of(' ', scheme.size()), credentials.size()));
    return credentials;
}

std::string_view phrase_of(int status) {
    const auto words = http::obsolete_reason(static_cast<http::status>(status));
    return {words.data(), words.size()};
}

std::string request_bytes(std::string_view method, std::string_view target, std::string_view host, const Fields& fields,
                          std::string_view body) {
    fmt::memory_buffer out;
    fmt::format_to(std::back_inserter(out), "{} {} HTTP/1.1\r\nHost: {}\r\n", method, target, host);
    for (const auto& [name, value] : fields) fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
    if (!body.empty() || method != "GET") {
        fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", body.size());
    }
    out.append(std::string_view{"\r\n"});
    out.append(body);
    return fmt::to_string(out);
}

namespace {

bool is_whole_number(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Beast takes a line that begins with a blank for a part of the one before; others take it for a field, or for none.
bool has_folded_line(std::string_view head) {
    for (auto at = head.find('\n'); at != std::string_view::npos && at + 1 < head.size();
         at = head.find('\n', at + 1)) {
        if (head[at + 1] == ' ' || head[at + 1] == '\t') return true;
    }
    return false;
}

/// Why two readers could see different requests in this; empty where they cannot. Beast passes over a coding that it
/// does not know, and so would take the body for the next request; RFC 9112, sections 3.2, 5.2, 6.1 and 6.3.
std::string_view ambiguity_in(const RequestHead& head, std::string_view bytes) {
    const auto hosts = count_of(head.fields, "Host");
    if (hosts > 1) return "two fields Host";
    if (hosts == 0 && head.knows_chunks) return "no field Host";
    if (count_of(head.fields, "Authorization") > 1) return "two fields Authorization";
    if (has_folded_line(bytes)) return "a field over two lines";
    const auto lengths = count_of(head.fields, "Content-Length");
    const auto codings = count_of(head.fields, "Transfer-Encoding");
    if (lengths + codings > 1) return "more than one of Content-Length and Transfer-Encoding";
    if (lengths == 1 && !is_whole_number(field(head.fields, "Content-Length"))) return "Content-Length is no number";
    if (codings == 0) return {};
    const bool is_chunked = beast::iequals(std::string{field(head.fields, "Transfer-Encoding")}, "chunked");
    return is_chunked && head.knows_chunks ? "" : "a Transfer-Encoding other than chunked";
}

}  // namespace

struct RequestReader::Parser : Base<true> {
    RequestHead head;
    std::string body;
    bool is_broken = false;
    int status = 400;
    std::string why;

    void on_request_impl(http::verb, beast::string_view method, beast::string_view target, int version,
                         ErrorCode&) override {
        head.method = text(method);
        head.target = text(target);
        head.knows_chunks = version >= 11;
    }
    void on_body_init_impl(const boost::optional<std::uint64_t>& length, ErrorCode&) override {
        constexpr std::uint64_t most_at_once = 1U << 20;  // what is only announced takes no memory yet
        if (length) body.reserve(std::min(*length, most_at_once));
    }
    std::size_t take(beast::string_view part, ErrorCode&) override {
        body.append(part.data(), part.size());
        return part.size();
    }
    void fail(int with, std::string reason) {
        is_broken = true;
        status = with;
        why = std::move(reason);
    }
};

RequestReader::RequestReader(std::size_t longest_head, std::size_t longest_body) : parser_{std::make_unique<Parser>()} {
    parser_->header_limit(static_cast<std::uint32_t>(longest_head));
    parser_->body_limit(longest_body);
}
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader& RequestReader::operator=(RequestReader&&) noexcept = default;
RequestReader::~RequestReader() = default;

std::size_t RequestReader::put(std::string_view bytes) {
    auto& parser = *parser_;
    if (parser.is_broken || parser.is_done() || bytes.empty()) return 0;
    ErrorCode error;
    const bool had_head = parser.is_header_done();
    parser.eager(had_head);
    const auto used = parser.put(boost::asio::const_buffer{bytes.data(), bytes.size()}, error);
    if (error && error != http::error::need_more) {
        if (error == http::error::body_limit) {
            parser.fail(413, "the body is too large");
            if (!had_head) parser.head.fields = std::move(parser.fields);
        } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
            parser.fail(431, "the head is too large");
        } else {
            parser.fail(400, "not HTTP: " + error.message());
        }
        return used;
    }
    if (!had_head && parser.is_header_done()) {
        auto& head = parser.head;
        head.fields = std::move(parser.fields);
        head.keeps_alive = parser.keep_alive();
        head.expects_continue = beast::iequals(std::string{field(head.fields, "Expect")}, "100-continue");
        if (const auto why = ambiguity_in(head, bytes.substr(0, used)); !why.empty())
            parser.fail(400, std::string{why});
    }
    return used;
}

Stage RequestReader::stage() const { return stage_of(*parser_); }
RequestHead& RequestReader::head() { return parser_->head; }
std::string& RequestReader::body() { return parser_->body; }
int RequestReader::status() const { return parser_->status; }
const std::string& RequestReader::why() const { return parser_->why; }

struct ResponseReader::Parser : Base<false> {
    ResponseHead head;
    bool is_broken = false;
    bool has_begun = false;
    const std::function<void(std::string_view)>* on_body = nullptr;

    void on_response_impl(int code, beast::string_view, int, ErrorCode&) override { head.status = code; }
    std::size_t take(beast::string_view part, ErrorCode&) override {
        (*on_body)({part.data(), part.size()});
        return part.size();
    }
};

ResponseReader::ResponseReader(std::size_t longest_head)
    : longest_head_{longest_head}, parser_{std::make_unique<Parser>()} {
    parser_->header_limit(static_cast<std::uint32_t>(longest_head));
    parser_->body_limit(boost::none);
}
ResponseReader::ResponseReader(ResponseReader&&) noexcept = default;
ResponseReader& ResponseReader::operator=(ResponseReader&&) noexcept = default;
ResponseReader::~ResponseReader() = default;

std::size_t ResponseReader::put(std::string_view bytes, const std::function<void(std::string_view)>& on_body) {
    auto* parser = parser_.get();
    if (parser->is_broken || parser->is_done() || bytes.empty()) return 0;
    ErrorCode error;
    const bool had_head = parser->is_header_done();
    constexpr std::string_view begin = "HTTP/1.";  // Beast looks at nothing before it has the end of the head
    if (!parser->has_begun && !bytes.starts_with(begin.substr(0, bytes.size()))) {
        parser->is_broken = true;
        return 0;
    }
    parser->on_body = &on_body;
    parser->eager(had_head);
    const auto used = parser->put(boost::asio::const_buffer{bytes.data(), bytes.size()}, error);
    parser->has_begun = parser->has_begun || used > 0;
    if (error && error != http::error::need_more) {
        parser->is_broken = true;
        return used;
    }
    if (!had_head && parser->is_header_done()) {
        parser->head.fields = std::move(parser->fields);
        parser->head.keeps_alive = parser->keep_alive();
        if (parser->head.status >= 100 && parser->head.status < 200) {
            *this = ResponseReader{longest_head_};
            return used;
        }
    }
    return used;
}

void ResponseReader::put_end() {
    ErrorCode error;
    const std::function<void(std::string_view)> ignore = [](std::string_view) {};
    parser_->on_body = &ignore;
    if (!parser_->is_header_done()) {
        parser_->is_broken = true;
        return;
    }
    if (!parser_->is_done()) parser_->put_eof(error);
    if (error) parser_->is_broken = true;
}

Stage ResponseReader::stage() const { return stage_of(*parser_); }
ResponseHead& ResponseReader::head() { return parser_->head; }

}  // namespace stargate::net
