#include "api/server.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>
#include <list>
#include <thread>

#include "api/unix_socket.hpp"

namespace stargate::api {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Protocol = asio::generic::stream_protocol;
using Connection = beast::basic_stream<Protocol>;  // one type for both kinds of sockets
using ErrorCode = boost::system::error_code;
template <class T>
using Awaitable = asio::awaitable<T>;

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

std::string_view phrase_of(int status) {
    const auto words = http::obsolete_reason(static_cast<http::status>(status));
    return {words.data(), words.size()};
}

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

/// `127.0.0.1`, `localhost` and `[::1]`, with or without a port: what a browser that was lured here would not send.
bool is_this_machine(std::string_view host) {
    const auto bare = host.substr(0, host.rfind(':') > host.rfind(']') + 1 || host.find(']') == std::string_view::npos
                                         ? host.rfind(':')
                                         : std::string_view::npos);
    // Numbers alone: anybody may own a name that begins with 127.
    const bool is_number = bare.find_first_not_of("0123456789.") == std::string_view::npos;
    return bare == "localhost" || bare == "[::1]" || (is_number && bare.substr(0, 4) == "127.");
}

std::string_view view_of(boost::string_view text) { return {text.data(), text.size()}; }

/// The caller of a connection over the unix socket.
std::optional<Caller> peer_of(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
    return Caller{peer.uid, peer.uid == 0 || peer.uid == geteuid(), true};
}

class Impl;

/// One connection: requests in order, each answered before the next is read, so pipelining is safe.
class Session : public std::enable_shared_from_this<Session> {
public:
    Session(Impl& server, Connection stream, std::optional<Caller> peer)
        : server_{server}, stream_{std::move(stream)}, peer_{peer}, wake_{stream_.get_executor()} {}

    Awaitable<void> run();
    /// New facts are there, or the server goes down.
    void wake() {
        news_ = true;
        wake_.cancel();
    }
    void close_if_idle() {
        if (!busy_) stream_.close();
    }
    void close() { stream_.close(); }

private:
    using Parser = http::request_parser<http::string_body>;

    Awaitable<bool> serve_one();
    Awaitable<bool> refuse_broken(ErrorCode error);
    Awaitable<bool> reply(const Reply& reply, bool keep_alive);
    Awaitable<bool> send(std::string_view bytes);
    Awaitable<bool> stream(Stream& source, bool chunked);
    Awaitable<void> rest(const Stream& source, std::string& out);
    Awaitable<Response> answer(Request request);
    [[nodiscard]] std::optional<Reply> turn_away(const Parser& parser, Caller& caller) const;

    Impl& server_;
    Connection stream_;
    std::optional<Caller> peer_;  // of the unix socket; over TCP each request brings its token
    asio::steady_timer wake_;
    beast::flat_buffer buffer_{max_head_bytes + max_body_bytes};
    bool busy_ = false;
    std::chrono::milliseconds silent_{};
    bool news_ = false;
};

class Impl final : public Server {
public:
    Impl(Api& api, Control& control, ServerSetting setting)
        : io_{std::make_shared<asio::io_context>(1)}, api_{api}, control_{control}, setting_{std::move(setting)} {}
    ~Impl() override { stop(); }

    Result<void> listen();
    void start() {
        control_.on_facts([this](std::uint64_t) { facts_came(); });
        if (unix_) asio::co_spawn(*io_, accept(*unix_, true), asio::detached);
        if (tcp_) asio::co_spawn(*io_, accept(*tcp_, false), asio::detached);
        thread_ = std::thread{[this] { io_->run(); }};
    }
    [[nodiscard]] std::uint16_t port() const override { return port_; }

    [[nodiscard]] Api& api() { return api_; }
    [[nodiscard]] const ServerSetting& setting() const { return setting_; }
    [[nodiscard]] const std::shared_ptr<asio::io_context>& io() const { return io_; }
    [[nodiscard]] bool is_stopping() const { return stopping_; }

private:
    using Acceptor = asio::basic_socket_acceptor<Protocol>;

    Result<void> listen_tcp();
    Awaitable<void> accept(Acceptor& acceptor, bool is_unix);
    Awaitable<void> serve(std::shared_ptr<Session> session);
    void turn_away(Connection stream);
    void facts_came() {
        // At most one wake-up is on its way, however fast facts come.
        if (wake_pending_.exchange(true)) return;
        asio::post(*io_, [this] {
            wake_pending_ = false;
            for (const auto& session : sessions_) session->wake();
        });
    }
    void stop();

    std::shared_ptr<asio::io_context> io_;  // outlives what the control plane still holds of ours
    Api& api_;
    Control& control_;
    ServerSetting setting_;
    std::optional<Acceptor> unix_, tcp_;
    std::uint16_t port_ = 0;
    std::list<std::shared_ptr<Session>> sessions_;
    std::atomic<bool> wake_pending_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

// ---- one connection

Awaitable<void> Session::run() {
    while (!server_.is_stopping() && co_await serve_one()) {}
    ErrorCode ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    stream_.close();
}

/// Reads a request and answers it; false when the connection is over.
Awaitable<bool> Session::serve_one() {
    busy_ = false;
    Parser parser;
    parser.header_limit(max_head_bytes);
    parser.body_limit(max_body_bytes);
    ErrorCode error;
    stream_.expires_after(server_.setting().head_timeout);
    co_await http::async_read_header(stream_, buffer_, parser, into(error));
    if (error) co_return co_await refuse_broken(error);
    busy_ = true;
    Caller caller;
    // Whom we do not know may not make us read a body.
    if (const auto refusal = turn_away(parser, caller)) {
        co_return co_await reply(*refusal, parser.is_done() && parser.keep_alive());
    }
    if (!parser.is_done() && buffer_.size() > 0) {  // a short body came with its head: no second wait
        parser.eager(true);
        buffer_.consume(parser.put(buffer_.data(), error));
        if (error && error != http::error::need_more) co_return co_await refuse_broken(error);
    }
    if (!parser.is_done()) {
        if (beast::iequals(parser.get()[http::field::expect], "100-continue") &&
            !co_await send("HTTP/1.1 100 Continue\r\n\r\n")) {
            co_return false;
        }
        stream_.expires_after(server_.setting().body_timeout);
        co_await http::async_read(stream_, buffer_, parser, into(error));
        if (error) co_return co_await refuse_broken(error);
    }
    auto message = parser.release();
    const bool keep_alive = message.keep_alive() && !server_.is_stopping();
    Request request;
    request.method = view_of(message.method_string());
    request.caller = caller;
    auto target = Target::parse(view_of(message.target()));
    if (!target) {
        co_return co_await reply(
            error_reply(400, "malformed", "the request's target is malformed", "docs/api.md lists the routes"),
            keep_alive);
    }
    request.target = std::move(*target);
    request.idempotency_key = view_of(message["Idempotency-Key"]);
    request.accept = view_of(message[http::field::accept]);
    request.body = std::move(message.body());
    auto response = co_await answer(std::move(request));
    if (const auto* whole = std::get_if<Reply>(&response)) co_return co_await reply(*whole, keep_alive);
    auto& source = *std::get<std::unique_ptr<Stream>>(response);
    ++server_.api().figures().replies[200];
    const bool chunked = message.version() >= 11;
    auto head = head_of(200, source.type(), keep_alive && chunked, 0);
    head += chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    if (!co_await send(head)) co_return false;
    co_return co_await stream(source, chunked) && keep_alive&& chunked;
}

/// Tells the client what was wrong with what it sent, if it can still be told.
Awaitable<bool> Session::refuse_broken(ErrorCode error) {
    if (error == http::error::body_limit) {
        co_await reply(error_reply(413, "too_large", "the body is larger than 1 MiB", "send less at once"), false);
    } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        co_await reply(error_reply(431, "too_large", "the request's head is too large", "send fewer or shorter fields"),
                       false);
    } else if (error.category() == http::make_error_code(http::error::bad_version).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
        co_await reply(error_reply(400, "malformed", "not HTTP: " + error.message(), "speak HTTP/1.1"), false);
    }
    co_return false;
}

/// Default-deny: a reply for whoever may not go on, else nothing and the caller.
std::optional<Reply> Session::turn_away(const Parser& parser, Caller& caller) const {
    const auto& head = parser.get();
    if (!peer_) {
        const auto origin = view_of(head[http::field::origin]);
        const auto scheme = origin.find("://");
        if (!is_this_machine(view_of(head[http::field::host])) ||
            (!origin.empty() && (scheme == std::string_view::npos || !is_this_machine(origin.substr(scheme + 3))))) {
            return error_reply(403, "denied", "this address is for tools of this machine", "ask 127.0.0.1 directly");
        }
    }
    if (head.method() == http::verb::get && head.target() == "/healthz") {
        Reply healthy;
        healthy.body = "ok\n";
        healthy.type = "text/plain";
        return healthy;
    }
    if (peer_) {
        caller = *peer_;
        return std::nullopt;
    }
    const auto credentials = view_of(head[http::field::authorization]);
    constexpr std::string_view scheme = "Bearer ";
    if (credentials.substr(0, scheme.size()) == scheme) {
        if (const auto known = server_.api().tokens().caller_of(credentials.substr(scheme.size()))) {
            caller = *known;
            return std::nullopt;
        }
    }
    return error_reply(401, "unauthenticated", "no token, or one that is not known here",
                       "send `Authorization: Bearer TOKEN` with what STATE/token holds");
}

Awaitable<bool> Session::send(std::string_view bytes) {
    // What the socket takes at once needs no timer and no turn of the loop.
    const auto sent = ::send(stream_.socket().native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
    if (bytes.empty()) co_return true;
    ErrorCode error;
    stream_.expires_after(server_.setting().write_timeout);
    co_await asio::async_write(stream_, asio::buffer(bytes), into(error));
    co_return !error;
}

Awaitable<bool> Session::reply(const Reply& reply, bool keep_alive) {
    ++server_.api().figures().replies[reply.status];
    const auto text = whole_reply(reply, keep_alive);
    co_return co_await send(text) && keep_alive;
}

/// What a route made of it; whatever it throws stays with this request.
Response made(const std::function<Response()>& outcome) {
    try {
        return outcome();
    } catch (const std::exception& error) {
        return error_reply(500, "internal", error.what(), "look into the control plane's log, and tell us");
    }
}

/// Hands the request to its route and waits until the answer is there.
Awaitable<Response> Session::answer(Request request) {
    auto start = [this, request = std::move(request)](auto handler) {
        // The control plane may hold this after the server is gone; `io` goes last.
        struct Waiting {
            std::shared_ptr<asio::io_context> io;
            decltype(handler) resume;
        };
        auto waiting = std::make_shared<Waiting>(Waiting{server_.io(), std::move(handler)});
        server_.api().handle(request, [waiting](std::function<Response()> outcome) {
            auto& io = *waiting->io;
            asio::post(io, [waiting, outcome = std::move(outcome)] { waiting->resume(made(outcome)); });
        });
    };
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(Response)>(std::move(start),
                                                                                            asio::use_awaitable);
}

/// True when the stream came to its end and the client took it all.
Awaitable<bool> Session::stream(Stream& source, bool chunked) {
    std::string out, chunk;
    while (true) {
        out.clear();
        news_ = false;
        const auto pulled = source.pull(out);
        if (out.empty() && pulled == Stream::Pulled::nothing_yet) {
            if (server_.is_stopping()) co_return false;
            co_await rest(source, out);
        }
        if (!out.empty()) {
            silent_ = {};
            chunk = chunked ? fmt::format("{:x}\r\n", out.size()) : std::string{};
            chunk += out;
            if (chunked) chunk += "\r\n";
            if (!co_await send(chunk)) co_return false;
        }
        if (pulled == Stream::Pulled::ended) break;
    }
    if (chunked && !co_await send("0\r\n\r\n")) co_return false;
    co_return true;
}

/// Waits for facts, or until the stream wants to look by itself; puts a heartbeat into `out` after a long silence.
Awaitable<void> Session::rest(const Stream& source, std::string& out) {
    if (news_) co_return;
    const auto poll = source.poll_after();
    const auto until = std::min(poll.value_or(server_.setting().heartbeat), server_.setting().heartbeat);
    silent_ += until;
    wake_.expires_after(until);
    ErrorCode error;
    co_await wake_.async_wait(into(error));
    if (!error && silent_ >= server_.setting().heartbeat) out = source.heartbeat();
}

// ---- all of them

Result<void> Impl::listen() {
    if (!setting_.socket.empty()) {
        auto socket = listen_at(setting_.socket, geteuid() == 0 ? 0666 : 0600);
        if (!socket) return tl::unexpected<Error>(socket.error());
        unix_.emplace(*io_, Protocol{AF_UNIX, 0}, dup(socket->get()));
    }
    return setting_.listen.empty() ? Result<void>{} : listen_tcp();
}

Result<void> Impl::listen_tcp() {
    const auto& text = setting_.listen;
    const auto colon = text.rfind(':');
    std::uint16_t port = 0;
    auto host = text.substr(0, colon);
    const auto* end = text.data() + text.size();
    const auto* digits = colon == std::string::npos ? end : text.data() + colon + 1;
    const auto [read_to, bad] = std::from_chars(digits, end, port);
    if (digits == end || bad != std::errc{} || read_to != end) {
        return fail(Fault::malformed, fmt::format("--listen {}: not ADDRESS:PORT; write 127.0.0.1:7433", text));
    }
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    if (host == "localhost") host = "127.0.0.1";
    ErrorCode error;
    const auto address = asio::ip::make_address(host, error);
    if (error) return fail(Fault::malformed, fmt::format("--listen {}: no address; write 127.0.0.1:7433", text));
    if (!address.is_loopback()) {
        return fail(Fault::denied,
                    fmt::format("--listen {}: TLS and a token are needed to be reached from other machines, and this "
                                "version has no TLS; listen on 127.0.0.1 and come in through ssh -L",
                                text));
    }
    const asio::ip::tcp::endpoint endpoint{address, port};
    asio::ip::tcp::acceptor acceptor{*io_};
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address{true}, error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
        return fail(Fault::conflict,
                    fmt::format("--listen {}: {}; choose another port, or end what uses it", text, error.message()));
    }
    port_ = acceptor.local_endpoint().port();
    tcp_.emplace(*io_, Protocol{endpoint.protocol().family(), 0}, acceptor.release());
    return {};
}

Awaitable<void> Impl::accept(Acceptor& acceptor, bool is_unix) {
    while (!stopping_) {
        ErrorCode error;
        auto socket = co_await acceptor.async_accept(into(error));
        if (error == asio::error::operation_aborted || stopping_) co_return;
        if (error) {  // out of descriptors, most likely: some will be closed soon
            asio::steady_timer pause{*io_, std::chrono::milliseconds{100}};
            co_await pause.async_wait(into(error));
            continue;
        }
        const auto peer = is_unix ? peer_of(socket.native_handle()) : std::nullopt;
        if (!is_unix) {
            const int on = 1;
            setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        }
        Connection stream{std::move(socket)};
        if (is_unix && !peer) continue;
        if (sessions_.size() >= static_cast<std::size_t>(setting_.max_connections)) {
            turn_away(std::move(stream));
            continue;
        }
        asio::co_spawn(*io_, serve(std::make_shared<Session>(*this, std::move(stream), peer)), asio::detached);
    }
}

void Impl::turn_away(Connection stream) {
    ++api_.figures().turned_away;
    static const auto text = whole_reply(
        error_reply(503, "too_many_connections", "too many connections are open", "try again in a moment"), false);
    ErrorCode ignored;  // it fits the socket's buffer, or the client is told nothing
    stream.socket().non_blocking(true, ignored);
    (void)::send(stream.socket().native_handle(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Awaitable<void> Impl::serve(std::shared_ptr<Session> session) {
    const auto place = sessions_.insert(sessions_.end(), session);
    ++api_.figures().connections;
    try {
        co_await session->run();
    } catch (const std::exception&) {
        session->close();  // out of memory, or a library's surprise: this connection ends, the others do not
    }
    --api_.figures().connections;
    sessions_.erase(place);
    if (stopping_ && sessions_.empty()) io_->stop();
}

void Impl::stop() {
    if (!thread_.joinable()) return;
    control_.on_facts({});
    asio::post(*io_, [this] {
        stopping_ = true;
        if (unix_) unix_->close();
        if (tcp_) tcp_->close();
        for (const auto& session : sessions_) {
            session->close_if_idle();
            session->wake();
        }
        if (sessions_.empty()) io_->stop();
    });
    asio::steady_timer last_call{*io_, std::chrono::milliseconds{500}};
    last_call.async_wait([this](ErrorCode) { io_->stop(); });
    thread_.join();
    sessions_.clear();
    if (!setting_.socket.empty()) unlink(setting_.socket.c_str());
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(Api& api, Control& control, ServerSetting setting) {
    auto server = std::make_unique<Impl>(api, control, std::move(setting));
    try {
        if (auto listening = server->listen(); !listening) return tl::unexpected<Error>(listening.error());
        server->start();
    } catch (const std::exception& error) {
        return fail(Fault::unavailable, fmt::format("the API cannot be served: {}", error.what()));
    }
    return server;
}

}  // namespace stargate::api
