#include "net/server.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>

#include "net/client.hpp"

// Server and client against each other, and the server against whoever speaks by hand.
namespace stargate::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Http : public ::testing::Test {
protected:
    void listen(ServerSetting setting = {}) {
        if (!setting.serve) {
            setting.serve = [this](std::shared_ptr<Exchange> exchange) { held_.push_back(std::move(exchange)); };
        }
        auto server = Server::listen(loop_, std::move(setting));
        ASSERT_TRUE(server) << server.error().detail;
        server_ = std::move(*server);
        client_ = std::make_unique<Client>(loop_, ClientSetting{.port = server_->port()});
    }
    /// Turns the loop until that holds; false after five seconds.
    bool until(const std::function<bool()>& holds) {
        bool in_time = true;
        std::function<void()> look = [&] {
            if (holds()) return loop_.stop();
            loop_.after(milliseconds{1}, look);
        };
        const auto limit = loop_.after(seconds{5}, [&] {
            in_time = false;
            loop_.stop();
        });
        loop_.post(look);
        loop_.run();
        loop_.cancel(limit);
        loop_.restart();
        return in_time;
    }
    struct Told {
        int status = 0;
        std::string body;
        bool has_ended = false;
        std::optional<CallFailure> failure;
    };
    std::shared_ptr<Call> call(Told& told, const std::string& target = "/", const std::string& body = {}) {
        return client_->start(request_bytes("POST", target, client_->host(), {}, body),
                              {[&](const ResponseHead& head) { told.status = head.status; },
                               [&](std::string_view part) { told.body += part; }, [&] { told.has_ended = true; },
                               [&](const CallFailure& failure) { told.failure = failure; }});
    }
    /// A connection that speaks by hand.
    int dial() const {
        const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(server_->port());
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int begun = connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        EXPECT_TRUE(begun == 0 || errno == EINPROGRESS);
        return socket;
    }
    /// What has come by the time that its end, or `end`, has.
    std::string read_until(int socket, const std::string& end) {
        std::string got;
        until([&] {
            char bytes[4096];
            for (ssize_t count = 0; (count = recv(socket, bytes, sizeof bytes, 0)) >= 0;) {
                got.append(bytes, static_cast<std::size_t>(count));
                if (count == 0) return true;
            }
            return !end.empty() && got.find(end) != std::string::npos;
        });
        return got;
    }

    Loop loop_;
    std::unique_ptr<Server> server_;
    std::unique_ptr<Client> client_;
    std::deque<std::shared_ptr<Exchange>> held_;
};

TEST_F(Http, ARequestIsAnsweredOverAConnectionThatIsKept) {
    listen();
    for (int i = 0; i < 3; ++i) {
        Told told;
        const auto asked = call(told, "/a", "question");
        ASSERT_TRUE(until([&] { return !held_.empty(); }));
        EXPECT_EQ(held_.front()->body, "question");
        held_.front()->respond({200, "text/plain", {{"X-Id", "1"}}, "answer"});
        held_.clear();
        ASSERT_TRUE(until([&] { return told.has_ended; }));
        EXPECT_EQ(told.status, 200);
        EXPECT_EQ(told.body, "answer");
        EXPECT_EQ(server_->connections(), 1U);
    }
}

TEST_F(Http, AStreamComesAsItIsWritten) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    held_.front()->begin(200, {{"Content-Type", "text/event-stream"}});
    for (const auto* part : {"one", "two", "three"}) {
        held_.front()->write(part);
        ASSERT_TRUE(until([&] { return told.body.ends_with(part); }));
        EXPECT_FALSE(told.has_ended);
    }
    held_.front()->end();
    ASSERT_TRUE(until([&] { return told.has_ended; }));
    EXPECT_EQ(told.body, "onetwothree");
}

TEST_F(Http, AStreamThatIsCutIsToldFromOneThatEnded) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    held_.front()->begin(200, {});
    held_.front()->write("half");
    ASSERT_TRUE(until([&] { return told.body == "half"; }));
    held_.front()->abort();
    ASSERT_TRUE(until([&] { return told.failure.has_value(); }));
    EXPECT_TRUE(told.failure->had_response);
}

TEST_F(Http, AClientThatGoesIsNoticedAtOnce) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    bool has_gone = false;
    held_.front()->when_gone = [&] { has_gone = true; };
    asked->cancel();
    ASSERT_TRUE(until([&] { return has_gone; }));
    held_.front()->respond({});  // into the void
    EXPECT_FALSE(told.has_ended);
    EXPECT_FALSE(told.failure);
}

TEST_F(Http, ASlowReaderIsWaitedForAndAPausedCallBoundsWhatIsHeld) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return told.status == 0 && !held_.empty(); }));
    asked->pause();
    held_.front()->begin(200, {});
    const std::string piece(100'000, 'x');
    for (int i = 0; i < 200; ++i) held_.front()->write(piece);
    until([&] { return told.body.size() > 0; });
    EXPECT_GT(held_.front()->waiting(), 1'000'000U);
    EXPECT_LT(told.body.size(), 1'000'000U);
    bool was_taken = false;
    held_.front()->when_taken = [&] { was_taken = true; };
    asked->resume();
    ASSERT_TRUE(until([&] { return was_taken; }));
    held_.front()->end();
    ASSERT_TRUE(until([&] { return told.has_ended; }));
    EXPECT_EQ(told.body.size(), 200 * piece.size());
}

TEST_F(Http, AKeptConnectionThatDiedIsReplacedWithoutAWord) {
    listen();
    Told first;
    auto asked = call(first);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    held_.front()->respond({});
    held_.clear();
    ASSERT_TRUE(until([&] { return first.has_ended; }));
    Told second;
    asked = call(second);
    const auto port = server_->port();
    server_.reset();  // closes the connection that the call has been given, or is about to be
    ServerSetting again;
    again.port = port;
    again.serve = [](const std::shared_ptr<Exchange>& exchange) { exchange->respond({204, "text/plain", {}, ""}); };
    auto server = Server::listen(loop_, std::move(again));
    ASSERT_TRUE(server) << server.error().detail;
    server_ = std::move(*server);
    ASSERT_TRUE(until([&] { return second.has_ended; }));
    EXPECT_EQ(second.status, 204);
}

TEST_F(Http, NobodyThereIsAFailureThatReachedNobody) {
    listen();
    server_.reset();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return told.failure.has_value(); }));
    EXPECT_FALSE(told.failure->was_connected);
    EXPECT_NE(told.failure->why, "");
}

TEST_F(Http, PipelinedRequestsAreAnsweredInOrder) {
    ServerSetting setting;
    setting.serve = [](const std::shared_ptr<Exchange>& exchange) {
        exchange->respond({200, "text/plain", {}, exchange->head.target});
    };
    listen(std::move(setting));
    const int socket = dial();
    std::string wire;
    for (int i = 0; i < 50; ++i) wire += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
    ASSERT_TRUE(until([&] { return send(socket, wire.data(), wire.size(), MSG_NOSIGNAL) > 0; }));
    const auto got = read_until(socket, "/49");
    std::size_t at = 0;
    for (int i = 0; i < 50; ++i) {
        at = got.find("\r\n\r\n/" + std::to_string(i), at);
        ASSERT_NE(at, std::string::npos) << i << "\n" << got;
    }
    close(socket);
}

TEST_F(Http, WhoMayNotGoOnIsToldBeforeTheBody) {
    ServerSetting setting;
    setting.admit = [](const RequestHead& head) -> std::optional<Reply> {
        if (field(head.fields, "Authorization") == "Bearer right") return std::nullopt;
        return Reply{401, "text/plain", {}, "no key"};
    };
    setting.refusal = [](int status, const std::string& why) {
        return Reply{status, "text/plain", {}, "refused: " + why};
    };
    setting.longest_body = 100;
    listen(std::move(setting));
    for (const auto& [wire, expected] :
         {std::pair{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n", "no key"},
          std::pair{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n", "no key"},
          std::pair{"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer right\r\nContent-Length: 500\r\n\r\n",
                    "refused: the body is too large"},
          std::pair{"nonsense\r\n\r\n", "refused: not HTTP"}}) {
        const int socket = dial();
        const std::string sent = wire;
        ASSERT_TRUE(until([&] { return send(socket, sent.data(), sent.size(), MSG_NOSIGNAL) > 0; }));
        const auto got = read_until(socket, "");
        EXPECT_NE(got.find(expected), std::string::npos) << got;
        EXPECT_NE(got.find("Connection: close"), std::string::npos) << got;
        close(socket);
    }
    EXPECT_TRUE(held_.empty());
    EXPECT_TRUE(until([&] { return server_->connections() == 0; }));
}

TEST_F(Http, WhoSaysNothingMoreIsLetGo) {
    ServerSetting setting;
    setting.read_limit = milliseconds{100};
    listen(std::move(setting));
    const int socket = dial();
    const std::string half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf";
    ASSERT_TRUE(until([&] { return send(socket, half.data(), half.size(), MSG_NOSIGNAL) > 0; }));
    EXPECT_EQ(read_until(socket, ""), "");
    EXPECT_EQ(server_->connections(), 0U);
    close(socket);
}

/// Room for a hundred bytes, of all bodies together.
struct Hundred final : BodyRoom {
    explicit Hundred(std::size_t& of) : taken{of} {}
    ~Hundred() override { taken -= own; }
    Hundred(const Hundred&) = delete;
    Hundred& operator=(const Hundred&) = delete;
    bool grow_to(std::size_t bytes) override {
        if (bytes > own && taken - own + bytes > 100) return false;
        taken += bytes > own ? bytes - own : 0;
        own = std::max(own, bytes);
        return true;
    }
    std::size_t& taken;
    std::size_t own = 0;
};

TEST_F(Http, ABodyThatHasNoRoomIsRefusedAndNotRead) {
    std::size_t taken = 0;
    ServerSetting setting;
    setting.room = [&](const RequestHead&) { return std::make_unique<Hundred>(taken); };
    listen(std::move(setting));
    const auto say = [&](int socket, const std::string& text) {
        ASSERT_TRUE(until([&] { return send(socket, text.data(), text.size(), MSG_NOSIGNAL) > 0; }));
    };
    const int first = dial();
    say(first, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 80\r\n\r\n");
    EXPECT_NE(read_until(first, "\r\n\r\n").find("100 Continue"), std::string::npos);
    EXPECT_EQ(taken, 80U) << "for what is announced";
    const int second = dial();
    say(second, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 21\r\n\r\n");
    EXPECT_TRUE(read_until(second, "").starts_with("HTTP/1.1 503 "));
    const int chunked = dial();
    say(chunked, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n");
    ASSERT_TRUE(until([&] { return taken == 90; })) << "for what has come";
    say(chunked, "b\r\n0123456789a\r\n");
    EXPECT_TRUE(read_until(chunked, "").starts_with("HTTP/1.1 503 "));
    EXPECT_EQ(taken, 80U);
    Told whole;
    const auto asked = call(whole, "/", std::string(500, 'x'));
    ASSERT_TRUE(until([&] { return held_.size() == 1; })) << "what comes with its head needs none";
    say(first, std::string(80, 'y'));
    ASSERT_TRUE(until([&] { return held_.size() == 2; }));
    EXPECT_EQ(taken, 0U) << "it is read";
    for (const int socket : {first, second, chunked}) close(socket);
}

TEST_F(Http, WhoGoesAwayGivesItsRoomBack) {
    std::size_t taken = 0;
    ServerSetting setting;
    setting.room = [&](const RequestHead&) { return std::make_unique<Hundred>(taken); };
    listen(std::move(setting));
    const int socket = dial();
    const std::string half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf";
    ASSERT_TRUE(until([&] { return send(socket, half.data(), half.size(), MSG_NOSIGNAL) > 0; }));
    ASSERT_TRUE(until([&] { return taken == 50; }));
    close(socket);
    EXPECT_TRUE(until([&] { return taken == 0; }));
}

TEST_F(Http, AnExchangeThatIsDroppedEndsTheConnection) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    held_.clear();
    ASSERT_TRUE(until([&] { return told.failure.has_value(); }));
}

TEST_F(Http, ADrainingServerEndsWhatItHasAndTakesNothingNew) {
    listen();
    Told told;
    const auto asked = call(told);
    ASSERT_TRUE(until([&] { return !held_.empty(); }));
    server_->drain();
    EXPECT_EQ(server_->connections(), 1U);
    held_.front()->respond({200, "text/plain", {}, "last"});
    ASSERT_TRUE(until([&] { return told.has_ended; }));
    EXPECT_EQ(told.body, "last");
    EXPECT_TRUE(until([&] { return server_->connections() == 0; }));
}

}  // namespace
}  // namespace stargate::net
