#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/loop.hpp"
#include "net/message.hpp"

namespace stargate::net {

/// How a call failed.
struct CallFailure {
    std::string why;             // "connection refused"
    bool had_response = false;   // something of a response had come
    bool was_connected = false;  // it may have reached the server
};

/// What is told of a call, on the loop's thread; nothing after on_end or on_failure, or after cancel().
struct CallEvents {
    std::function<void(const ResponseHead&)> on_head;
    std::function<void(std::string_view)> on_body;
    std::function<void()> on_end;
    std::function<void(const CallFailure&)> on_failure;
};

/// One request that is under way.
class Call {
public:
    virtual ~Call() = default;
    /// Nothing more is told, and the server sees its connection end at once.
    virtual void cancel() = 0;
    /// Reads no more until resume(): for whoever cannot hand on what comes.
    virtual void pause() = 0;
    virtual void resume() = 0;
};

struct ClientSetting {
    std::string host = "127.0.0.1";  // a name or a numeric address
    std::uint16_t port = 80;
    Duration connect_limit = std::chrono::seconds{5};
    Duration idle_limit = std::chrono::seconds{60};  // a connection that rests longer is closed
    std::size_t most_idle = 64;
};

/// Requests to one server over connections that are kept. A request over a kept connection that turns out to be dead,
/// with nothing of a response, is sent once more over a new one.
class Client {
public:
    Client(Loop& loop, ClientSetting setting);
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    /// Calls under way go on.
    ~Client();

    /// request  the whole of it for the wire, see request_bytes()
    std::shared_ptr<Call> start(std::string request, CallEvents events);
    /// Host and port as the field Host has them.
    [[nodiscard]] const std::string& host() const;

    struct Impl;

private:
    std::shared_ptr<Impl> impl_;
};

}  // namespace stargate::net
