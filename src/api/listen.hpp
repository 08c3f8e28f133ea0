#pragma once

#include <cstdint>
#include <string>

#include "base/posix.hpp"
#include "base/result.hpp"

namespace stargate::api {

/// A TCP socket that listens on this machine.
struct Listening {
    FileDescriptor socket;
    bool is_v6 = false;
    std::string address;  // `127.0.0.1:7433`
    std::uint16_t port = 0;
};

/// `127.0.0.1:7433`, `localhost:0`, `[::1]:0`; the kernel chooses a port for 0. Errors say what to do.
[[nodiscard]] Result<Listening> listen_on(const std::string& text);

}  // namespace stargate::api
