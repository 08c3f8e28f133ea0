#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "api/places.hpp"
#include "api/routes.hpp"
#include "base/result.hpp"

namespace stargate::api {

struct ServerSetting {
    std::string socket;  // path of the unix socket; anybody may connect when we are root, else only we
    std::string listen;  // `127.0.0.1:7433`, `[::1]:0`; empty: no TCP
    PlaceLimits places;
    /// Bytes of bodies that are not worked off, and of replies that clients do not take.
    BudgetLimits bytes{256U << 20, 64U << 20, 32U << 20};
    std::chrono::milliseconds head_timeout{60'000};       // to send a whole request head; also how long one may idle
    std::chrono::milliseconds unknown_timeout{5'000};     // the same over TCP, until a token was seen
    std::chrono::milliseconds body_timeout{30'000};       // to send its body
    std::chrono::milliseconds write_timeout{30'000};      // to take a reply
    std::chrono::milliseconds stream_timeout{3'600'000};  // to take a piece of a stream: people page through output
    std::chrono::milliseconds heartbeat{15'000};          // of a stream that has nothing to say
};

/// HTTP/1.1 for Api, on one thread of its own. The unix socket tells who asks; over TCP a token does, and only this
/// machine is listened to.
class Server {
public:
    /// Listens and serves from now on. A socket that a dead control plane left is replaced: the caller holds the lock
    /// of the state folder. Errors say what to do.
    [[nodiscard]] static Result<std::unique_ptr<Server>> start(Api& api, Control& control, ServerSetting setting);
    virtual ~Server() = default;  // lets replies under way go out (for half a second), then closes everything

    /// Where TCP is listened on, with the port that the kernel chose for `:0`; 0 when it is not.
    [[nodiscard]] virtual std::uint16_t port() const = 0;
    /// The same as `127.0.0.1:7433`; empty when TCP is not listened on.
    [[nodiscard]] virtual std::string address() const = 0;

protected:
    Server() = default;
};

}  // namespace stargate::api
