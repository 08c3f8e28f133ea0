// What the doctor says of snapshots that were set aside and of sealed segments.
#include "store/doctor.hpp"

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/scratch_folder.hpp"
#include "store/segment.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::store {
namespace {

/// A log of 30 facts of which the first 20 lie in two segments, and 12 of those no longer in the database.
class DoctorTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto store = open_sqlite_store(folder_.path()).value();
        Batch batch;
        for (std::uint32_t i = 0; i < 30; ++i) {
            batch.inputs.push_back({Instant{}, 3, "input"});
            batch.facts.push_back({7, "fact", i});
        }
        ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
        SegmentHead head{1, store->identity()->incarnation, 1, 10, 1, 10, {}};
        const auto first = seal_segment(*store, folder_.path(), head);
        ASSERT_TRUE(first);
        head = {1, head.incarnation, 11, 20, 11, 20, first->digest};
        ASSERT_TRUE(seal_segment(*store, folder_.path(), head));
        Retention retention;
        retention.facts_before = retention.inputs_before = 13;
        ASSERT_TRUE(store->forget(retention));
    }
    [[nodiscard]] std::string findings() const {
        std::string all;
        const auto report = examine_store(folder_.path()).value();
        for (const auto& finding : report.findings) all += finding.what + "\n";
        return all;
    }

    const ScratchFolder folder_;
};

TEST_F(DoctorTest, FindsNothingInASealedLog) {
    EXPECT_EQ(findings(), "");
    const auto report = examine_store(folder_.path()).value();
    EXPECT_EQ(report.segments, 2U);
    EXPECT_EQ(report.log.first_fact, 13U);
}

TEST_F(DoctorTest, FindsADamagedSegment) {
    const auto path = folder_ / "segments/1-10.segment";
    auto bytes = read_file(path, mebibytes(1)).value();
    bytes[60] = static_cast<char>(bytes[60] ^ 1);
    ASSERT_TRUE(write_durably(path, bytes));
    EXPECT_NE(findings().find("is damaged"), std::string::npos);
}

TEST_F(DoctorTest, FindsThatTheNewestSegmentIsGone) {
    ASSERT_TRUE(remove_durably(folder_ / "segments/11-20.segment"));
    EXPECT_NE(findings().find("facts 11 to 12 are neither in a segment nor in the log"), std::string::npos);
}

TEST_F(DoctorTest, FindsASegmentThatDoesNotFollowTheOneBeforeIt) {
    auto store = open_sqlite_store(folder_.path()).value();
    const SegmentHead unchained{1, store->identity()->incarnation, 21, 25, 22, 25, {}};
    ASSERT_TRUE(seal_segment(*store, folder_.path(), unchained));
    EXPECT_NE(findings().find("21-25.segment does not follow"), std::string::npos);
}

TEST_F(DoctorTest, FindsASegmentThatFollowsAnotherOneThanThatBeforeIt) {
    auto store = open_sqlite_store(folder_.path()).value();
    Digest other{};
    other.front() = 1;
    ASSERT_TRUE(seal_segment(*store, folder_.path(), {1, store->identity()->incarnation, 21, 25, 21, 25, other}));
    EXPECT_NE(findings().find("21-25.segment does not follow"), std::string::npos);
}

TEST_F(DoctorTest, FindsNothingWhenWhatWasLostBeforeANewChainIsPutBack) {
    const auto path = folder_ / "segments/11-20.segment";
    const auto lost = read_file(path, mebibytes(1)).value();
    ASSERT_TRUE(remove_durably(path));
    {
        auto store = open_sqlite_store(folder_.path()).value();
        ASSERT_TRUE(seal_segment(*store, folder_.path(), {1, store->identity()->incarnation, 21, 25, 21, 25, {}}));
    }
    EXPECT_NE(findings(), "");
    ASSERT_TRUE(write_durably(path, lost));
    EXPECT_EQ(findings(), "");
}

TEST_F(DoctorTest, FindsWhereAChainOfSegmentsWasBegunAnew) {
    ASSERT_TRUE(remove_durably(folder_ / "segments/11-20.segment"));
    auto store = open_sqlite_store(folder_.path()).value();
    const SegmentHead anew{1, store->identity()->incarnation, 13, 20, 13, 20, {}};
    ASSERT_TRUE(seal_segment(*store, folder_.path(), anew));
    EXPECT_EQ(findings(), "facts 11 to 12 are neither in a segment nor in the log\n");
    ASSERT_TRUE(write_durably(folder_ / "segments/11-20.segment.set-aside", "x"));
    EXPECT_NE(findings().find("11-20.segment.set-aside was damaged"), std::string::npos);
}

TEST_F(DoctorTest, FindsASegmentOfAnotherLifeOfTheStore) {
    { ASSERT_TRUE(open_sqlite_store(folder_.path()).value()->renew_incarnation()); }
    EXPECT_NE(findings().find("is not one of this log"), std::string::npos);
}

TEST_F(DoctorTest, FindsASnapshotThatWasSetAside) {
    ASSERT_TRUE(make_folder_durably(folder_ / "snapshots"));
    ASSERT_TRUE(write_durably(folder_ / "snapshots/20.snapshot.differs", "x"));
    EXPECT_NE(findings().find("20.snapshot.differs was not what the log folds to"), std::string::npos);
}

}  // namespace
}  // namespace stargate::store
