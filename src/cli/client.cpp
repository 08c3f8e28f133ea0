#include "cli/client.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstring>

#include "api/frame.hpp"
#include "base/posix.hpp"
#include "base/spelling.hpp"

namespace stargate::cli {

namespace http = boost::beast::http;

namespace {

Error nobody_answers(const std::string& state) {
    return {Fault::unavailable, fmt::format("no control plane answers at {}/stargate.sock; start it with: stargate up "
                                            "--detach --state {}",
                                            state, shell_word(state))};
}

/// What errno says of a connection that could not be made.
Error not_connected(const std::string& state) {
    if (errno == EACCES || errno == EPERM) {
        return {Fault::denied, fmt::format("the control plane at {} belongs to another user; ask for its socket "
                                           "or start your own with: stargate up --detach",
                                           state)};
    }
    if (errno == EMFILE || errno == ENFILE) {
        return {Fault::unavailable, fmt::format("cannot ask the control plane at {}: {}; raise the limit: ulimit -n",
                                                state, std::strerror(errno))};
    }
    return nobody_answers(state);
}

/// A unix socket as Beast's synchronous algorithms want one: no Asio context, no threads.
class Stream {
public:
    explicit Stream(FileDescriptor socket) : socket_{std::move(socket)} {}
    template <class Buffers>
    std::size_t read_some(const Buffers& buffers, boost::system::error_code& failed) {
        const boost::asio::mutable_buffer first = *boost::asio::buffer_sequence_begin(buffers);
        ssize_t got = 0;
        do { got = ::recv(socket_.get(), first.data(), first.size(), 0); } while (got < 0 && errno == EINTR);
        if (got > 0) return static_cast<std::size_t>(got);
        failed = got == 0 ? boost::asio::error::make_error_code(boost::asio::error::eof)
                          : boost::system::error_code{errno, boost::system::system_category()};
        return 0;
    }
    template <class Buffers>
    std::size_t read_some(const Buffers& buffers) {
        boost::system::error_code failed;
        const auto got = read_some(buffers, failed);
        if (failed) throw boost::system::system_error{failed};
        return got;
    }
    bool write_all(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }

private:
    FileDescriptor socket_;
};

/// A folder deep down has a longer path than a socket address holds: go through its descriptor then.
Result<FileDescriptor> connect_to(const std::string& state, std::chrono::seconds patience) {
    const FileDescriptor folder{::open(state.c_str(), O_PATH | O_CLOEXEC | O_DIRECTORY)};
    if (!folder) return tl::unexpected(not_connected(state));
    FileDescriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!socket) return tl::unexpected(not_connected(state));
    const timeval longest{.tv_sec = patience.count(), .tv_usec = 0};  // 0: for ever
    for (const int direction : {SO_RCVTIMEO, SO_SNDTIMEO}) {          // connecting counts as sending
        ::setsockopt(socket.get(), SOL_SOCKET, direction, &longest, sizeof longest);
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = fmt::format("/proc/self/fd/{}/stargate.sock", folder.get());
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return tl::unexpected(not_connected(state));
    }
    return socket;
}

std::string request_text(std::string_view method, const std::string& target, const std::string& body,
                         const Client::Headers& headers) {
    auto text = fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", method, target, body.size());
    for (const auto& [name, value] : headers) text += fmt::format("{}: {}\r\n", name, value);
    return text + "\r\n" + body;
}

}  // namespace

Result<HttpReply> Client::call(std::string_view method, const std::string& target, const std::string& body,
                               const Headers& headers) {
    std::string whole;
    auto reply = stream(method, target, body, headers, [&](std::string_view piece) {
        whole += piece;
        return true;
    });
    if (reply && reply->body.empty()) reply->body = std::move(whole);
    return reply;
}

Result<HttpReply> Client::stream(std::string_view method, const std::string& target, const std::string& body,
                                 const Headers& headers, const Sink& sink) {
    auto socket = connect_to(state_, patience_);
    if (!socket) return tl::unexpected(socket.error());
    Stream connection{std::move(*socket)};
    const auto broke_off = [&] {
        return Error{Fault::unknown_outcome,
                     fmt::format("the connection to the control plane at {} ended before the reply was whole; see "
                                 "whether it is up: stargate doctor --state {}",
                                 state_, shell_word(state_))};
    };
    if (body.size() > api::max_body_bytes) {
        return fail(Fault::malformed,
                    fmt::format("the request is {:.1f} MiB and 1 MiB is the most: the command, the job file and the "
                                "environment together; pass large input in a file",
                                static_cast<double>(body.size()) / static_cast<double>(1 << 20)));
    }
    // Whoever refuses a request may close before all of it is sent: what it says of that is to be read all the same.
    (void)connection.write_all(request_text(method, target, body, headers));
    boost::beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    boost::system::error_code failed;
    http::read_header(connection, buffer, parser, failed);
    if (failed) return tl::unexpected(broke_off());
    HttpReply reply;
    reply.status = static_cast<int>(parser.get().result_int());
    const bool is_error = reply.status >= 300;
    std::vector<char> piece(64U << 10);
    while (!parser.is_done()) {
        parser.get().body().data = piece.data();
        parser.get().body().size = piece.size();
        http::read_some(connection, buffer, parser, failed);
        if (failed == http::error::need_buffer) failed = {};
        const std::string_view got{piece.data(), piece.size() - parser.get().body().size};
        if (is_error) {
            reply.body += got;
        } else if (!got.empty() && !sink(got)) {
            return reply;
        }
        if (failed) return tl::unexpected(broke_off());
    }
    return reply;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                           c == '_' || c == '.' || c == '~';
        if (plain) {
            out.push_back(c);
        } else {
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        }
    }
    return out;
}

}  // namespace stargate::cli
