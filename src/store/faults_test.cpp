// What the store promises when the world fails: a power cut, a failed sync or a full disk at every step of a scripted
// life. Everything, SQLite's own files included, goes through one simulated disk under one fault plan.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.hpp"
#include "base/simulated_disk.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::store {
namespace {

const std::string folder = "/state";
constexpr int batches = 6;
constexpr int checkpoint_pages = 4;  // so that this short life has checkpoints, and commits that begin the WAL anew

constexpr Instant at(std::int64_t seconds) { return Instant{std::chrono::seconds{seconds}}; }

/// Batch number n, from 1: n inputs, 3n facts over several pages, and one row of each other kind.
Batch batch_number(int n) {
    const auto id = static_cast<std::uint64_t>(n);
    Batch batch;
    batch.at = at(n);
    for (int i = 0; i < n; ++i) batch.inputs.push_back({at(n), 1, "input of " + std::to_string(n)});
    for (int i = 0; i < 3 * n; ++i) {
        batch.facts.push_back(
            {2, "fact of " + std::to_string(n) + std::string(700, 'x'), static_cast<std::uint32_t>(i / 3)});
    }
    batch.launches = {{JobId{id}, 1, "launch"}};
    batch.history = {{JobId{id}, at(n), "ended"}};
    batch.keys = {{TenantId{1}, "key " + std::to_string(n), {}, JobId{id}, at(1000)}};
    return batch;
}

/// What a client was told before the end: the least that must be there after it.
struct Told {
    std::uint64_t term = 0;
    int written = 0;  // batches answered `written`
    bool snapshot_file = false;
    bool snapshot_row = false;
    Outcome last_commit = Outcome::written;
    std::uint64_t syncs_at_unknown = 0;  // counted by the disk when the first unknown outcome was answered; 0 none
};

bool is_unknown(const Error& error) { return error.fault == Fault::unknown_outcome; }

/// Lives the scripted life as the control plane would: after an unknown outcome it stops, after a proven refusal it
/// goes on with the next batch under the same number. Returns what clients were told.
Told live(SimulatedDisk& disk, Told told = {}) {
    told.last_commit = Outcome::written;
    const auto note = [&](const Error& error) {
        if (is_unknown(error) && told.syncs_at_unknown == 0) told.syncs_at_unknown = disk.syncs();
        return !is_unknown(error);
    };
    auto opened = open_sqlite_store_on(disk, folder, checkpoint_pages);
    if (!opened) return (void)note(opened.error()), told;
    auto& store = **opened;
    const auto identity = store.begin_term(0);
    if (!identity) return (void)note(identity.error()), told;
    told.term = identity->term;
    for (int n = told.written + 1; n <= batches; ++n) {
        const auto done = store.commit(batch_number(n));
        told.last_commit = done.outcome;
        if (done.outcome == Outcome::unknown) return (void)note(done.error), told;
        if (done.outcome == Outcome::not_written) break;
        told.written = n;
        if (n == 3 || n == 5) {
            if (auto copied = store.maintain(); !copied && !note(copied.error())) return told;
        }
        if (n == 4) {
            const auto file = write_durably(folder + "/snapshot", "state", disk);
            told.snapshot_file = told.snapshot_file || file.has_value();
            if (!file && !note(file.error())) return told;
            if (!file) continue;
            const auto row = store.add_snapshot({30, 10, "snapshot", digest_of("state"), true});
            told.snapshot_row = told.snapshot_row || row.has_value();
            if (!row && !note(row.error())) return told;
        }
    }
    return told;
}

/// Opens what is left and checks that it is a whole number of batches, at least those that were promised.
void expect_kept(SimulatedDisk& disk, const Told& told) {
    auto opened = open_sqlite_store_on(disk, folder, checkpoint_pages);
    ASSERT_TRUE(opened) << opened.error().detail;
    auto& store = **opened;
    EXPECT_GE(store.identity().value().term, told.term);

    std::vector<std::uint64_t> batch_of_input;
    std::uint64_t expected = 1;
    ASSERT_TRUE(store.read_inputs(1, [&](const InputRow& row) {
        EXPECT_EQ(row.seq, expected++);
        batch_of_input.push_back(static_cast<std::uint64_t>(row.at.time_since_epoch() / std::chrono::seconds{1}));
        return true;
    }));
    const auto kept = batch_of_input.empty() ? 0 : batch_of_input.back();
    EXPECT_GE(kept, static_cast<std::uint64_t>(told.written)) << "an acknowledged batch is lost";
    const int unanswered = told.last_commit == Outcome::unknown ? 1 : 0;
    EXPECT_LE(kept, static_cast<std::uint64_t>(told.written + unanswered)) << "a refusal was no proof";
    EXPECT_EQ(batch_of_input.size(), kept * (kept + 1) / 2) << "half a batch";

    expected = 1;
    ASSERT_TRUE(store.read_facts(1, [&](const FactRow& row) {
        EXPECT_EQ(row.input_seq, (row.seq + 2) / 3) << "three facts an input";
        EXPECT_EQ(row.seq, expected++);
        return true;
    }));
    EXPECT_EQ(expected - 1, 3 * batch_of_input.size()) << "half a batch";
    EXPECT_EQ(store.newest_history(100).value().size(), kept);
    for (std::uint64_t n = 1; n <= batches; ++n) {
        EXPECT_EQ(store.find_launch(JobId{n}).value().has_value(), n <= kept);
        EXPECT_EQ(store.find_key(TenantId{1}, "key " + std::to_string(n)).value().has_value(), n <= kept);
    }
    const auto snapshots = store.snapshots().value();
    EXPECT_GE(snapshots.size(), told.snapshot_row ? 1U : 0U);
    if (told.snapshot_file || !snapshots.empty()) {
        EXPECT_EQ(read_file(folder + "/snapshot", Bytes{100}, disk).value_or("(none)"), "state");
    }
}

/// Whether one path was synced again after the disk's sync number `failed`.
bool was_tried_again(const SimulatedDisk& disk, std::uint64_t failed) {
    std::vector<std::string> syncs;
    for (const auto& step : disk.trace()) {
        if (step.starts_with("sync ")) syncs.push_back(step);
    }
    const auto place = syncs.begin() + static_cast<std::ptrdiff_t>(failed);
    return std::find(place, syncs.end(), *(place - 1)) != syncs.end();
}

/// How many batches lie in the store: where a control plane goes on after it has looked.
int batches_in(SimulatedDisk& disk) {
    auto opened = open_sqlite_store_on(disk, folder, checkpoint_pages);
    if (!opened) return 0;
    const auto inputs = (*opened)->extent().value().end_input - 1;
    int n = 0;
    while (static_cast<std::uint64_t>((n + 1) * (n + 2) / 2) <= inputs) ++n;
    return n;
}

std::string last_step(const SimulatedDisk& disk) { return disk.trace().empty() ? "" : disk.trace().back(); }

struct Measure {
    std::uint64_t steps = 0;
    std::uint64_t syncs = 0;
};

/// The whole life without a fault: how many steps there are to fail at.
Measure undisturbed() {
    SimulatedDisk disk{folder};
    const auto told = live(disk);
    EXPECT_EQ(told.written, batches);
    EXPECT_TRUE(told.snapshot_row);
    expect_kept(disk, told);
    return {disk.steps(), disk.syncs()};
}

TEST(StoreFaults, APowerCutAtEveryStepLosesNothingThatWasAnswered) {
    const auto steps = undisturbed().steps;
    int points = 0;
    for (const auto cut : {Cut::drop_unsynced, Cut::keep_some, Cut::tear}) {
        const std::uint64_t seeds = cut == Cut::drop_unsynced ? 1 : 4;
        for (std::uint64_t step = 1; step <= steps; ++step) {
            for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
                SimulatedDisk disk{folder};
                disk.set_plan({.cut_at_step = step, .cut = cut, .seed = seed});
                auto told = live(disk);
                SCOPED_TRACE(testing::Message() << "cut " << static_cast<int>(cut) << " at step " << step << " seed "
                                                << seed << ": " << last_step(disk));
                disk.reboot();
                expect_kept(disk, told);
                if (seed == 1) {
                    told.written = batches_in(disk);
                    told = live(disk, told);
                    EXPECT_EQ(told.written, batches) << "the next life goes on where this one ended";
                    expect_kept(disk, told);
                }
                ++points;
                if (HasFailure()) return;
            }
        }
    }
    RecordProperty("steps", static_cast<int>(steps));
    RecordProperty("cuts", points);
    std::printf("%d power cuts over %d steps\n", points, static_cast<int>(steps));
}

TEST(StoreFaults, ASecondCutDuringRecoveryLosesNothingEither) {
    const auto steps = undisturbed().steps;
    for (std::uint64_t step = 10; step <= steps; step += 7) {
        for (std::uint64_t later = 1; later <= 12; ++later) {
            SimulatedDisk disk{folder};
            disk.set_plan({.cut_at_step = step, .cut = Cut::keep_some, .seed = step});
            auto told = live(disk);
            disk.reboot();
            told.written = std::max(told.written, batches_in(disk));
            disk.set_plan({.cut_at_step = disk.steps() + later, .cut = Cut::keep_some, .seed = later});
            told = live(disk, told);
            SCOPED_TRACE(testing::Message() << "step " << step << " and " << later << " later: " << last_step(disk));
            disk.reboot();
            expect_kept(disk, told);
            if (HasFailure()) return;
        }
    }
}

TEST(StoreFaults, AFailedSyncIsNeverCalledWrittenAndNeverTriedAgain) {
    const auto syncs = undisturbed().syncs;
    for (std::uint64_t sync = 1; sync <= syncs; ++sync) {
        SimulatedDisk disk{folder};
        disk.set_plan({.fail_sync = sync});
        const auto told = live(disk);
        SCOPED_TRACE(testing::Message() << "sync " << sync << " of " << syncs);
        // Closing an orderly store syncs too, and nobody waits for that answer.
        if (told.written < batches || told.syncs_at_unknown != 0) {
            EXPECT_EQ(told.syncs_at_unknown, sync) << "the failure itself is answered as unknown";
            EXPECT_FALSE(was_tried_again(disk, sync)) << "not even while closing";
        }
        disk.reboot();
        expect_kept(disk, told);
        if (HasFailure()) return;
    }
}

TEST(StoreFaults, AFullDiskRefusesWithProofAndTheStoreGoesOnOnceThereIsRoom) {
    const auto steps = undisturbed().steps;
    int proven = 0;
    for (const std::uint64_t length : {1U, 3U, 1000U}) {
        for (std::uint64_t step = 1; step <= steps; ++step) {
            SimulatedDisk disk{folder};
            disk.set_plan({.full_from_step = step, .full_until_step = step + length});
            auto told = live(disk);
            SCOPED_TRACE(testing::Message() << "full at step " << step << " for " << length);
            EXPECT_NE(told.last_commit, Outcome::unknown)
                << "a full disk before COMMIT's last frame is a proven refusal";
            proven += told.last_commit == Outcome::not_written ? 1 : 0;
            disk.set_plan({});
            EXPECT_EQ(batches_in(disk), told.written) << "neither more nor less than was answered";
            told = live(disk, told);
            EXPECT_EQ(told.written, batches);
            disk.reboot();
            expect_kept(disk, told);
            if (HasFailure()) return;
        }
    }
    EXPECT_GT(proven, 0);
}

TEST(StoreFaults, TheSameStoreWritesOnAfterARefusal) {
    const auto steps = undisturbed().steps;
    for (std::uint64_t after = 1; after <= 12; ++after) {
        SimulatedDisk disk{folder};
        auto store = open_sqlite_store_on(disk, folder, checkpoint_pages).value();
        ASSERT_EQ(store->commit(batch_number(1)).outcome, Outcome::written);
        disk.set_plan({.full_from_step = disk.steps() + after, .full_until_step = disk.steps() + after + 2});
        int written = 1;
        for (int tries = 0; written < batches && tries < static_cast<int>(steps); ++tries) {
            const auto done = store->commit(batch_number(written + 1));
            ASSERT_NE(done.outcome, Outcome::unknown);
            if (done.outcome == Outcome::written) ++written;
        }
        disk.reboot();  // with the store still open: only what was answered counts
        store.reset();
        Told told;
        told.written = batches;
        expect_kept(disk, told);
    }
}

TEST(StoreFaults, NothingIsTriedAfterAnUnknownOutcome) {
    SimulatedDisk disk{folder};
    auto store = open_sqlite_store_on(disk, folder, checkpoint_pages).value();
    ASSERT_EQ(store->commit(batch_number(1)).outcome, Outcome::written);
    disk.set_plan({.fail_sync = disk.syncs() + 1});
    ASSERT_EQ(store->commit(batch_number(2)).outcome, Outcome::unknown);
    const auto steps = disk.steps();
    EXPECT_EQ(store->commit(batch_number(3)).outcome, Outcome::unknown);
    EXPECT_EQ(store->begin_term(0).error().fault, Fault::unknown_outcome);
    EXPECT_EQ(store->forget({}).error().fault, Fault::unknown_outcome);
    EXPECT_EQ(store->maintain().error().fault, Fault::unknown_outcome);
    EXPECT_EQ(disk.steps(), steps);
}

TEST(StoreFaults, ACommitIsOneSync) {
    SimulatedDisk disk{folder};
    auto store = open_sqlite_store_on(disk, folder, checkpoint_pages).value();
    ASSERT_TRUE(store->begin_term(0));
    for (int n = 1; n <= batches; ++n) {
        const auto before = disk.syncs();
        ASSERT_EQ(store->commit(batch_number(n)).outcome, Outcome::written);
        EXPECT_EQ(disk.syncs(), before + 1);
        EXPECT_EQ(last_step(disk), "sync /state/stargate.db-wal") << "the answer comes after it";
    }
}

}  // namespace
}  // namespace stargate::store
