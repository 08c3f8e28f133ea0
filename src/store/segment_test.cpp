// Sealed segments: what is read back is what was in the log, and nothing altered passes.
#include "store/segment.hpp"

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/simulated_disk.hpp"
#include "store/memory_store.hpp"

namespace stargate::store {
namespace {

const std::string folder = "/state";

class SegmentTest : public ::testing::Test {
protected:
    void SetUp() override {
        Batch batch;
        for (int i = 0; i < 30; ++i) {
            batch.inputs.push_back({Instant{Duration{i}}, 3, "input " + std::to_string(i)});
            batch.facts.push_back({7, "fact " + std::to_string(i), static_cast<std::uint32_t>(i)});
        }
        ASSERT_EQ(store_.commit(batch).outcome, Outcome::written);
    }
    SegmentHead head(std::uint64_t first, std::uint64_t last) {
        return {1, store_.identity()->incarnation, first, last, first, last, {}};
    }
    [[nodiscard]] std::string bytes() { return read_file(path_, mebibytes(1), disk_).value(); }
    void put(const std::string& bytes) { ASSERT_TRUE(write_durably(path_, bytes, disk_)); }

    SimulatedDisk disk_{folder};
    MemoryStore store_;
    const std::string path_ = "/state/segments/1-10.segment";
};

TEST_F(SegmentTest, IsReadBackAsItWasSealedAndListedInOrder) {
    const auto first = seal_segment(store_, folder, head(1, 10), disk_);
    ASSERT_TRUE(first) << first.error().detail;
    auto next = head(11, 30);
    next.previous = first->digest;
    ASSERT_TRUE(seal_segment(store_, folder, next, disk_));
    const auto files = list_segments(folder, disk_).value();
    ASSERT_EQ(files.size(), 2U);
    EXPECT_EQ(files[0].path, path_);
    EXPECT_EQ(files[1].first_fact, 11U);
    const auto read = read_segment(files[1].path, disk_);
    ASSERT_TRUE(read) << read.error().detail;
    EXPECT_EQ(read->head, next);
    EXPECT_EQ(read_segment(path_, disk_)->digest, first->digest);
}

TEST_F(SegmentTest, IsDurableWhenItHasBeenSealed) {
    ASSERT_TRUE(seal_segment(store_, folder, head(1, 10), disk_));
    disk_.reboot();
    EXPECT_TRUE(read_segment(path_, disk_));
}

TEST_F(SegmentTest, EveryAlteredByteIsFound) {
    ASSERT_TRUE(seal_segment(store_, folder, head(1, 10), disk_));
    const auto whole = bytes();
    for (std::size_t at = 0; at < whole.size(); ++at) {
        auto altered = whole;
        altered[at] = static_cast<char>(altered[at] ^ 1);
        put(altered);
        EXPECT_FALSE(read_segment(path_, disk_)) << at;
    }
    put(whole.substr(0, whole.size() - 1));
    EXPECT_FALSE(read_segment(path_, disk_));
}

TEST_F(SegmentTest, RowsThatAreNotInTheLogCannotBeSealed) {
    EXPECT_EQ(seal_segment(store_, folder, head(21, 31), disk_).error().fault, Fault::malformed);
    Retention retention;
    retention.facts_before = 6;
    ASSERT_TRUE(store_.forget(retention));
    EXPECT_EQ(seal_segment(store_, folder, head(1, 10), disk_).error().fault, Fault::malformed);
    EXPECT_TRUE(list_segments(folder, disk_)->empty());
}

}  // namespace
}  // namespace stargate::store
