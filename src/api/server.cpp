#include "api/server.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/http/status.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <list>
#include <thread>

#include "api/frame.hpp"
#include "api/places.hpp"
#include "api/request_reader.hpp"
#include "base/posix.hpp"
#include "net/unix_socket.hpp"

namespace stargate::api {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

using Protocol = asio::generic::stream_protocol;
using Connection = beast::basic_stream<Protocol>;  // one type for both kinds of sockets
template <class T>
using Awaitable = asio::awaitable<T>;

class Session;

/// What all sessions share. On the server's thread.
struct Common {
    Common(Api& served, ServerSetting how) : api{served}, setting{std::move(how)}, places{setting.places} {}

    Api& api;
    ServerSetting setting;
    /// Outlives what the control plane still holds of ours.
    std::shared_ptr<asio::io_context> io = std::make_shared<asio::io_context>(1);
    Places places;
    std::list<Session*> unknown;  // who came over TCP and has shown no token, oldest first
    bool stopping = false;
};

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

/// What a route made of it; whatever it throws stays with this request.
Response safely_made(const Api::Outcome& outcome) {
    try {
        return made(outcome);
    } catch (const std::exception& error) {
        return error_reply(500, "internal", error.what(), "look into the control plane's log, and tell us");
    }
}

/// A reply that has left already, from the thread that had it ready.
struct Sent {
    int status;
    std::string rest;  // what the socket did not take at once
};

using Answered = std::variant<Response, Sent>;

/// Sends what the socket takes at once, and cuts it off.
void send_some(int socket, std::string_view& bytes) {
    const auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
}

/// Requests in order, each answered before the next is read, so pipelining is safe.
class Session : public std::enable_shared_from_this<Session> {
public:
    /// `peer` is who is at the other end of the unix socket and has a place already; nothing over TCP.
    Session(Common& common, Connection stream, std::optional<Caller> peer);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Awaitable<void> run();
    /// It is over: its place is free for others.
    void leave();
    /// New facts are there, or the server goes down.
    void wake() {
        news_ = true;
        wake_.cancel();
    }
    void close_if_idle() {
        if (!busy_) stream_.close();
    }
    /// Ends it; who has shown no token makes room at once.
    void close();

private:
    Awaitable<bool> serve_one();
    Awaitable<bool> read(RequestReader& reader, RequestReader::Stage until);
    Awaitable<bool> refuse(const Reply& refusal);
    Awaitable<bool> reply(const Reply& reply, bool keep_alive);
    Awaitable<bool> send(std::string_view bytes, std::chrono::milliseconds patience);
    Awaitable<bool> stream(Stream& source, bool chunked, const Caller& caller);
    Awaitable<bool> rest(const Stream& source, std::string& out);
    Awaitable<void> swallow();
    Awaitable<Answered> answer(Request request, bool keep_alive);
    [[nodiscard]] bool is_admitted(const Caller& caller);
    [[nodiscard]] bool is_client_gone();
    void forget_unknown();

    Common& common_;
    Connection stream_;
    std::optional<Caller> peer_;   // of the unix socket; over TCP each request brings its token
    std::optional<Caller> holds_;  // whose place this connection takes
    bool is_unknown_ = false;
    std::list<Session*>::iterator place_;  // among the unknown
    asio::steady_timer wake_;
    std::string in_;  // what came and is not read yet
    bool busy_ = false;
    bool news_ = false;
    std::chrono::steady_clock::time_point spoke_{};  // when the stream last sent something
};

Reply too_many_connections() {
    return error_reply(503, "too_many_connections", "too many connections are open", "try again in a moment");
}

std::string whole_reply(const Reply& reply, bool keep_alive) {
    auto text = head_of(reply.status, reply.type, keep_alive, reply.retry_after_s);
    text += fmt::format("Content-Length: {}\r\n\r\n", reply.body.size());
    return text + reply.body;
}

Session::Session(Common& common, Connection stream, std::optional<Caller> peer)
    : common_{common},
      stream_{std::move(stream)},
      peer_{peer},
      holds_{std::move(peer)},
      is_unknown_{!peer_},
      wake_{stream_.get_executor()} {
    if (is_unknown_) place_ = common_.unknown.insert(common_.unknown.end(), this);
}

void Session::leave() {
    forget_unknown();
    if (holds_) common_.places.leave(*holds_);
    holds_.reset();
}

void Session::forget_unknown() {
    if (!is_unknown_) return;
    common_.unknown.erase(place_);
    is_unknown_ = false;
}

void Session::close() {
    forget_unknown();
    stream_.close();
}

Awaitable<void> Session::run() {
    while (!common_.stopping && co_await serve_one()) {}
    ErrorCode ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    stream_.close();
}

/// A token was seen: the connection takes a place of those who are known, once.
bool Session::is_admitted(const Caller& caller) {
    if (holds_) return true;
    forget_unknown();
    if (!common_.places.take(caller)) return false;
    holds_ = caller;
    return true;
}

/// Reads on until the request has come so far; false when the connection is over.
Awaitable<bool> Session::read(RequestReader& reader, RequestReader::Stage until) {
    constexpr std::size_t at_once = 16U << 10;
    while (true) {
        in_.erase(0, reader.put(in_));
        if (reader.stage() >= until) co_return true;
        const auto kept = in_.size();
        in_.resize(kept + at_once);
        ErrorCode error;
        const auto got = co_await stream_.async_read_some(asio::buffer(in_.data() + kept, at_once), into(error));
        in_.resize(kept + got);
        if (error) co_return false;
    }
}

/// Reads a request and answers it; false when the connection is over.
Awaitable<bool> Session::serve_one() {
    using Stage = RequestReader::Stage;
    busy_ = false;
    RequestReader reader;
    stream_.expires_after(holds_ ? common_.setting.head_timeout : common_.setting.unknown_timeout);
    if (!co_await read(reader, Stage::body)) co_return false;
    busy_ = true;
    if (reader.stage() == Stage::broken) co_return co_await refuse(*reader.complaint());
    Caller caller;
    // Whom we do not know may not make us read a body.
    if (const auto refusal = reader.turn_away(peer_, common_.api.tokens(), caller)) {
        co_return co_await reply(*refusal, reader.stage() == Stage::done && reader.keeps_alive());
    }
    if (!is_admitted(caller)) {
        ++common_.api.figures().turned_away;
        co_return co_await reply(too_many_connections(), false);
    }
    if (reader.stage() == Stage::body) {
        if (reader.expects_continue() && in_.empty() &&
            !co_await send("HTTP/1.1 100 Continue\r\n\r\n", common_.setting.write_timeout)) {
            co_return false;
        }
        stream_.expires_after(common_.setting.body_timeout);
        if (!co_await read(reader, Stage::done)) co_return false;
        if (reader.stage() == Stage::broken) co_return co_await refuse(*reader.complaint());
    }
    const bool keep_alive = reader.keeps_alive() && !common_.stopping;
    const bool chunked = reader.knows_chunks();
    auto request = reader.take(caller);
    if (!request) {
        co_return co_await reply(
            error_reply(400, "malformed", "the request's target is malformed", "docs/api.md lists the routes"),
            keep_alive);
    }
    auto answered = co_await answer(std::move(*request), keep_alive);
    if (const auto* sent = std::get_if<Sent>(&answered)) {
        ++common_.api.figures().replies[sent->status];
        co_return co_await send(sent->rest, common_.setting.write_timeout) && keep_alive;
    }
    auto& response = std::get<Response>(answered);
    if (const auto* whole = std::get_if<Reply>(&response)) co_return co_await reply(*whole, keep_alive);
    auto& source = *std::get<std::unique_ptr<Stream>>(response);
    ++common_.api.figures().replies[200];
    auto head = head_of(200, source.type(), keep_alive && chunked, 0);
    head += chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    if (!co_await send(head, common_.setting.write_timeout)) co_return false;
    const bool ended = co_await stream(source, chunked, caller);
    co_return ended&& keep_alive&& chunked;
}

/// Tells the client what was wrong with what it sent; the connection is over.
Awaitable<bool> Session::refuse(const Reply& refusal) {
    co_await reply(refusal, false);
    co_await swallow();
    co_return false;
}

/// Reads on for a moment what a refused client still sends: a connection that is closed over unread bytes may take the
/// reply with it.
Awaitable<void> Session::swallow() {
    ErrorCode error;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, error);
    constexpr std::size_t most = 8 * max_body_bytes;
    std::string scrap(64U << 10, '\0');
    stream_.expires_after(std::chrono::seconds{2});
    for (std::size_t read = 0; !error && read < most;) {
        read += co_await stream_.async_read_some(asio::buffer(scrap), into(error));
    }
}

/// Patience counts for each call: so long may the client take nothing.
Awaitable<bool> Session::send(std::string_view bytes, std::chrono::milliseconds patience) {
    // What the socket takes at once needs no timer and no turn of the loop.
    if (!bytes.empty()) send_some(stream_.socket().native_handle(), bytes);
    if (bytes.empty()) co_return true;
    ErrorCode error;
    stream_.expires_after(patience);
    co_await asio::async_write(stream_, asio::buffer(bytes), into(error));
    co_return !error;
}

Awaitable<bool> Session::reply(const Reply& reply, bool keep_alive) {
    ++common_.api.figures().replies[reply.status];
    const auto text = whole_reply(reply, keep_alive);
    co_return co_await send(text, common_.setting.write_timeout) && keep_alive;
}

/// Hands the request to its route and waits until the answer is there.
Awaitable<Answered> Session::answer(Request request, bool keep_alive) {
    auto start = [this, keep_alive, request = std::move(request)](auto handler) {
        // The control plane may hold this after the session and the server are gone: so it has a descriptor of its own,
        // and `io` goes last.
        struct Waiting {
            std::shared_ptr<asio::io_context> io;
            FileDescriptor socket;
            decltype(handler) resume;
        };
        auto waiting = std::make_shared<Waiting>(
            Waiting{common_.io, FileDescriptor{fcntl(stream_.socket().native_handle(), F_DUPFD_CLOEXEC, 0)},
                    std::move(handler)});
        common_.api.handle(request, [waiting, keep_alive](Api::Outcome outcome) {
            auto& io = *waiting->io;
            const auto* ready = std::get_if<Reply>(&outcome);
            if (ready == nullptr || !waiting->socket || io.get_executor().running_in_this_thread()) {
                return asio::post(io,
                                  [waiting, outcome = std::move(outcome)] { waiting->resume(safely_made(outcome)); });
            }
            const auto text = whole_reply(*ready, keep_alive);
            std::string_view left = text;
            send_some(waiting->socket.get(), left);
            asio::post(io, [waiting, sent = Sent{ready->status, std::string{left}}] { waiting->resume(sent); });
        });
    };
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(Answered)>(std::move(start),
                                                                                            asio::use_awaitable);
}

/// True when the stream came to its end and the client took it all. A stream that cannot be read to its end has no last
/// chunk, so that the client knows.
Awaitable<bool> Session::stream(Stream& source, bool chunked, const Caller& caller) {
    std::string out, chunk;
    spoke_ = std::chrono::steady_clock::now();
    while (true) {
        out.clear();
        news_ = false;
        // A token that was revoked ends what it opened.
        if (!caller.token.empty() && !common_.api.tokens().is_good(caller.token)) co_return false;
        const auto pulled = source.pull(out);
        if (out.empty() && pulled == Stream::Pulled::nothing_yet) {
            if (common_.stopping || !co_await rest(source, out)) co_return false;
        }
        if (!out.empty()) {
            chunk = chunked ? fmt::format("{:x}\r\n", out.size()) : std::string{};
            chunk += out;
            if (chunked) chunk += "\r\n";
            if (!co_await send(chunk, common_.setting.stream_timeout)) co_return false;
            spoke_ = std::chrono::steady_clock::now();
        }
        if (pulled == Stream::Pulled::broken) co_return false;
        if (pulled == Stream::Pulled::ended) break;
    }
    co_return !chunked || co_await send("0\r\n\r\n", common_.setting.stream_timeout);
}

/// Waits for facts, or until the stream wants to look by itself. After a long silence it puts a heartbeat into `out`
/// and looks whether anybody still listens; false when not.
Awaitable<bool> Session::rest(const Stream& source, std::string& out) {
    if (news_) co_return true;
    const auto heartbeat = common_.setting.heartbeat;
    wake_.expires_after(std::min(source.poll_after().value_or(heartbeat), heartbeat));
    ErrorCode error;
    co_await wake_.async_wait(into(error));
    const auto now = std::chrono::steady_clock::now();
    if (now - spoke_ < heartbeat) co_return true;
    spoke_ = now;
    out = source.heartbeat();
    co_return !is_client_gone();
}

bool Session::is_client_gone() {
    char byte = 0;
    return recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

// ---- all of them

/// The caller of a connection over the unix socket.
std::optional<Caller> peer_of(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
    return Caller{peer.uid, peer.uid == 0 || peer.uid == geteuid(), true};
}

class Impl final : public Server {
public:
    Impl(Api& api, Control& control, ServerSetting setting) : common_{api, std::move(setting)}, control_{control} {}
    ~Impl() override { stop(); }

    Result<void> listen();
    void start() {
        control_.on_facts([this](std::uint64_t) { facts_came(); });
        if (unix_) asio::co_spawn(io(), accept(*unix_, true), asio::detached);
        if (tcp_) asio::co_spawn(io(), accept(*tcp_, false), asio::detached);
        thread_ = std::thread{[this] { io().run(); }};
    }
    [[nodiscard]] std::uint16_t port() const override { return port_; }
    [[nodiscard]] std::string address() const override { return address_; }

private:
    using Acceptor = asio::basic_socket_acceptor<Protocol>;

    [[nodiscard]] asio::io_context& io() { return *common_.io; }
    Result<void> listen_tcp();
    Awaitable<void> accept(Acceptor& acceptor, bool is_unix);
    void welcome(Connection stream, bool is_unix);
    Awaitable<void> serve(std::shared_ptr<Session> session);
    void turn_away(Connection stream);
    void facts_came() {
        // At most one wake-up is on its way, however fast facts come.
        if (wake_pending_.exchange(true)) return;
        asio::post(io(), [this] {
            wake_pending_ = false;
            for (const auto& session : sessions_) session->wake();
        });
    }
    void stop();

    Common common_;
    Control& control_;
    std::optional<Acceptor> unix_, tcp_;
    std::uint16_t port_ = 0;
    std::string address_;
    std::list<std::shared_ptr<Session>> sessions_;
    std::atomic<bool> wake_pending_ = false;
    std::thread thread_;
};

Result<void> Impl::listen() {
    const auto& setting = common_.setting;
    if (!setting.socket.empty()) {
        auto socket = net::listen_at(setting.socket, geteuid() == 0 ? 0666 : 0600);
        if (!socket) return tl::unexpected<Error>(socket.error());
        unix_.emplace(io(), Protocol{AF_UNIX, 0}, fcntl(socket->get(), F_DUPFD_CLOEXEC, 0));
    }
    return setting.listen.empty() ? Result<void>{} : listen_tcp();
}

Result<void> Impl::listen_tcp() {
    const auto& text = common_.setting.listen;
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
    // By hand, since Asio's sockets would stay open in the programs that the engine starts.
    const FileDescriptor socket{::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const int on = 1;
    asio::ip::tcp::endpoint bound;
    auto size = static_cast<socklen_t>(bound.capacity());
    if (!socket || setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(socket.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
        ::listen(socket.get(), SOMAXCONN) != 0 || getsockname(socket.get(), bound.data(), &size) != 0) {
        return fail(Fault::conflict, fmt::format("--listen {}: {}; choose another port, or end what uses it", text,
                                                 std::strerror(errno)));
    }
    port_ = bound.port();
    address_ = fmt::format("{}:{}", address.is_v6() ? "[" + address.to_string() + "]" : address.to_string(), port_);
    tcp_.emplace(io(), Protocol{endpoint.protocol().family(), 0}, fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    return {};
}

Awaitable<void> Impl::accept(Acceptor& acceptor, bool is_unix) {
    while (!common_.stopping) {
        ErrorCode error;
        co_await acceptor.async_wait(asio::socket_base::wait_read, into(error));
        if (error == asio::error::operation_aborted || common_.stopping) co_return;
        // Not Asio's accept: a program that the engine starts meanwhile must not get the connection.
        const int socket = accept4(acceptor.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket >= 0) {
            Protocol::socket connected{io(), Protocol{is_unix ? AF_UNIX : AF_INET, 0}, socket};
            welcome(Connection{std::move(connected)}, is_unix);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            asio::steady_timer pause{io(), std::chrono::milliseconds{100}};  // some will be closed soon
            co_await pause.async_wait(into(error));
        }
    }
}

void Impl::welcome(Connection stream, bool is_unix) {
    std::optional<Caller> peer;
    const int socket = stream.socket().native_handle();
    if (is_unix) {
        peer = peer_of(socket);
        if (!peer) return;
        if (!common_.places.take(*peer)) return turn_away(std::move(stream));
    } else {
        const int on = 1;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        // Whoever has said nothing for the longest makes room: an honest client sends its token at once.
        if (common_.unknown.size() >= static_cast<std::size_t>(common_.places.unknown_limit())) {
            common_.unknown.front()->close();
        }
    }
    asio::co_spawn(io(), serve(std::make_shared<Session>(common_, std::move(stream), peer)), asio::detached);
}

void Impl::turn_away(Connection stream) {
    ++common_.api.figures().turned_away;
    static const auto text = whole_reply(too_many_connections(), false);
    ErrorCode ignored;  // it fits the socket's buffer, or the client is told nothing
    stream.socket().non_blocking(true, ignored);
    (void)::send(stream.socket().native_handle(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Awaitable<void> Impl::serve(std::shared_ptr<Session> session) {
    const auto place = sessions_.insert(sessions_.end(), session);
    ++common_.api.figures().connections;
    try {
        co_await session->run();
    } catch (const std::exception&) {
        session->close();  // out of memory, or a library's surprise: this connection ends, the others do not
    }
    --common_.api.figures().connections;
    session->leave();
    sessions_.erase(place);
    if (common_.stopping && sessions_.empty()) io().stop();
}

void Impl::stop() {
    if (!thread_.joinable()) return;
    control_.on_facts({});
    asio::post(io(), [this] {
        common_.stopping = true;
        if (unix_) unix_->close();
        if (tcp_) tcp_->close();
        for (const auto& session : sessions_) {
            session->close_if_idle();
            session->wake();
        }
        if (sessions_.empty()) io().stop();
    });
    asio::steady_timer last_call{io(), std::chrono::milliseconds{500}};
    last_call.async_wait([this](ErrorCode) { io().stop(); });
    thread_.join();
    sessions_.clear();
    if (!common_.setting.socket.empty()) unlink(common_.setting.socket.c_str());
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
