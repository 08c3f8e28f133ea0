#include "free_address.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "base/posix.hpp"

namespace stargate {

Result<void> check_address_is_free(const std::string& listen) {
    const auto colon = listen.rfind(':');
    if (colon == std::string::npos) return {};
    auto host = listen.substr(0, colon);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICSERV | AI_PASSIVE;
    addrinfo* resolved = nullptr;
    if (::getaddrinfo(host.c_str(), listen.c_str() + colon + 1, &wanted, &resolved) != 0) return {};
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> address{resolved, ::freeaddrinfo};
    const FileDescriptor probe{::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const int on = 1;  // as the server does: connections that have ended lately are in nobody's way
    ::setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(probe.get(), address->ai_addr, address->ai_addrlen) == 0 || errno != EADDRINUSE) return {};
    return fail(Fault::conflict,
                fmt::format("--listen {}: it is in use by another program; choose another port, or end "
                            "what uses it",
                            listen));
}

}  // namespace stargate
