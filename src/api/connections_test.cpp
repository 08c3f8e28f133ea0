#include <filesystem>

#include "api/server_testing.hpp"

// Who may have which connections for how long, and what a connection shows of its end.
namespace stargate::api {
namespace {

ServerSetting over_tcp() {
    ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    return setting;
}

TEST_F(ServerTest, WhoShowsNoTokenKeepsNobodyOut) {
    auto setting = over_tcp();
    setting.places.unknown = 2;
    start(setting);
    std::vector<Wire> silent;
    for (int i = 0; i < 20; ++i) silent.push_back(tcp());
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, bearer()).status, 200);
    EXPECT_EQ(wire().ask("GET", "/healthz").status, 200);
    EXPECT_TRUE(silent.front().is_closed());  // the oldest made room
}

TEST_F(ServerTest, WhoShowsNoTokenIsLetGoSoon) {
    auto setting = over_tcp();
    setting.unknown_timeout = std::chrono::milliseconds{100};
    start(setting);
    auto silent = tcp();
    auto known = tcp();
    EXPECT_EQ(known.ask("GET", "/api/v1/whoami", {}, bearer()).status, 200);
    EXPECT_TRUE(silent.is_closed());
    EXPECT_EQ(known.ask("GET", "/api/v1/whoami", {}, bearer()).status, 200);  // who has shown one may idle
}

TEST_F(ServerTest, TcpTakesNoPlaceOfTheUnixSocket) {
    auto setting = over_tcp();
    setting.places.tcp = 1;
    start(setting);
    auto first = tcp();
    auto second = tcp();
    EXPECT_EQ(first.ask("GET", "/api/v1/whoami", {}, bearer()).status, 200);
    EXPECT_EQ(second.ask("GET", "/api/v1/whoami", {}, bearer()).status, 503);
    EXPECT_EQ(wire().ask("GET", "/api/v1/whoami").status, 200);
}

TEST(Places, OnePersonCannotTakeAllAndOperatorsFindOne) {
    Places places{{.unix_socket = 10, .tcp = 10, .unknown = 1, .of_one_user = 2, .for_operators = 4}};
    const Caller ada{1000, false, true};
    const Caller root{0, true, true};
    EXPECT_TRUE(places.take(ada) && places.take(ada));
    EXPECT_FALSE(places.take(ada));
    EXPECT_TRUE(places.take({1001, false, true}) && places.take({1001, false, true}));
    EXPECT_TRUE(places.take({1002, false, true}) && places.take({1002, false, true}));
    EXPECT_FALSE(places.take({1003, false, true}));                            // the last four are for operators
    EXPECT_TRUE(places.take(root) && places.take(root) && places.take(root));  // operators are not counted
    for (int i = 0; i < 3; ++i) places.leave(root);
    places.leave(ada);
    EXPECT_TRUE(places.take(ada));
}

TEST_F(ServerTest, HostsOfThisMachineAreKnownWithTheirPorts) {
    start(over_tcp());
    const auto asked = [&](const std::string& host) {
        auto w = tcp();
        w.send("GET /healthz HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
        return w.reply().status;
    };
    for (const auto* host : {"[::1]:7433", "[::1]", "127.0.0.1:7433", "127.0.0.1", "localhost:1", "localhost"}) {
        EXPECT_EQ(asked(host), 200) << host;
    }
    for (const auto* host : {"[::2]:7433", "127.evil.example", "evil.example:7433", "::1", "[::1", ""}) {
        EXPECT_EQ(asked(host), 403) << host;
    }
}

TEST_F(ServerTest, AFieldThatDecidesMayComeOnce) {
    start(over_tcp());
    auto w = tcp();
    w.send("GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n" + bearer() + "\r\n");
    EXPECT_EQ(w.reply().status, 400);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/jobs", {}, bearer() + "Authorization: Bearer x\r\n").status, 400);
}

TEST_F(ServerTest, NoSocketGoesOnToPrograms) {
    start(over_tcp());
    auto unix_client = wire();
    auto tcp_client = tcp();
    EXPECT_EQ(unix_client.ask("GET", "/healthz").status, 200);
    EXPECT_EQ(tcp_client.ask("GET", "/healthz").status, 200);
    int sockets = 0;
    for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        const int descriptor = std::atoi(entry.path().filename().c_str());
        struct stat found {};
        if (fstat(descriptor, &found) != 0 || !S_ISSOCK(found.st_mode)) continue;
        int is_listening = 0;
        socklen_t size = sizeof is_listening;
        sockaddr_storage name{};
        socklen_t length = sizeof name;
        getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size);
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&name), &length);
        const bool is_clients = length <= sizeof(sa_family_t) && is_listening == 0;  // ours of this test, unnamed
        if (is_clients || (name.ss_family == AF_INET && is_listening == 0 &&
                           ntohs(reinterpret_cast<sockaddr_in&>(name).sin_port) != server_->port())) {
            continue;
        }
        ++sockets;
        EXPECT_NE(fcntl(descriptor, F_GETFD) & FD_CLOEXEC, 0) << descriptor;
    }
    EXPECT_EQ(sockets, 4);  // two that listen, two that were accepted
}

TEST_F(ServerTest, WhoLeftAStreamIsNoticed) {
    ServerSetting setting;
    setting.heartbeat = std::chrono::milliseconds{50};
    start(setting);
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    {
        auto follower = wire();  // plain text has no heartbeat of its own
        follower.send(Wire::text("GET", "/api/v1/jobs/a/logs?follow=1"));
        follower.until("\r\n\r\n");
    }
    const auto open = [&] {
        const auto text = w.ask("GET", "/metrics").body;
        return std::atoi(text.c_str() + text.find("\nstargate_http_connections ") + 27);
    };
    for (int i = 0; i < 100 && open() > 1; ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    EXPECT_EQ(open(), 1);
}

TEST_F(ServerTest, AStreamThatCannotBeReadHasNoEnd) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", command);
    control_.report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
    control_.print(AttemptId{1}, "first\n");
    control_.output_is_broken = true;
    auto logs = wire();
    logs.send(Wire::text("GET", "/api/v1/jobs/1/logs"));
    logs.until("\r\n\r\n");
    EXPECT_EQ(logs.until("0\r\n\r\n"), "<closed>");
    auto events = wire();
    control_.log_is_broken = true;
    events.send(Wire::text("GET", "/api/v1/events?follow=1"));
    events.until("\r\n\r\n");
    EXPECT_EQ(events.until("0\r\n\r\n"), "<closed>");
}

TEST_F(ServerTest, ARefusedBodyIsAnsweredThoughAllOfItComes) {
    start(over_tcp());
    auto w = tcp();
    const auto got = w.ask("POST", "/api/v1/jobs", std::string(3U << 20, 'x'), bearer());
    EXPECT_EQ(got.status, 413);
}

TEST_F(ServerTest, ARevokedTokenOpensNothingAndEndsWhatItOpened) {
    auto setting = over_tcp();
    setting.heartbeat = std::chrono::milliseconds{20};
    start(setting);
    auto w = wire();
    const auto made = w.ask("POST", "/api/v1/tokens", R"({"name":"ci","uid":1234})");
    const auto mine = "Authorization: Bearer " + made.json()["token"].text + "\r\n";
    const auto listed = w.ask("GET", "/api/v1/tokens").json();
    ASSERT_EQ(listed.items.size(), 1U);
    EXPECT_EQ(listed.items[0]["name"].text, "ci");
    EXPECT_EQ(listed.items[0]["uid"].whole, 1234);
    auto stream = tcp();
    stream.send(Wire::text("GET", "/api/v1/events?follow=1", {}, mine));
    EXPECT_NE(stream.until("took_office").find("200 OK"), std::string::npos);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/tokens", {}, mine).status, 403);
    EXPECT_EQ(tcp().ask("DELETE", "/api/v1/tokens/" + listed.items[0]["id"].text, {}, mine).status, 403);
    EXPECT_EQ(w.ask("DELETE", "/api/v1/tokens/" + listed.items[0]["id"].text).status, 200);
    EXPECT_EQ(tcp().ask("GET", "/api/v1/whoami", {}, mine).status, 401);
    EXPECT_TRUE(stream.is_closed());
    EXPECT_EQ(w.ask("GET", "/api/v1/tokens").body, "[]\n");
    EXPECT_EQ(w.ask("DELETE", "/api/v1/tokens/nothing").status, 404);
    EXPECT_FALSE(Tokens::open(folder_.path())->caller_of(made.json()["token"].text));  // nor after a restart
}

}  // namespace
}  // namespace stargate::api
