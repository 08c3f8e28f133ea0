#include "net/client.hpp"

#include <fmt/format.h>

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <list>
#include <optional>

#include "net/loop_impl.hpp"

namespace stargate::net {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr std::size_t read_size = 16U << 10;
constexpr std::size_t longest_head = 64U << 10;

class CallOnWire;

/// A connection to the server: in a call, or resting until the next.
struct Wire : std::enable_shared_from_this<Wire> {
    explicit Wire(asio::io_context& io) : socket{io} {}

    void read();
    void close() {
        ErrorCode ignored;
        socket.close(ignored);
    }

    tcp::socket socket;
    std::array<char, read_size> buffer;
    bool is_reading = false;
    bool was_used = false;              // for a call before
    std::weak_ptr<CallOnWire> call;     // that it serves now
    std::function<void()> when_broken;  // while it rests
    std::int64_t rests_since_us = 0;
};

}  // namespace

namespace {
/// An IPv6 address stands in brackets there.
std::string host_field(const std::string& host, std::uint16_t port) {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}
}  // namespace

struct Client::Impl : std::enable_shared_from_this<Client::Impl> {
    Impl(Loop& on, ClientSetting how)
        : loop{on}, setting{std::move(how)}, host{host_field(setting.host, setting.port)}, resolver{on.impl().io} {
        ErrorCode error;
        const auto address = asio::ip::make_address(setting.host, error);
        if (!error) fixed = tcp::endpoint{address, setting.port};
    }

    void rest(std::shared_ptr<Wire> wire);
    std::shared_ptr<Wire> take_resting();

    Loop& loop;
    ClientSetting setting;
    std::string host;
    tcp::resolver resolver;
    std::optional<tcp::endpoint> fixed;
    std::list<std::shared_ptr<Wire>> resting;  // the newest last
    bool is_closed = false;
};

namespace {

class CallOnWire : public Call, public std::enable_shared_from_this<CallOnWire> {
public:
    CallOnWire(std::shared_ptr<Client::Impl> client, std::string request, CallEvents events)
        : client_{std::move(client)}, request_{std::move(request)}, events_{std::move(events)} {}

    void begin() {
        if (auto wire = client_->take_resting()) return take(std::move(wire));
        connect();
    }
    void cancel() override {
        if (is_over_) return;
        is_over_ = true;
        client_->loop.cancel(timer_);
        if (wire_) wire_->close();
        leave();
    }
    void pause() override { is_paused_ = true; }
    void resume() override {
        if (!std::exchange(is_paused_, false) || !wire_ || is_over_) return;
        wire_->read();
    }

    void got(std::string_view bytes) {
        has_answer_ = true;
        if (!rest_.empty()) {
            rest_.append(bytes);
            bytes = rest_;
        }
        while (!bytes.empty() && !is_over_) {
            const auto used = reader_.put(bytes, on_part_);
            bytes.remove_prefix(used);
            if (is_over_) return;  // cancelled from on_body
            const auto stage = reader_.stage();
            if (stage == Stage::broken) return fail("its response is no HTTP");
            if (stage != Stage::head && !std::exchange(has_head_, true)) {
                if (events_.on_head) events_.on_head(reader_.head());
                if (is_over_) return;
            }
            if (stage == Stage::whole) return finish(bytes.empty());
            if (used == 0) break;
        }
        if (is_over_) return;
        rest_.assign(std::string{bytes});  // half a line of a head, or of a chunk's
        if (!is_paused_) wire_->read();
    }
    void ended(const ErrorCode& error) {
        if (is_over_) return;
        if (!has_answer_ && wire_->was_used && !has_tried_again_) {
            has_tried_again_ = true;
            wire_->close();
            wire_.reset();
            return connect();
        }
        if (error == asio::error::eof) {
            reader_.put_end();
            if (reader_.stage() == Stage::whole) return finish(false);
        }
        fail(error == asio::error::eof ? "the connection ended" : error.message());
    }

private:
    void connect() {
        auto wire = std::make_shared<Wire>(client_->loop.impl().io);
        wire_ = wire;
        timer_ = client_->loop.after(client_->setting.connect_limit, [self = weak_from_this()] {
            const auto call = self.lock();
            if (!call || call->is_over_) return;
            call->wire_->close();
            call->fail("no connection in time");
        });
        const auto connected = [self = shared_from_this(), wire](const ErrorCode& error) {
            if (self->is_over_) return;
            self->client_->loop.cancel(std::exchange(self->timer_, 0));
            if (error) return self->fail(error.message());
            self->was_connected_ = true;
            ErrorCode ignored;
            wire->socket.set_option(tcp::no_delay{true}, ignored);
            wire->socket.non_blocking(true, ignored);
            self->take(wire);
        };
        if (client_->fixed) return wire->socket.async_connect(*client_->fixed, connected);
        client_->resolver.async_resolve(
            client_->setting.host, std::to_string(client_->setting.port),
            [self = shared_from_this(), wire, connected](const ErrorCode& error,
                                                         const tcp::resolver::results_type& found) {
                if (self->is_over_) return;
                if (error) return connected(error);
                asio::async_connect(wire->socket, found,
                                    [connected](const ErrorCode& failed, const tcp::endpoint&) { connected(failed); });
            });
    }
    void take(std::shared_ptr<Wire> wire) {
        wire_ = std::move(wire);
        wire_->call = weak_from_this();
        was_connected_ = true;
        kept_alive_by_ = shared_from_this();
        sent_ = 0;
        send();
        if (!is_over_ && wire_) wire_->read();
    }
    void send() {
        ErrorCode error;
        const std::string_view rest = std::string_view{request_}.substr(sent_);
        sent_ += wire_->socket.write_some(asio::buffer(rest.data(), rest.size()), error);
        if (error && error != asio::error::would_block) return;  // reading tells
        if (sent_ == request_.size()) return;
        asio::async_write(wire_->socket, asio::buffer(request_.data() + sent_, request_.size() - sent_),
                          [self = shared_from_this(), wire = wire_](const ErrorCode&, std::size_t) {});
    }
    void finish(bool is_clean) {
        is_over_ = true;
        const bool keeps = is_clean && reader_.head().keeps_alive && !is_paused_;
        auto wire = std::exchange(wire_, nullptr);
        if (keeps) {
            client_->rest(std::move(wire));
        } else {
            wire->close();
        }
        const auto self = shared_from_this();
        const auto told = std::move(events_.on_end);
        leave();
        if (told) told();
    }
    void fail(std::string why) {
        if (std::exchange(is_over_, true)) return;
        client_->loop.cancel(timer_);
        if (wire_) wire_->close();
        const auto self = shared_from_this();
        const auto told = std::move(events_.on_failure);
        leave();
        if (told) told({std::move(why), has_answer_, was_connected_});
    }
    /// Lets go of what was given to us, which may hold us.
    void leave() {
        const auto self = shared_from_this();
        client_->loop.post([self] { self->events_ = {}; });  // they may be running
        kept_alive_by_.reset();
        wire_.reset();
    }

    std::shared_ptr<Client::Impl> client_;
    std::string request_;
    CallEvents events_;
    std::function<void(std::string_view)> on_part_ = [this](std::string_view part) {
        if (!std::exchange(has_head_, true) && events_.on_head) events_.on_head(reader_.head());
        if (!is_over_ && events_.on_body) events_.on_body(part);
    };
    ResponseReader reader_{longest_head};
    std::string rest_;  // of what came, not yet understood
    std::shared_ptr<Wire> wire_;
    std::shared_ptr<CallOnWire> kept_alive_by_;  // until it is over
    Loop::Timer timer_ = 0;
    std::size_t sent_ = 0;
    bool was_connected_ = false;
    bool has_answer_ = false;
    bool has_head_ = false;
    bool has_tried_again_ = false;
    bool is_paused_ = false;
    bool is_over_ = false;
};

void Wire::read() {
    if (is_reading || !socket.is_open()) return;
    is_reading = true;
    socket.async_read_some(asio::buffer(buffer),
                           [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                               self->is_reading = false;
                               if (const auto served = self->call.lock()) {
                                   if (error) return served->ended(error);
                                   return served->got({self->buffer.data(), count});
                               }
                               self->close();  // it ended while it rested, or said what nobody had asked for
                               if (const auto broken = std::exchange(self->when_broken, nullptr)) broken();
                           });
}

}  // namespace

void Client::Impl::rest(std::shared_ptr<Wire> wire) {
    wire->call.reset();
    if (is_closed || resting.size() >= setting.most_idle) return wire->close();
    wire->was_used = true;
    wire->rests_since_us = Loop::now_us();
    wire->when_broken = [self = weak_from_this(), raw = wire.get()] {
        if (const auto client = self.lock())
            client->resting.remove_if([&](const auto& each) { return each.get() == raw; });
    };
    const auto oldest_us = wire->rests_since_us - setting.idle_limit.count();
    while (!resting.empty() && resting.front()->rests_since_us < oldest_us) {
        resting.front()->when_broken = nullptr;
        resting.front()->close();
        resting.pop_front();
    }
    wire->read();
    resting.push_back(std::move(wire));
}

std::shared_ptr<Wire> Client::Impl::take_resting() {
    while (!resting.empty()) {
        auto wire = std::move(resting.back());
        resting.pop_back();
        wire->when_broken = nullptr;
        if (wire->socket.is_open()) return wire;
    }
    return nullptr;
}

Client::Client(Loop& loop, ClientSetting setting) : impl_{std::make_shared<Impl>(loop, std::move(setting))} {}

Client::~Client() {
    impl_->is_closed = true;
    for (const auto& wire : impl_->resting) {
        wire->when_broken = nullptr;
        wire->close();
    }
    impl_->resting.clear();
}

std::shared_ptr<Call> Client::start(std::string request, CallEvents events) {
    auto call = std::make_shared<CallOnWire>(impl_, std::move(request), std::move(events));
    // Not from here: what is told of it comes after this has returned.
    impl_->loop.post([call] { call->begin(); });
    return call;
}

const std::string& Client::host() const { return impl_->host; }

}  // namespace stargate::net
