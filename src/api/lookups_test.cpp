#include "api/lookups.hpp"

#include <gtest/gtest.h>

#include <future>

namespace stargate::api {
namespace {

/// Something that hangs until it is let go.
struct Hanging {
    std::promise<void> let_go;
    std::shared_future<void> until{let_go.get_future()};
    ~Hanging() {
        if (until.wait_for(std::chrono::seconds{0}) != std::future_status::ready) let_go.set_value();
    }
};

TEST(Lookups, OnePersonsHangingFolderStopsNobodyElse) {
    Hanging hanging;
    Lookups lookups;
    for (int i = 0; i < 10; ++i) {
        lookups.run(
            1, [until = hanging.until]() -> Lookups::Outcome { return until.wait(), [] {}; }, [] {});
    }
    std::promise<void> served;
    lookups.run(
        2, [&] { return [&] { served.set_value(); }; }, [] {});
    EXPECT_EQ(served.get_future().wait_for(std::chrono::seconds{4}), std::future_status::ready);
}

TEST(Lookups, AsManyAsOnePersonsWaitNobodyElseIsRefused) {
    Hanging hanging;
    Lookups lookups{std::chrono::hours{1}};
    std::atomic<int> refused = 0;
    for (int i = 0; i < 2'000; ++i) {
        lookups.run(
            1, [until = hanging.until]() -> Lookups::Outcome { return until.wait(), [] {}; }, [&] { ++refused; });
    }
    std::promise<bool> served;
    lookups.run(
        2, [&] { return [&] { served.set_value(true); }; }, [&] { served.set_value(false); });
    EXPECT_TRUE(served.get_future().get());
    EXPECT_EQ(refused, 0);
}

TEST(Lookups, WhatHangsIsGivenUp) {
    Hanging hanging;
    Lookups lookups{std::chrono::milliseconds{20}};
    std::promise<std::string> said;
    lookups.run(
        1, [&, until = hanging.until]() -> Lookups::Outcome { return until.wait(), [&] { said.set_value("found"); }; },
        [&] { said.set_value("too late"); });
    EXPECT_EQ(said.get_future().get(), "too late");
    hanging.let_go.set_value();  // and what it finds after all is dropped
}

TEST(Lookups, NothingIsCalledOnceItIsGone) {
    Hanging hanging;
    std::atomic<int> calls = 0;
    {
        Lookups lookups;
        lookups.run(
            1, [&calls, until = hanging.until]() -> Lookups::Outcome { return until.wait(), [&] { ++calls; }; },
            [&] { ++calls; });
    }
    hanging.let_go.set_value();
    EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace stargate::api
