#include "api/follow.hpp"
#include "api/job_list.hpp"
#include "api/server_testing.hpp"
#include "api/turns.hpp"

// What one user can take of the server, so that there is some for others: bytes, and its thread.
namespace stargate::api {
namespace {

const Caller ada{1001, false, true}, ben{1002, false, true}, root{0, true, true};

TEST(Budget, OneUserHasAPartAndOperatorsHaveTheLast) {
    Budget budget{{.whole = 100, .of_one_user = 50, .for_operators = 20}};
    EXPECT_FALSE(budget.take(ada, 51));
    EXPECT_TRUE(budget.take(ada, 50));
    EXPECT_FALSE(budget.take(ada, 1));
    EXPECT_FALSE(budget.take(ben, 31));
    EXPECT_TRUE(budget.take(ben, 30));
    EXPECT_FALSE(budget.take({1003, false, true}, 1));
    EXPECT_TRUE(budget.take(root, 20));
    EXPECT_FALSE(budget.take(root, 1));
    budget.give_back(ada, 50);
    EXPECT_TRUE(budget.take(root, 50));
    EXPECT_EQ(budget.taken(), 100);
}

TEST(Turns, WhoAsksForMuchWaitsForHimself) {
    std::deque<Turns::Go> loop;
    Turns turns{[&](Turns::Go go) { loop.push_back(std::move(go)); }};
    std::string order;
    EXPECT_TRUE(turns.take());  // nobody has had this turn of the loop
    for (const auto* what : {"a1 ", "a2 ", "a3 "}) {
        EXPECT_FALSE(turns.take());
        turns.wait(1, [&order, what] { order += what; });
    }
    EXPECT_FALSE(turns.take());
    turns.wait(2, [&] { order += "b1 "; });
    while (!loop.empty()) {
        const auto go = std::move(loop.front());
        loop.pop_front();
        const auto before = order.size();
        go();
        EXPECT_LE(order.size(), before + 3);  // one in each turn of the loop
    }
    EXPECT_EQ(order, "a1 b1 a2 a3 ");
    EXPECT_TRUE(turns.take());
}

TEST_F(ServerTest, ABodyThatTheBudgetHasNoRoomForIsNotRead) {
    ServerSetting setting;
    setting.bytes = {.whole = 1'000, .of_one_user = 1'000, .for_operators = 0};
    start(setting);
    auto w = wire();
    w.send("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n");
    const auto got = w.reply();
    EXPECT_EQ(got.status, 503);
    EXPECT_EQ(got.code(), "too_many_bytes");
    EXPECT_NE(got.head.find("Retry-After: 1"), std::string::npos);
    EXPECT_EQ(wire().ask("POST", "/api/v1/jobs", command).status, 201);
    EXPECT_EQ(wire().ask("POST", "/api/v1/jobs", command).status, 201);  // what is worked off is given back
}

TEST_F(ServerTest, WhoDoesNotReadIsLetGoOnceTheBudgetIsUsedUp) {
    ServerSetting setting;
    setting.bytes = {.whole = 10'000, .of_one_user = 10'000, .for_operators = 0};
    start(setting);
    auto w = wire();
    ASSERT_EQ(w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","count":1000,"gpus":4})").status, 201);
    auto lazy = wire();
    for (int i = 0; i < 3; ++i) lazy.send(Wire::text("GET", "/api/v1/jobs"));
    const auto open = [&] {
        const auto text = w.ask("GET", "/metrics").body;
        return std::atoi(text.c_str() + text.find("\nstargate_http_connections ") + 27);
    };
    for (int i = 0; i < 100 && open() > 1; ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    EXPECT_EQ(open(), 1);
    EXPECT_NE(lazy.until("\r\n0\r\n\r\n").find("<closed>"), std::string::npos);  // it broke off
}

TEST_F(ServerTest, AListingComesInPieces) {
    Submit many;
    many.spec.name = "many";
    many.spec.min_gpus = many.spec.max_gpus = GpuCount{4};
    many.spec.time_limit = std::chrono::hours{1};
    many.tenant = "default";
    many.count = 2'000;
    control_.submit({many, {}, {}, {}}, [](const Result<Answer>& answer) { ASSERT_TRUE(answer->accepted()); });
    const auto list = list_jobs(control_, root, {}, 100'000);
    std::string all, piece;
    for (auto pulled = Stream::Pulled::more; pulled == Stream::Pulled::more; all += piece) {
        piece.clear();
        pulled = list->pull(piece);
        EXPECT_LE(piece.size(), 200'000U);
        EXPECT_LE(list->keeps(), 64U);  // jobs in a row are kept as one range
    }
    const auto rows = *parse_json(all);
    ASSERT_EQ(rows.items.size(), 2'000U);
    EXPECT_EQ(rows.items[0]["id"].whole, 2'000);
    EXPECT_EQ(rows.items[1'999]["id"].whole, 1);
}

TEST_F(ServerTest, AJobThatLeavesStateWhileItIsListedComesOnce) {
    control_.runs_at_once = true;
    Submit many;
    many.spec.name = "many";
    many.spec.min_gpus = many.spec.max_gpus = GpuCount{1};
    many.spec.time_limit = std::chrono::hours{1};
    many.tenant = "default";
    many.count = 1'000;
    control_.submit({many, {}, {}, {}}, [](const Result<Answer>& answer) { ASSERT_TRUE(answer->accepted()); });
    const auto list = list_jobs(control_, root, {}, 100'000);
    std::string all;
    EXPECT_EQ(list->pull(all), Stream::Pulled::more);
    control_.retire_all();
    while (list->pull(all) == Stream::Pulled::more) {}
    EXPECT_EQ(parse_json(all)->items.size(), 1'000U);
}

TEST_F(ServerTest, FollowingAnArrayKeepsLittleOfIt) {
    FollowOptions options;
    options.heard = *read_heard("7:1:100,8-99999:done", 100'000);
    EXPECT_LE(follow_jobs(control_, JobId{1}, 100'000, options)->keeps(), 20'000U);
}

TEST_F(ServerTest, WhatWaitsIsCancelledBeforeWhatRuns) {
    start();
    auto w = wire();
    ASSERT_EQ(w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"a","count":3,"gpus":4})").status,
              201);
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs/a/cancel").body, "{\"jobs\":[1,2,3],\"active\":1}\n");
    std::string order;
    ASSERT_TRUE(control_.read_facts(1, 1'000, [&](const LoggedFact& fact) {
        if (std::holds_alternative<Warned>(fact.fact)) order += "warned ";
        if (const auto* dropped = std::get_if<Dropped>(&fact.fact)) order += std::to_string(dropped->job.value) + " ";
    }));
    EXPECT_EQ(order, "2 3 warned ");
}

}  // namespace
}  // namespace stargate::api
