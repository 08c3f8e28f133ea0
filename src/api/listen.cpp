#include "api/listen.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace stargate::api {

namespace asio = boost::asio;

Result<Listening> listen_on(const std::string& text) {
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
    boost::system::error_code error;
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
    Listening listening;
    listening.socket =
        FileDescriptor{::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const int socket = listening.socket.get();
    const int on = 1;
    asio::ip::tcp::endpoint bound;
    auto size = static_cast<socklen_t>(bound.capacity());
    if (!listening.socket || setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(socket, endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
        ::listen(socket, SOMAXCONN) != 0 || getsockname(socket, bound.data(), &size) != 0) {
        return fail(Fault::conflict, fmt::format("--listen {}: {}; choose another port, or end what uses it", text,
                                                 std::strerror(errno)));
    }
    listening.is_v6 = address.is_v6();
    listening.port = bound.port();
    listening.address =
        fmt::format("{}:{}", listening.is_v6 ? "[" + address.to_string() + "]" : address.to_string(), listening.port);
    return listening;
}

}  // namespace stargate::api
