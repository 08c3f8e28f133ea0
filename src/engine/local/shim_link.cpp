#include "engine/local/shim_link.hpp"

#include <sys/socket.h>

namespace stargate::local {

void ShimLink::send(const Order& order) {
    rest_ += frame(encode(order));
    send_rest();
}

void ShimLink::send_rest() {
    while (socket_ && !rest_.empty()) {
        const auto sent = ::send(socket_.get(), rest_.data(), rest_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return;  // full: epoll tells when there is room; dead: reading tells
        rest_.erase(0, static_cast<std::size_t>(sent));
    }
}

std::vector<Answer> ShimLink::receive() {
    std::vector<Answer> answers;
    while (socket_) {
        char bytes[4096];
        const auto got = recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            socket_.reset();
            break;
        }
        reader_.append({bytes, static_cast<std::size_t>(got)});
        while (const auto payload = reader_.next()) {
            auto answer = decode<Answer>(*payload);
            if (answer) answers.push_back(std::move(*answer));
        }
        if (reader_.is_broken()) socket_.reset();
        if (static_cast<std::size_t>(got) < sizeof bytes) break;  // level-triggered: the end is told again
    }
    return answers;
}

}  // namespace stargate::local
