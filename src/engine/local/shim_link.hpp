#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"

namespace stargate::local {

/// The engine's end of the link to one shim. Never blocks.
class ShimLink {
public:
    ShimLink() = default;
    explicit ShimLink(Fd socket) : socket_{std::move(socket)} {}

    [[nodiscard]] bool is_open() const { return static_cast<bool>(socket_); }
    [[nodiscard]] int descriptor() const { return socket_.get(); }
    /// Sends what the socket takes and keeps the rest.
    void send(const Order& order);
    void send_rest();
    [[nodiscard]] bool has_rest() const { return !rest_.empty(); }
    /// What has come. Closes the link at its end or at nonsense.
    [[nodiscard]] std::vector<Answer> receive();
    void close() { socket_.reset(); }

private:
    Fd socket_;
    FrameReader reader_;
    std::string rest_;
};

}  // namespace stargate::local
