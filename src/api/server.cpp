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
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <cerrno>
#include <list>
#include <thread>

#include "api/frame.hpp"
#include "api/listen.hpp"
#include "api/reply_text.hpp"
#include "api/request_reader.hpp"
#include "api/turns.hpp"
#include "base/posix.hpp"
#include "net/unix_socket.hpp"

namespace stargate::api {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using ErrorCode = boost::system::error_code;

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

using Protocol = asio::generic::stream_protocol;
using Connection = beast::basic_stream<Protocol>;  // one type for both kinds of sockets
template <class T>
using Awaitable = asio::awaitable<T>;

class Session;

/// What all sessions share. On the server's thread.
struct Common {
    Common(Api& served, ServerSetting how) : api{served}, setting{std::move(how)} {}

    Api& api;
    ServerSetting setting;
    /// Outlives what the control plane still holds of ours.
    std::shared_ptr<asio::io_context> io = std::make_shared<asio::io_context>(1);
    Places places{setting.places};
    Budget bytes{setting.bytes};  // bodies that are not worked off, replies that are not taken
    Turns turns{[this](Turns::Go go) { asio::post(*io, std::move(go)); }};
    std::atomic<int> streams = 0;  // that may wait for facts
    std::list<Session*> unknown;   // who came over TCP and has shown no token, oldest first
    bool stopping = false;
};

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

constexpr std::size_t small_piece = 4U << 10;  // of a stream: what a connection may keep while it has nothing to say

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
    Awaitable<bool> reply(Reply reply, bool keep_alive);
    Awaitable<bool> send(std::string_view bytes, std::chrono::milliseconds patience);
    Awaitable<bool> stream(Stream& source, bool chunked, const Caller& caller);
    Awaitable<void> turn();
    Awaitable<bool> rest(const Stream& source, std::string& out);
    Awaitable<void> swallow();
    Awaitable<Answered> answer(Request request, bool keep_alive);
    [[nodiscard]] bool is_admitted(const Caller& caller);
    [[nodiscard]] bool is_client_gone();
    void forget_unknown();
    [[nodiscard]] bool hold(std::size_t bytes);
    void let_go(std::size_t bytes);

    Common& common_;
    Connection stream_;
    std::optional<Caller> peer_;   // of the unix socket; over TCP each request brings its token
    std::optional<Caller> holds_;  // whose place this connection takes
    bool is_unknown_ = false;
    std::list<Session*>::iterator place_;  // among the unknown
    asio::steady_timer wake_;
    std::string in_;        // what came and is not read yet
    std::size_t held_ = 0;  // bytes of the caller's budget that this connection takes
    bool busy_ = false;
    bool news_ = false;
    std::chrono::steady_clock::time_point spoke_{};  // when the stream last sent something
};

Reply too_many_connections() {
    return error_reply(503, "too_many_connections", "too many connections are open", "try again in a moment");
}

Reply too_much_at_once() {
    return error_reply(503, "too_many_bytes", "too much that you sent or asked for is under way",
                       "read the replies that you asked for, then send it again");
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
    let_go(held_);
    if (holds_) common_.places.leave(*holds_);
    holds_.reset();
}

void Session::forget_unknown() {
    if (!is_unknown_) return;
    common_.unknown.erase(place_);
    is_unknown_ = false;
}

/// Takes so many bytes of the caller's budget, as long as it has a place; false: there are not so many left.
bool Session::hold(std::size_t bytes) {
    if (!holds_) return true;
    if (!common_.bytes.take(*holds_, static_cast<std::int64_t>(bytes))) return false;
    held_ += bytes;
    return true;
}

void Session::let_go(std::size_t bytes) {
    if (!holds_ || bytes == 0) return;
    common_.bytes.give_back(*holds_, static_cast<std::int64_t>(bytes));
    held_ -= bytes;
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
    let_go(held_);
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
    // Also who holds all that it may is told so before anything is done for it.
    if (!hold(std::max<std::size_t>(reader.body_size(), 1))) {
        if (reader.stage() == Stage::body) co_return co_await refuse(too_much_at_once());
        co_return co_await reply(too_much_at_once(), reader.keeps_alive());
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
    co_await turn();
    auto answered = co_await answer(std::move(*request), keep_alive);
    let_go(held_);
    if (const auto* sent = std::get_if<Sent>(&answered)) {
        ++common_.api.figures().replies[sent->status];
        co_return co_await send(sent->rest, common_.setting.write_timeout) && keep_alive;
    }
    auto& response = std::get<Response>(answered);
    if (auto* whole = std::get_if<Reply>(&response)) co_return co_await reply(std::move(*whole), keep_alive);
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

/// Patience counts for each call: so long may the client take nothing. What it does not take at once is of its budget;
/// where that is used up, the connection ends.
Awaitable<bool> Session::send(std::string_view bytes, std::chrono::milliseconds patience) {
    // What the socket takes at once needs no timer and no turn of the loop.
    if (!bytes.empty()) send_some(stream_.socket().native_handle(), bytes);
    if (bytes.empty()) co_return true;
    if (!hold(bytes.size())) co_return false;
    ErrorCode error;
    stream_.expires_after(patience);
    co_await asio::async_write(stream_, asio::buffer(bytes), into(error));
    let_go(bytes.size());
    co_return !error;
}

Awaitable<bool> Session::reply(Reply reply, bool keep_alive) {
    ++common_.api.figures().replies[reply.status];
    const auto text = whole_reply(reply, keep_alive);
    reply.body = {};  // a large one is not kept twice
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
            // Most clients ask on at once: so the loop wakes up while the client reads the reply, not after its next
            // request, which on a sleeping processor of a virtual machine takes some 40 us.
            asio::post(io, [] {});
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
    struct Counted {
        explicit Counted(std::atomic<int>& all) : all_{all} { ++all_; }
        Counted(const Counted&) = delete;
        Counted& operator=(const Counted&) = delete;
        ~Counted() { --all_; }
        std::atomic<int>& all_;
    };
    const Counted counted{common_.streams};
    std::string out;
    // A chunk's size goes before it: room for that in advance saves a copy.
    constexpr std::size_t size_line = sizeof "00000000\r\n" - 1;
    const auto prefix = chunked ? size_line : 0;
    std::size_t kept = 0;
    spoke_ = std::chrono::steady_clock::now();
    while (true) {
        out.assign(prefix, '0');
        co_await turn();
        news_ = false;
        // A token that was revoked ends what it opened.
        if (!caller.token.empty() && !common_.api.tokens().is_good(caller.token)) co_return false;
        const auto pulled = source.pull(out);
        const auto keeps = source.keeps();
        if (keeps > kept && !hold(keeps - kept)) co_return false;
        if (keeps < kept) let_go(kept - keeps);
        kept = keeps;
        if (out.size() == prefix && pulled == Stream::Pulled::nothing_yet) {
            if (out.capacity() > small_piece) std::string(prefix, '0').swap(out);
            if (common_.stopping || !co_await rest(source, out)) co_return false;
        }
        if (out.size() > prefix) {
            if (chunked) {
                fmt::format_to(out.data(), "{:08x}\r\n", out.size() - prefix);
                out += "\r\n";
            }
            if (!co_await send(out, common_.setting.stream_timeout)) co_return false;
            spoke_ = std::chrono::steady_clock::now();
        }
        if (pulled == Stream::Pulled::broken) co_return false;
        if (pulled == Stream::Pulled::ended) break;
    }
    co_return !chunked || co_await send("0\r\n\r\n", common_.setting.stream_timeout);
}

/// Waits until the caller may have the thread.
Awaitable<void> Session::turn() {
    if (common_.turns.take()) co_return;
    auto wait = [this](auto handler) {
        common_.turns.wait(holds_ ? holds_->uid : 0,
                           [go = std::make_shared<decltype(handler)>(std::move(handler))] { (*go)(); });
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(std::move(wait), asio::use_awaitable);
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
    out += source.heartbeat();
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
    Awaitable<void> accept(Acceptor& acceptor, bool is_unix);
    void welcome(Connection stream, bool is_unix);
    Awaitable<void> serve(std::shared_ptr<Session> session);
    void turn_away(Connection stream);
    void facts_came() {
        // At most one wake-up is on its way, however fast facts come; and none where nobody waits for any: a stream is
        // counted before it looks.
        if (common_.streams == 0 || wake_pending_.exchange(true)) return;
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
    if (setting.listen.empty()) return {};
    auto listening = listen_on(setting.listen);
    if (!listening) return tl::unexpected<Error>(listening.error());
    port_ = listening->port;
    address_ = listening->address;
    const auto family = listening->is_v6 ? AF_INET6 : AF_INET;
    tcp_.emplace(io(), Protocol{family, 0}, fcntl(listening->socket.get(), F_DUPFD_CLOEXEC, 0));
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
