#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "net/loop.hpp"
#include "net/message.hpp"

namespace stargate::net {

/// A whole reply. Content-Length is added.
struct Reply {
    int status = 200;
    std::string type = "application/json";
    Fields fields;
    std::string body;
};

/// One request at a server, and the way to answer it: with respond(), or with begin(), write() and end(). On the loop's
/// thread. Whoever holds it may answer as late as it likes; what is said after the end, or when the client has gone, is
/// dropped.
class Exchange {
public:
    virtual ~Exchange() = default;

    RequestHead head;
    std::string body;

    virtual void respond(const Reply& reply) = 0;
    /// Begins a reply whose length is not known, and sends its head.
    virtual void begin(int status, const Fields& fields) = 0;
    virtual void write(std::string_view bytes) = 0;
    virtual void end() = 0;
    /// Ends the connection where it is: the client sees that the reply is not whole.
    virtual void abort() = 0;
    /// What the client has not taken yet, in bytes. Whoever writes should rest while it is large.
    [[nodiscard]] virtual std::size_t waiting() const = 0;
    /// Called once when the client has gone before the end; at most one may be set.
    std::function<void()> when_gone;
    /// Called whenever all that was waiting has been taken.
    std::function<void()> when_taken;
};

/// Memory for one request's body while it is read; given back when this goes.
class BodyRoom {
public:
    virtual ~BodyRoom() = default;
    /// For so many bytes in all. False: there is not so much.
    [[nodiscard]] virtual bool grow_to(std::size_t bytes) = 0;
};

struct ServerSetting {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any
    std::size_t longest_head = 32U << 10;
    std::size_t longest_body = 1U << 20;
    std::size_t most_connections = 10'000;            // more wait in the kernel's queue
    Duration idle_limit = std::chrono::seconds{75};   // between two requests
    Duration read_limit = std::chrono::seconds{30};   // for a request, while none of it comes
    Duration write_limit = std::chrono::seconds{60};  // for a reply, while none of it is taken
    /// Whether to go on, told when the head is there; else the reply, and the body is never read.
    std::function<std::optional<Reply>(const RequestHead&)> admit;
    /// Room for a body that is not here with its head: for all that is announced, or for what has come of it.
    std::function<std::unique_ptr<BodyRoom>(const RequestHead&)> room;
    /// What every refusal of the server itself (no HTTP, too large, 503: no room) looks like.
    std::function<Reply(int status, const std::string& why)> refusal;
    std::function<void(std::shared_ptr<Exchange>)> serve;
};

/// An HTTP/1.1 server on a loop: keep-alive, one request after the other on each connection, bounded everywhere.
class Server {
public:
    /// Listens at once; unavailable says what is in the way.
    [[nodiscard]] static Result<std::unique_ptr<Server>> listen(Loop& loop, ServerSetting setting);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    /// Closes all connections.
    ~Server();

    [[nodiscard]] std::uint16_t port() const;
    [[nodiscard]] std::size_t connections() const;
    /// Takes no more connections; those that are there end with their next reply.
    void drain();

    struct Impl;

private:
    explicit Server(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace stargate::net
