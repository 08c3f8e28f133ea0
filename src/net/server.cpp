#include "net/server.hpp"

#include <fmt/format.h>
#include <netinet/tcp.h>

#include <boost/asio/ip/tcp.hpp>
#include <charconv>
#include <list>
#include <optional>

#include "net/loop_impl.hpp"

namespace stargate::net {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr std::size_t read_size = 8U << 10;
constexpr std::size_t most_ahead = 64U << 10;   // of requests that are pipelined behind the one that is served
constexpr std::size_t most_unsent = 64U << 10;  // that is collected before it is sent
constexpr Duration sweep_pause = std::chrono::seconds{1};
/// How long we listen to what a client still says that has been refused: with bytes unread, closing would take the
/// refusal away from it.
constexpr Duration linger_limit = std::chrono::seconds{2};

}  // namespace

class Connection;

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
    Impl(Loop& on, ServerSetting how) : loop{on}, setting{std::move(how)}, acceptor{on.impl().io} {}

    void accept();
    void sweep();

    Loop& loop;
    ServerSetting setting;
    tcp::acceptor acceptor;
    std::uint16_t port = 0;
    std::list<std::shared_ptr<Connection>> connections;
    bool is_accepting = false;
    bool is_draining = false;
    Loop::Timer sweeper = 0;
};

namespace {
class Answering;
}  // namespace

/// Reads requests and writes replies, in order.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(std::shared_ptr<Server::Impl> server, tcp::socket socket)
        : server_{std::move(server)}, socket_{std::move(socket)}, reader_{fresh_reader()} {}

    void begin() {
        ErrorCode ignored;
        socket_.set_option(tcp::no_delay{true}, ignored);
        socket_.non_blocking(true, ignored);
        moved_us_ = Loop::now_us();
        read();
    }
    void close();
    [[nodiscard]] bool is_open() const { return socket_.is_open(); }
    [[nodiscard]] bool is_busy() const { return is_busy_; }
    void look_at_time(std::int64_t now_us);

    // For the exchange in hand.
    void send(std::string_view bytes);
    void flush();
    [[nodiscard]] std::size_t waiting() const { return out_.size() - sent_ + next_.size(); }
    void answered(bool keeps_alive);

    std::list<std::shared_ptr<Connection>>::iterator place;

private:
    RequestReader fresh_reader() const { return {server_->setting.longest_head, server_->setting.longest_body}; }
    void read();
    void took(std::size_t count);
    void parse();
    [[nodiscard]] bool has_room(std::size_t here);
    void refuse_broken();
    void refuse(int status, const std::string& why);
    void refuse(const Reply& reply);
    void linger();
    void wait_to_write();
    void written();

    std::shared_ptr<Server::Impl> server_;
    tcp::socket socket_;
    RequestReader reader_;
    std::array<char, read_size> buffer_;
    std::unique_ptr<BodyRoom> room_;  // for what the reader has
    std::string ahead_;               // came while a request was served
    std::string out_;                 // being written, from sent_ on
    std::size_t sent_ = 0;
    std::string next_;  // waits for out_
    bool is_writing_ = false;
    bool is_flush_due_ = false;
    bool is_reading_ = false;
    bool has_head_ = false;             // of the request that comes in
    bool closes_ = false;               // when all is written
    bool is_refused_ = false;           // the rest of its request is not looked at
    bool is_busy_ = false;              // a request is being served
    std::weak_ptr<Answering> current_;  // its exchange, which holds us
    std::int64_t moved_us_ = 0;
};

namespace {

std::string head_of(int status, const Fields& fields) {
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, phrase_of(status));
    for (const auto& [name, value] : fields) fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
    return out;
}

class Answering : public Exchange {
public:
    explicit Answering(std::shared_ptr<Connection> connection) : connection_{std::move(connection)} {}
    ~Answering() override {
        if (connection_ && !is_over_) connection_->close();  // nobody will answer
    }

    void respond(const Reply& reply) override {
        if (is_over_ || !connection_) return;
        auto text = head_of(reply.status, reply.fields);
        fmt::format_to(std::back_inserter(text), "Content-Type: {}\r\nContent-Length: {}\r\n{}\r\n", reply.type,
                       reply.body.size(), head.keeps_alive ? "" : "Connection: close\r\n");
        connection_->send(text);
        if (head.method != "HEAD") connection_->send(reply.body);
        finish();
    }
    void begin(int status, const Fields& fields) override {
        if (is_over_ || !connection_ || has_begun_) return;
        has_begun_ = true;
        auto text = head_of(status, fields);
        if (!head.knows_chunks) head.keeps_alive = false;
        text += head.knows_chunks ? "Transfer-Encoding: chunked\r\n" : "";
        text += head.keeps_alive ? "\r\n" : "Connection: close\r\n\r\n";
        connection_->send(text);
    }
    void write(std::string_view bytes) override {
        if (is_over_ || !connection_ || bytes.empty()) return;
        if (!head.knows_chunks) return connection_->send(bytes);
        std::array<char, 20> size;
        const auto* end = fmt::format_to(size.data(), "{:x}\r\n", bytes.size());
        connection_->send({size.data(), static_cast<std::size_t>(end - size.data())});
        connection_->send(bytes);
        connection_->send("\r\n");
    }
    void end() override {
        if (is_over_ || !connection_) return;
        if (head.knows_chunks) connection_->send("0\r\n\r\n");
        finish();
    }
    void abort() override {
        if (is_over_ || !connection_) return;
        is_over_ = true;
        auto connection = std::exchange(connection_, nullptr);
        connection->flush();
        connection->close();
    }
    [[nodiscard]] std::size_t waiting() const override { return connection_ ? connection_->waiting() : 0; }

    void gone() {
        if (is_over_) return;
        is_over_ = true;
        connection_.reset();
        when_taken = nullptr;
        if (const auto told = std::exchange(when_gone, nullptr)) told();
    }
    void taken() const {
        if (!is_over_ && when_taken) when_taken();
    }

private:
    void finish() {
        is_over_ = true;
        when_gone = nullptr;
        when_taken = nullptr;
        auto connection = std::exchange(connection_, nullptr);
        connection->answered(head.keeps_alive);
    }

    std::shared_ptr<Connection> connection_;
    bool has_begun_ = false;
    bool is_over_ = false;
};

}  // namespace

void Connection::close() {
    if (!socket_.is_open()) return;
    const auto self = shared_from_this();
    ErrorCode ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
    room_.reset();
    server_->connections.erase(place);
    if (const auto current = current_.lock()) current->gone();
    server_->accept();
}

void Connection::look_at_time(std::int64_t now_us) {
    const auto& setting = server_->setting;
    const auto still = Duration{now_us - moved_us_};
    if (is_refused_ && waiting() == 0 && still > linger_limit) return close();
    const bool is_between = !is_busy_ && waiting() == 0 && reader_.stage() == Stage::head && ahead_.empty();
    const bool is_serving = is_busy_ && waiting() == 0;  // as long as it takes
    const auto limit = waiting() > 0 ? setting.write_limit : is_between ? setting.idle_limit : setting.read_limit;
    if (!is_serving && still > limit) close();
}

void Connection::read() {
    if (is_reading_ || !socket_.is_open() || ahead_.size() >= most_ahead) return;
    is_reading_ = true;
    socket_.async_read_some(asio::buffer(buffer_),
                            [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                                self->is_reading_ = false;
                                if (error) return self->close();
                                self->took(count);
                            });
}

void Connection::took(std::size_t count) {
    if (is_refused_) return read();
    ahead_.append(buffer_.data(), count);
    if (!is_busy_) parse();
    read();
}

void Connection::parse() {
    moved_us_ = Loop::now_us();
    std::size_t used = 0;
    while (!is_busy_ && !closes_ && used < ahead_.size()) {
        const auto count = reader_.put(std::string_view{ahead_}.substr(used));
        used += count;
        const auto stage = reader_.stage();
        if (stage == Stage::broken) {
            refuse_broken();
            break;
        }
        if (stage == Stage::head) {
            if (count == 0) break;
            continue;
        }
        const bool is_new = !std::exchange(has_head_, true);
        if (is_new) {
            const auto& admit = server_->setting.admit;
            if (auto reply = admit ? admit(reader_.head()) : std::nullopt) {
                refuse(*reply);
                break;
            }
        }
        if (!has_room(ahead_.size() - used)) {
            refuse(503, "too much of requests is being read at once");
            break;
        }
        if (is_new && stage == Stage::body && reader_.head().expects_continue) send("HTTP/1.1 100 Continue\r\n\r\n");
        if (stage == Stage::whole) {
            auto exchange = std::make_shared<Answering>(shared_from_this());
            exchange->head = std::move(reader_.head());
            exchange->body = std::move(reader_.body());
            if (server_->is_draining) exchange->head.keeps_alive = false;
            reader_ = fresh_reader();
            room_.reset();
            has_head_ = false;
            current_ = exchange;
            is_busy_ = true;
            ahead_.erase(0, used);
            used = 0;
            server_->setting.serve(std::move(exchange));
        } else if (count == 0) {
            break;
        }
    }
    ahead_.erase(0, std::min(used, ahead_.size()));
}

/// Whether the body that comes in has room.
/// here  bytes that have come and are not read yet
bool Connection::has_room(std::size_t here) {
    const auto& room = server_->setting.room;
    if (!room || reader_.stage() != Stage::body) return true;
    const auto text = field(reader_.head().fields, "Content-Length");
    std::size_t announced = 0;
    std::from_chars(text.data(), text.data() + text.size(), announced);
    if (!room_ && announced > 0 && announced <= here) return true;
    if (!room_) room_ = room(reader_.head());
    return room_->grow_to(std::max(announced, reader_.body().size()));
}

void Connection::refuse_broken() {
    const auto& setting = server_->setting;
    // Who may not come in hears that first, and not how large a body may be.
    const bool is_too_large = reader_.status() == 413 && !has_head_;
    if (const auto reply = is_too_large && setting.admit ? setting.admit(reader_.head()) : std::nullopt) {
        return refuse(*reply);
    }
    refuse(reader_.status(), reader_.why());
}

void Connection::refuse(int status, const std::string& why) {
    const auto& refusal = server_->setting.refusal;
    refuse(refusal ? refusal(status, why) : Reply{status, "text/plain", {}, why});
}

void Connection::refuse(const Reply& reply) {
    auto text = head_of(reply.status, reply.fields);
    fmt::format_to(std::back_inserter(text), "Content-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                   reply.type, reply.body.size());
    closes_ = true;
    is_refused_ = true;
    ahead_.clear();
    reader_ = fresh_reader();  // with what it had of a body
    room_.reset();
    send(text);
    send(reply.body);
}

void Connection::linger() {
    ErrorCode ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    moved_us_ = Loop::now_us();
}

void Connection::answered(bool keeps_alive) {
    is_busy_ = false;
    if (!keeps_alive || server_->is_draining) {
        closes_ = true;
        if (waiting() == 0) close();
        return;
    }
    moved_us_ = Loop::now_us();
    if (ahead_.empty()) return read();
    // Not from here: whoever answers may hold things that the next request changes.
    server_->loop.post([self = shared_from_this()] {
        if (self->socket_.is_open() && !self->is_busy_) self->parse();
        self->read();
    });
}

void Connection::send(std::string_view bytes) {
    if (!socket_.is_open()) return;
    if (is_writing_) {
        next_.append(bytes);
        return;
    }
    out_.append(bytes);
    if (out_.size() >= most_unsent) return flush();
    if (std::exchange(is_flush_due_, true)) return;
    // With all that this turn of the loop still says: head, events and end go out as one.
    server_->loop.post([self = shared_from_this()] { self->flush(); });
}

void Connection::flush() {
    is_flush_due_ = false;
    if (!socket_.is_open() || is_writing_ || out_.empty()) return;
    ErrorCode error;
    const auto count = socket_.write_some(asio::buffer(out_.data(), out_.size()), error);
    if (error && error != asio::error::would_block) {
        server_->loop.post([self = shared_from_this()] { self->close(); });
        return;
    }
    if (count > 0) moved_us_ = Loop::now_us();
    sent_ = count;
    if (count < out_.size()) return wait_to_write();
    written();
}

void Connection::wait_to_write() {
    is_writing_ = true;
    socket_.async_write_some(asio::buffer(out_.data() + sent_, out_.size() - sent_),
                             [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                                 if (error) return self->close();
                                 self->moved_us_ = Loop::now_us();
                                 self->sent_ += count;
                                 self->written();
                             });
}

void Connection::written() {
    if (sent_ == out_.size()) {
        out_.clear();
        sent_ = 0;
        std::swap(out_, next_);
    }
    if (!out_.empty()) return wait_to_write();
    is_writing_ = false;
    const bool is_idle = server_->is_draining && !is_busy_;
    if (out_.capacity() > read_size) out_ = {};
    if (next_.capacity() > read_size) next_ = {};
    if (is_refused_) return linger();
    if (closes_ || is_idle) return close();
    if (const auto current = current_.lock()) current->taken();
}

void Server::Impl::accept() {
    if (is_accepting || is_draining || !acceptor.is_open() || connections.size() >= setting.most_connections) return;
    is_accepting = true;
    acceptor.async_accept([self = shared_from_this()](const ErrorCode& error, tcp::socket socket) {
        self->is_accepting = false;
        if (!self->acceptor.is_open()) return;
        if (error) {  // no descriptor is left, for one: those that end give theirs back
            constexpr Duration pause = std::chrono::milliseconds{50};
            self->loop.after(pause, [self] { self->accept(); });
            return;
        }
        auto connection = std::make_shared<Connection>(self, std::move(socket));
        connection->place = self->connections.insert(self->connections.end(), connection);
        connection->begin();
        self->accept();
    });
}

void Server::Impl::sweep() {
    const auto now = Loop::now_us();
    for (auto at = connections.begin(); at != connections.end();) (*at++)->look_at_time(now);
    sweeper = loop.after(sweep_pause, [self = shared_from_this()] { self->sweep(); });
}

Result<std::unique_ptr<Server>> Server::listen(Loop& loop, ServerSetting setting) {
    auto impl = std::make_shared<Impl>(loop, std::move(setting));
    ErrorCode error;
    const auto address = asio::ip::make_address(impl->setting.host, error);
    const auto place = fmt::format("{}:{}", impl->setting.host, impl->setting.port);
    if (error) return fail(Fault::malformed, fmt::format("{} is no numeric address", impl->setting.host));
    const tcp::endpoint endpoint{address, impl->setting.port};
    impl->acceptor.open(endpoint.protocol(), error);
    if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address{true}, error);
    if (!error) impl->acceptor.bind(endpoint, error);
    if (!error) impl->acceptor.listen(4096, error);
    if (error) return fail(Fault::unavailable, fmt::format("cannot listen on {}: {}", place, error.message()));
    impl->port = impl->acceptor.local_endpoint().port();
    impl->accept();
    impl->sweep();
    return std::unique_ptr<Server>{new Server{std::move(impl)}};
}

Server::Server(std::shared_ptr<Impl> impl) : impl_{std::move(impl)} {}

Server::~Server() {
    ErrorCode ignored;
    impl_->acceptor.close(ignored);
    impl_->loop.cancel(impl_->sweeper);
    while (!impl_->connections.empty()) impl_->connections.front()->close();
}

std::uint16_t Server::port() const { return impl_->port; }
std::size_t Server::connections() const { return impl_->connections.size(); }

void Server::drain() {
    ErrorCode ignored;
    impl_->is_draining = true;
    impl_->acceptor.close(ignored);
    for (auto at = impl_->connections.begin(); at != impl_->connections.end();) {
        const auto connection = *at++;
        if (!connection->is_busy() && connection->waiting() == 0) connection->close();
    }
}

}  // namespace stargate::net
