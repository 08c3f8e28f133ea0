#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "api/fake_control.hpp"
#include "api/json.hpp"
#include "api/server.hpp"
#include "base/scratch_folder.hpp"
#include "net/unix_socket.hpp"

/// What tests of the server share: a control plane in memory, the real server, and clients as bytes.
namespace stargate::api {

inline Account somebody() {
    Account account;
    account.uid = 65'534;
    account.gid = 65'534;
    account.groups = {65'534};
    account.name = "nobody";
    account.home = "/";
    return account;
}

/// One connection to the server, as bytes.
class Wire {
public:
    explicit Wire(FileDescriptor socket) : socket_{std::move(socket)} {}

    void send(std::string_view text) const {
        while (!text.empty()) {
            const auto sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    /// Waits for up to five seconds for more; false at the end of the connection.
    bool more() {
        pollfd ready{socket_.get(), POLLIN, 0};
        if (poll(&ready, 1, 5'000) != 1) return false;
        char bytes[64 << 10];
        const auto got = recv(socket_.get(), bytes, sizeof bytes, 0);
        ended_ = got <= 0;
        if (ended_) return false;
        in_.append(bytes, static_cast<std::size_t>(got));
        return true;
    }
    /// Everything up to and with `end`.
    std::string until(std::string_view end) {
        while (in_.find(end) == std::string::npos) {
            if (!more()) return std::exchange(in_, {}) + "<closed>";
        }
        const auto length = in_.find(end) + end.size();
        auto text = in_.substr(0, length);
        in_.erase(0, length);
        return text;
    }
    struct Got {
        int status = 0;
        std::string head, body;
        [[nodiscard]] Json json() const { return parse_json(body).value_or(Json{}); }
        [[nodiscard]] std::string code() const { return json()["error"]["code"].text; }
    };
    Got reply() {
        Got got;
        got.head = until("\r\n\r\n");
        if (got.head.size() > 12) got.status = std::atoi(got.head.c_str() + 9);
        if (got.head.find("Transfer-Encoding: chunked") != std::string::npos) {
            while (const auto size = std::strtoul(until("\r\n").c_str(), nullptr, 16)) {
                while (in_.size() < size + 2 && more()) {}
                got.body += in_.substr(0, size);
                in_.erase(0, size + 2);
            }
            until("\r\n");
            return got;
        }
        const auto length = got.head.find("Content-Length: ");
        if (length == std::string::npos) return got;
        const auto size = std::strtoul(got.head.c_str() + length + 16, nullptr, 10);
        while (in_.size() < size && more()) {}
        got.body = in_.substr(0, size);
        in_.erase(0, size);
        return got;
    }
    Got ask(std::string_view method, std::string_view target, std::string_view body = {},
            std::string_view more_head = {}) {
        send(text(method, target, body, more_head));
        return reply();
    }
    static std::string text(std::string_view method, std::string_view target, std::string_view body = {},
                            std::string_view more_head = {}) {
        std::string request{method};
        request += " ";
        request += target;
        request += " HTTP/1.1\r\nHost: localhost\r\n";
        request += more_head;
        request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
        return request.append(body);
    }
    /// Waits for its end, for up to five seconds.
    bool is_closed() {
        while (more()) {}
        return ended_;
    }

private:
    FileDescriptor socket_;
    std::string in_;
    bool ended_ = false;
};

class ServerTest : public testing::Test {
protected:
    void start(ServerSetting more = {}) {
        auto tokens = Tokens::open(folder_.path());
        ASSERT_TRUE(tokens) << tokens.error().detail;
        tokens_ = std::make_unique<Tokens>(std::move(*tokens));
        ApiSetting setting;
        setting.job_user = somebody();
        setting.version = "test";
        setting.state = folder_ / "state";
        api_ = std::make_unique<Api>(control_, *tokens_, setting);
        more.socket = folder_.path() + "/stargate.sock";
        auto server = Server::start(*api_, control_, more);
        ASSERT_TRUE(server) << server.error().detail;
        server_ = std::move(*server);
    }
    Wire wire() {
        auto socket = net::connect_to(folder_.path() + "/stargate.sock");
        EXPECT_TRUE(socket);
        return Wire{std::move(*socket)};
    }
    Wire tcp() const {
        FileDescriptor socket{::socket(AF_INET, SOCK_STREAM, 0)};
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(server_->port());
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
        return Wire{std::move(socket)};
    }
    std::string bearer() const {
        std::ifstream file{folder_.path() + "/token"};
        std::string token;
        file >> token;
        return "Authorization: Bearer " + token + "\r\n";
    }

    ScratchFolder folder_;
    FakeControl control_;
    std::unique_ptr<Tokens> tokens_;
    std::unique_ptr<Api> api_;
    std::unique_ptr<Server> server_;
};

const std::string command = R"({"argv":["true"],"folder":"/","name":"a"})";

}  // namespace stargate::api
