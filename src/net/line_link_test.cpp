#include "net/line_link.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "base/scratch_folder.hpp"

namespace stargate::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Lines : public ::testing::Test {
protected:
    struct Told {
        std::vector<std::string> lines;
        std::string closed;
    };
    static LineEvents into(Told& told) {
        return {[&told](std::string_view line) { told.lines.emplace_back(line); },
                [&told](const std::string& why) { told.closed = why; }};
    }
    void listen(LineLimits limits = {}) {
        auto server = LineServer::listen(
            loop_, path_,
            [this](std::unique_ptr<LineLink> link) {
                link->begin(into(there_));
                served_ = std::move(link);
            },
            limits);
        ASSERT_TRUE(server) << server.error().detail;
        server_ = std::move(*server);
    }
    void connect(LineLimits limits = {}) {
        auto link = LineLink::connect(loop_, path_, limits);
        ASSERT_TRUE(link) << link.error().detail;
        link_ = std::move(*link);
        link_->begin(into(here_));
        ASSERT_TRUE(until([&] { return served_ != nullptr; }));
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

    ScratchFolder folder_;
    std::string path_ = folder_ / "a.sock";
    Loop loop_;
    Told here_;
    Told there_;
    std::unique_ptr<LineServer> server_;
    std::unique_ptr<LineLink> served_;
    std::unique_ptr<LineLink> link_;
};

TEST_F(Lines, GoBothWaysInOrder) {
    listen();
    connect();
    for (int i = 0; i < 100; ++i) link_->send(std::to_string(i));
    served_->send("hello");
    ASSERT_TRUE(until([&] { return there_.lines.size() == 100 && here_.lines.size() == 1; }));
    EXPECT_EQ(there_.lines.front(), "0");
    EXPECT_EQ(there_.lines.back(), "99");
    EXPECT_EQ(here_.lines.front(), "hello");
}

TEST_F(Lines, ALongOneComesWhole) {
    listen();
    connect();
    const std::string longest((16U << 20) - 1, 'x');
    link_->send(longest);
    link_->send("after");
    ASSERT_TRUE(until([&] { return there_.lines.size() == 2; }));
    EXPECT_EQ(there_.lines.front(), longest);
    EXPECT_EQ(there_.lines.back(), "after");
}

TEST_F(Lines, OneBeyondTheLimitEndsTheLink) {
    listen({.longest_line = 10});
    connect();
    link_->send("0123456789");
    ASSERT_TRUE(until([&] { return there_.lines.size() == 1; }));
    link_->send("0123456789a");
    ASSERT_TRUE(until([&] { return !there_.closed.empty() && !here_.closed.empty(); }));
    EXPECT_EQ(there_.lines.size(), 1U);
    EXPECT_FALSE(link_->is_open());
}

TEST_F(Lines, WhoTakesNothingIsLetGo) {
    listen();
    auto link = LineLink::connect(loop_, path_, {.most_waiting = 1000});
    ASSERT_TRUE(link);
    link_ = std::move(*link);
    link_->begin(into(here_));
    for (int i = 0; i < 2000; ++i) link_->send(std::string(1000, 'x'));  // nobody turns the loop that would take it
    ASSERT_TRUE(until([&] { return !here_.closed.empty(); }));
}

TEST_F(Lines, TheOtherSidesEndIsToldOnceAndOnesOwnNot) {
    listen();
    connect();
    link_->close();
    link_->send("dropped");
    ASSERT_TRUE(until([&] { return !there_.closed.empty(); }));
    EXPECT_EQ(here_.closed, "");
    EXPECT_TRUE(there_.lines.empty());
}

TEST_F(Lines, ThePathIsTheOwnersAloneAndGoesWithTheServer) {
    listen();
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    server_.reset();
    const auto link = LineLink::connect(loop_, path_);
    ASSERT_FALSE(link);
    EXPECT_EQ(link.error().fault, Fault::not_found);
}

}  // namespace
}  // namespace stargate::net
