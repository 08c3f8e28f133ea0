#include "base/simulated_disk.hpp"

#include <gtest/gtest.h>

#include "base/file.hpp"

namespace stargate {
namespace {

std::string text_of(Disk& disk, const std::string& path) {
    return read_file(path, mebibytes(1), disk).value_or("(none)");
}

TEST(SimulatedDisk, ForgetsWhatNoSyncMadeDurable) {
    SimulatedDisk disk{"/state"};
    auto file = disk.open("/state/a", Opening::edit_or_create).value();
    ASSERT_TRUE(file->write(0, "synced"));
    ASSERT_TRUE(file->sync());
    ASSERT_TRUE(disk.sync_folder("/state"));
    ASSERT_TRUE(file->write(0, "unsync"));
    EXPECT_EQ(text_of(disk, "/state/a"), "unsync");
    disk.reboot();
    EXPECT_EQ(text_of(disk, "/state/a"), "synced");
    EXPECT_FALSE(file->write(0, "from before")) << "an open file does not live through a reboot";
}

TEST(SimulatedDisk, LosesANameWhoseFolderWasNotSynced) {
    SimulatedDisk disk{"/state"};
    auto file = disk.open("/state/a", Opening::edit_or_create).value();
    ASSERT_TRUE(file->write(0, "x"));
    ASSERT_TRUE(file->sync());
    disk.reboot();
    EXPECT_FALSE(disk.exists("/state/a"));
}

TEST(SimulatedDisk, AFailedSyncIsNotMadeGoodByALaterOne) {
    SimulatedDisk disk{"/state"};
    ASSERT_TRUE(write_durably("/state/a", "old", disk));
    disk.set_plan({.fail_sync = disk.syncs() + 1});
    auto file = disk.open("/state/a", Opening::edit).value();
    ASSERT_TRUE(file->write(0, "new"));
    EXPECT_EQ(file->sync().error().fault, Fault::unknown_outcome);
    EXPECT_TRUE(file->sync()) << "the kernel calls the page clean";
    EXPECT_EQ(text_of(disk, "/state/a"), "new");
    disk.reboot();
    EXPECT_EQ(text_of(disk, "/state/a"), "old");
}

TEST(SimulatedDisk, TearsTheWriteInProgress) {
    bool was_torn = false;
    for (std::uint64_t seed = 1; seed < 9; ++seed) {
        SimulatedDisk disk{"/state"};
        ASSERT_TRUE(write_durably("/state/a", std::string(2048, 'o'), disk));
        disk.set_plan({.cut_at_step = disk.steps() + 1, .cut = Cut::tear, .seed = seed});
        EXPECT_FALSE(disk.open("/state/a", Opening::edit).value()->write(0, std::string(2048, 'n')));
        disk.reboot();
        const auto text = text_of(disk, "/state/a");
        was_torn = was_torn || (text.find('n') != std::string::npos && text.find('o') != std::string::npos);
    }
    EXPECT_TRUE(was_torn);
}

/// Every way to end a replacement of /state/a, and /state/attempt made, at every step.
TEST(DurableFiles, SurviveAPowerCutAtEveryStep) {
    int cuts = 0;
    for (const auto cut : {Cut::drop_unsynced, Cut::keep_some, Cut::tear}) {
        bool was_cut = true;
        for (std::uint64_t step = 1; was_cut; ++step) {
            for (std::uint64_t seed = 1; seed <= 8; ++seed) {
                SimulatedDisk disk{"/state"};
                ASSERT_TRUE(write_durably("/state/a", std::string(3000, 'o'), disk));
                disk.set_plan({.cut_at_step = disk.steps() + step, .cut = cut, .seed = seed});
                const auto written = write_durably("/state/a", std::string(4000, 'n'), disk);
                const auto made = make_folder_durably("/state/attempt", disk);
                const auto removed = remove_durably("/state/a", disk);
                was_cut = disk.is_cut();
                disk.reboot();
                const auto text = text_of(disk, "/state/a");
                const bool is_old = text == std::string(3000, 'o');
                const bool is_new = text == std::string(4000, 'n');
                EXPECT_TRUE(is_old || is_new || (written && text == "(none)")) << step;
                if (written) { EXPECT_FALSE(is_old) << step; }
                if (made) { EXPECT_TRUE(disk.exists("/state/attempt")) << step; }
                if (removed) { EXPECT_EQ(text, "(none)") << step; }
                EXPECT_TRUE(write_durably("/state/a", "again", disk)) << "left-overs are in nobody's way";
                cuts += was_cut ? 1 : 0;
            }
        }
    }
    EXPECT_GE(cuts, 200);
}

TEST(DurableFiles, AFullDiskLeavesTheOldContent) {
    for (std::uint64_t step = 1; step <= 5; ++step) {
        SimulatedDisk disk{"/state"};
        ASSERT_TRUE(write_durably("/state/a", "old", disk));
        disk.set_plan({.full_from_step = disk.steps() + step});
        const auto written = write_durably("/state/a", "new", disk);
        if (!written) { EXPECT_EQ(written.error().fault, Fault::full); }
        disk.set_plan({});
        EXPECT_EQ(text_of(disk, "/state/a"), written ? "new" : "old");
        EXPECT_EQ(disk.list("/state").value().size(), 1U) << "the room is given back";
    }
}

TEST(DurableFiles, AFailedSyncIsAnUnknownOutcomeAndNeverTriedAgain) {
    for (std::uint64_t sync = 1; sync <= 2; ++sync) {
        SimulatedDisk disk{"/state"};
        const auto before = disk.syncs();
        disk.set_plan({.fail_sync = before + sync});
        EXPECT_EQ(write_durably("/state/a", "new", disk).error().fault, Fault::unknown_outcome);
        EXPECT_EQ(disk.syncs(), before + sync);
    }
}

TEST(DurableFiles, AFolderIsDurableAlsoForWhoFoundItThere) {
    SimulatedDisk disk{"/state"};
    ASSERT_TRUE(disk.make_folder("/state/segments"));  // by somebody who ended before its name was durable
    ASSERT_TRUE(make_folder_durably("/state/segments", disk));
    disk.reboot();
    EXPECT_TRUE(disk.exists("/state/segments"));
}

}  // namespace
}  // namespace stargate
