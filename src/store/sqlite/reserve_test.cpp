#include "store/sqlite/reserve.hpp"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>

#include "base/scratch_folder.hpp"
#include "store/room.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::store {
namespace {

/// A store alone on a small disk.
class Reserved : public ::testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
        if (::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=16m") != 0) GTEST_SKIP() << "no mount here";
        is_mounted_ = true;
        auto store = open_sqlite_store(folder_.path());
        ASSERT_TRUE(store) << store.error().detail;
        store_ = std::move(*store);
        ASSERT_TRUE(store_->begin_term(0));
        ASSERT_TRUE(store_->maintain());
    }
    void TearDown() override {
        store_.reset();
        if (is_mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
    }
    void fill() const {
        std::ofstream file{filler(), std::ios::binary};
        const std::string block(4096, 'x');
        while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {}
    }
    [[nodiscard]] std::string filler() const { return folder_.path() + "/filler"; }
    [[nodiscard]] bool one_more_is_written() {
        Batch batch;
        batch.inputs.push_back({Instant{}, 1, std::string(500, 'i')});
        batch.facts.push_back({1, std::string(500, 'f'), 0});
        const auto committed = store_->commit(batch);
        if (committed.outcome == Outcome::not_written) { EXPECT_EQ(committed.error.fault, Fault::full); }
        EXPECT_NE(committed.outcome, Outcome::unknown) << committed.error.detail;
        return committed.outcome == Outcome::written;
    }

    ScratchFolder folder_;
    bool is_mounted_ = false;
    std::unique_ptr<Store> store_;
};

TEST_F(Reserved, WhoFillsTheDiskLeavesRoomForTheEndsOfWhatRuns) {
    fill();
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(one_more_is_written()) << i;
    const auto kept = store_->maintain();
    ASSERT_FALSE(kept);
    EXPECT_EQ(kept.error().fault, Fault::full) << "it says that it lives on what it has kept";
}

TEST_F(Reserved, ItIsMadeWholeAgainWhenThereIsRoom) {
    fill();
    int written = 0;
    while (one_more_is_written()) ++written;
    EXPECT_GT(written, 50);
    EXPECT_FALSE(store_->maintain());
    ASSERT_EQ(::unlink(filler().c_str()), 0);
    EXPECT_TRUE(store_->maintain());
    fill();
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(one_more_is_written()) << i;
}

TEST_F(Reserved, ADiskWithoutRoomIsNotTakenForADamagedStore) {
    store_.reset();
    fill();
    const auto opened = open_sqlite_reader(folder_.path());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().fault, Fault::full);
    EXPECT_EQ(opened.error().detail, no_room(folder_.path()).detail);
}

}  // namespace
}  // namespace stargate::store
