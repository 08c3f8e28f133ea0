#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "net/server.hpp"
#include "work/service.hpp"

namespace stargate::steward {

/// A server that answers each path with the status that the test wants, 404 where it wants none, and goes and comes
/// back at the same port.
class FakeServer {
public:
    explicit FakeServer(net::Loop& loop) : loop_{loop} { start(); }
    void start() {
        net::ServerSetting setting;
        setting.port = port_;
        setting.refusal = [](int status, const std::string&) { return net::Reply{status, "text/plain", {}, ""}; };
        setting.serve = [this](const std::shared_ptr<net::Exchange>& exchange) {
            asked.push_back(exchange->head.method + " " + exchange->head.target);
            const auto known = answers.find(exchange->head.target);
            held_.push_back(exchange);
            if (!hangs) exchange->respond({known == answers.end() ? 404 : known->second, "text/plain", {}, ""});
        };
        server_ = std::move(*net::Server::listen(loop_, std::move(setting)));
        port_ = static_cast<std::uint16_t>(server_->port());
    }
    void stop() {
        held_.clear();
        server_.reset();
    }
    [[nodiscard]] int port() const { return port_; }
    [[nodiscard]] Endpoint endpoint() const { return {"127.0.0.1", port_}; }

    std::map<std::string, int> answers;
    std::vector<std::string> asked;
    bool hangs = false;

private:
    net::Loop& loop_;
    std::uint16_t port_ = 0;
    std::vector<std::shared_ptr<net::Exchange>> held_;
    std::unique_ptr<net::Server> server_;
};

}  // namespace stargate::steward
