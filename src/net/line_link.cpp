#include "net/line_link.hpp"

#include <unistd.h>

#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <utility>

#include "net/loop_impl.hpp"
#include "net/unix_socket.hpp"

namespace stargate::net {

namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

constexpr std::size_t read_size = 16U << 10;

}  // namespace

struct LineLink::Impl : std::enable_shared_from_this<LineLink::Impl> {
    Impl(Loop& on, stream_protocol::socket with, LineLimits within)
        : loop{on}, socket{std::move(with)}, limits{within} {
        ErrorCode ignored;
        socket.non_blocking(true, ignored);
    }

    void read() {
        socket.async_read_some(asio::buffer(buffer),
                               [self = shared_from_this()](const ErrorCode& error, std::size_t count) {
                                   if (!self->is_open) return;
                                   if (error)
                                       return self->end(error == asio::error::eof ? "it ended" : error.message());
                                   self->took({self->buffer.data(), count});
                                   if (self->is_open) self->read();
                               });
    }
    void took(std::string_view bytes) {
        auto looked = in.size();  // there is no end of a line before that
        in.append(bytes);
        std::size_t begin = 0;
        for (auto end = in.find('\n', looked); end != std::string::npos; end = in.find('\n', looked)) {
            const auto line = std::string_view{in}.substr(begin, end - begin);
            if (line.size() > limits.longest_line) return end_with_long_line();
            events.on_line(line);
            if (!is_open) return;
            begin = looked = end + 1;
        }
        in.erase(0, begin);
        if (in.size() > limits.longest_line) return end_with_long_line();
        if (in.empty() && in.capacity() > read_size) in = {};
    }
    void end_with_long_line() { end("a line of it is too long"); }

    void send(std::string_view line) {
        if (!is_open) return;
        out.append(line);
        out.push_back('\n');
        if (!is_writing) write_now();
        if (out.size() - sent <= limits.most_waiting || !is_open) return;
        // Told later: whoever sends is in the middle of something.
        loop.post([self = shared_from_this()] { self->end("it takes nothing"); });
    }
    void write_now() {
        ErrorCode error;
        sent += socket.write_some(asio::buffer(out.data() + sent, out.size() - sent), error);
        if (error && error != asio::error::would_block) return;  // reading tells
        if (sent < out.size()) {
            if (sent > read_size) out.erase(0, std::exchange(sent, 0));
            return wait_to_write();
        }
        out.clear();
        sent = 0;
    }
    void wait_to_write() {
        is_writing = true;
        socket.async_wait(stream_protocol::socket::wait_write, [self = shared_from_this()](const ErrorCode& error) {
            self->is_writing = false;
            if (error || !self->is_open) return;
            self->write_now();
        });
    }

    void end(const std::string& why) {
        if (!is_open) return;
        close();
        if (const auto told = std::exchange(on_closed, nullptr)) told(why);
    }
    void close() {
        if (!std::exchange(is_open, false)) return;
        ErrorCode ignored;
        socket.close(ignored);
        // One of them may be running.
        loop.post([self = shared_from_this()] { self->events = {}; });
    }

    Loop& loop;
    stream_protocol::socket socket;
    LineLimits limits;
    LineEvents events;
    std::function<void(const std::string&)> on_closed;
    std::array<char, read_size> buffer;
    std::string in;   // the beginning of a line
    std::string out;  // to be written, from `sent` on
    std::size_t sent = 0;
    bool is_writing = false;
    bool is_open = true;
};

LineLink::LineLink(std::shared_ptr<Impl> impl) : impl_{std::move(impl)} {}
LineLink::~LineLink() { impl_->close(); }

Result<std::unique_ptr<LineLink>> LineLink::connect(Loop& loop, const std::string& path, LineLimits limits) {
    auto connected = connect_to(path);
    if (!connected) return tl::unexpected(connected.error());
    ErrorCode error;
    stream_protocol::socket socket{loop.impl().io};
    socket.assign(stream_protocol{}, connected->release(), error);
    if (error) return fail(Fault::unavailable, "cannot use the socket of " + path + ": " + error.message());
    return std::make_unique<LineLink>(std::make_shared<Impl>(loop, std::move(socket), limits));
}

void LineLink::begin(LineEvents events) {
    impl_->on_closed = std::move(events.on_closed);
    impl_->events = std::move(events);
    impl_->read();
}
void LineLink::send(std::string_view line) { impl_->send(line); }
void LineLink::close() { impl_->close(); }
bool LineLink::is_open() const { return impl_->is_open; }

struct LineServer::Impl : std::enable_shared_from_this<LineServer::Impl> {
    Impl(Loop& on, std::string at, std::function<void(std::unique_ptr<LineLink>)> told, LineLimits within)
        : loop{on}, path{std::move(at)}, on_link{std::move(told)}, limits{within}, acceptor{on.impl().io} {}

    void accept() {
        acceptor.async_accept([self = shared_from_this()](const ErrorCode& error, stream_protocol::socket socket) {
            if (!self->acceptor.is_open()) return;
            if (error) {  // no descriptor is left, for one
                constexpr Duration pause = std::chrono::milliseconds{50};
                self->loop.after(pause, [self] {
                    if (self->acceptor.is_open()) self->accept();
                });
                return;
            }
            self->on_link(std::make_unique<LineLink>(
                std::make_shared<LineLink::Impl>(self->loop, std::move(socket), self->limits)));
            if (self->acceptor.is_open()) self->accept();
        });
    }

    Loop& loop;
    std::string path;
    std::function<void(std::unique_ptr<LineLink>)> on_link;
    LineLimits limits;
    stream_protocol::acceptor acceptor;
};

LineServer::LineServer(std::shared_ptr<Impl> impl) : impl_{std::move(impl)} {}

LineServer::~LineServer() {
    ErrorCode ignored;
    impl_->acceptor.close(ignored);
    ::unlink(impl_->path.c_str());
}

Result<std::unique_ptr<LineServer>> LineServer::listen(Loop& loop, const std::string& path,
                                                       std::function<void(std::unique_ptr<LineLink>)> on_link,
                                                       LineLimits limits) {
    auto listening = listen_at(path, 0600);
    if (!listening) return tl::unexpected(listening.error());
    auto impl = std::make_shared<Impl>(loop, path, std::move(on_link), limits);
    ErrorCode error;
    impl->acceptor.assign(stream_protocol{}, listening->release(), error);
    if (error) return fail(Fault::unavailable, "cannot listen at " + path + ": " + error.message());
    impl->accept();
    return std::make_unique<LineServer>(std::move(impl));
}

}  // namespace stargate::net
