#include "gateway/usage.hpp"

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/scratch_folder.hpp"

namespace stargate::gateway {
namespace {

class Usage : public ::testing::Test {
protected:
    std::unique_ptr<UsageBook> open(const std::string& boot) const {
        auto book = UsageBook::open(folder_ / "usage", boot);
        EXPECT_TRUE(book) << book.error().detail;
        return std::move(*book);
    }
    [[nodiscard]] UsageRead read(const std::string& boot) const {
        auto got = read_usage(folder_ / "usage/" + boot);
        EXPECT_TRUE(got) << got.error().detail;
        return got ? *got : UsageRead{};
    }
    ScratchFolder folder_;
};

TEST_F(Usage, IsReadWhileItIsWrittenAndAfterwards) {
    auto book = open("b1");
    const auto lab = book->account("lab", "chat");
    const auto shop = book->account("shop", "chat");
    EXPECT_EQ(book->account("lab", "chat"), lab);
    for (int i = 0; i < 3; ++i) book->began(lab);
    book->began(shop);
    book->ended(lab, {10, 20, false});
    book->ended(lab, {5, 3, true});
    book->came_to_nothing(shop);
    const std::vector<UsageRecord> expected{{"lab", "chat", {2, 15, 23, 1, 3, 1}}, {"shop", "chat", {}}};
    EXPECT_EQ(read("b1").records, expected);
    book.reset();
    EXPECT_EQ(read("b1").records, expected);
    EXPECT_EQ(read("b1").boot, "b1");
}

TEST_F(Usage, HasRoomForManyAndLongNames) {
    auto book = open("b1");
    const std::string tenant(128, 't');
    for (int i = 0; i < 1000; ++i) {
        const auto account = book->account(tenant, std::to_string(i));
        book->began(account);
        book->ended(account, {i, 1, false});
    }
    const auto records = read("b1").records;
    ASSERT_EQ(records.size(), 1000U);
    EXPECT_EQ(records[999].tenant, tenant);
    EXPECT_EQ(records[999].counters.prompt_tokens, 999U);
}

TEST_F(Usage, ABootIsWrittenByOneGateway) {
    const auto book = open("b1");
    EXPECT_FALSE(UsageBook::open(folder_ / "usage", "b1"));
}

TEST_F(Usage, WhatIsNoUsageFileIsSaidToBeNone) {
    const auto book = open("b1");
    const auto whole = read_file(folder_ / "usage/b1", Bytes{1 << 20}).value();
    const auto is_refused = [&](const std::string& bytes) {
        EXPECT_TRUE(write_durably(folder_ / "x", bytes));
        return !read_usage(folder_ / "x");
    };
    EXPECT_FALSE(is_refused(whole));
    EXPECT_TRUE(is_refused(""));
    EXPECT_TRUE(is_refused(whole.substr(0, 300)));
    EXPECT_TRUE(is_refused("X" + whole.substr(1)));
    auto many = whole;
    many[18] = '\x7F';  // records: more than the file has
    EXPECT_TRUE(is_refused(many));
    EXPECT_FALSE(read_usage(folder_ / "none"));
}

}  // namespace
}  // namespace stargate::gateway
