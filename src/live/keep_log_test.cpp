// The log stays small, and nothing of it is lost on the way: snapshots are compared with what the log folds to, old
// rows leave for sealed segments, and a power cut at any step of that leaves no hole.
#include "live/keep_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.hpp"
#include "base/simulated_disk.hpp"
#include "core/decide.hpp"
#include "live/recover.hpp"
#include "loop/round.hpp"
#include "store/memory_store.hpp"
#include "store/segment.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::live {
namespace {

const std::string folder = "/state";
constexpr LogLimits limits{10, 100};
constexpr int batch_size = 4;

/// Makes the next fact, which is a tenant of its own: State says by itself how many facts it has seen.
void decide_one(Core& core, store::Batch& batch, std::uint64_t number) {
    const SetTenant input{"t" + std::to_string(number)};
    const auto from = core.batch().size();
    (void)decide(core, Instant{}, input);
    log_facts(batch, core, Instant{}, input, from);
}

/// The rows of State after so many facts, at its index.
const std::vector<std::string>& rows_after() {
    static const auto all = [] {
        Core core{State{}};
        std::vector<std::string> rows{core.state().rows()};
        for (std::uint64_t number = 1; number <= 200; ++number) {
            store::Batch batch;
            decide_one(core, batch, number);
            core.commit();
            rows.push_back(core.state().rows());
        }
        return rows;
    }();
    return all;
}

/// Writes one more batch onto what the store has; false when it was not written.
bool write_batch(store::Store& store, Core& core) {
    store::Batch batch;
    const auto end = store.extent()->end_fact;
    for (std::uint64_t i = 0; i < batch_size; ++i) decide_one(core, batch, end + i);
    if (store.commit(batch).outcome != store::Outcome::written) return false;
    core.commit();
    return true;
}

/// One look after the log, both sides. False as soon as something fails.
bool look_after(store::Store& store, Disk& disk, const LogLimits& how = limits) {
    Folded state;
    const auto kept = keep_log(store, folder, how, state, disk);
    if (!kept || !record_snapshots(store, *kept)) return false;
    for (;;) {
        const auto gone = forget_sealed(store, *kept, batch_size);
        if (!gone) return false;
        if (*gone == 0) return true;
    }
}

class KeepLogTest : public ::testing::Test {
protected:
    void write(int batches) {
        for (int i = 0; i < batches; ++i) ASSERT_TRUE(write_batch(store_, core_));
    }
    LogKept keep() {
        Folded state;
        auto kept = keep_log(store_, folder, limits, state, disk_);
        EXPECT_TRUE(kept) << kept.error().detail;
        EXPECT_EQ(state.state.rows(), core_.state().rows());
        EXPECT_TRUE(record_snapshots(store_, *kept));
        return std::move(*kept);
    }
    [[nodiscard]] std::vector<std::string> snapshot_files() { return disk_.list("/state/snapshots").value(); }

    SimulatedDisk disk_{folder};
    store::MemoryStore store_;
    Core core_{State{}};
};

TEST_F(KeepLogTest, ASnapshotIsVerifiedByTheNextLookAndTwoVerifiedOnesLetOldRowsGo) {
    write(3);
    EXPECT_EQ(keep().written_fact, 12U);
    write(3);
    const auto second = keep();
    EXPECT_EQ(second.verified, (std::vector<std::uint64_t>{12}));
    EXPECT_EQ(second.sealed_fact, 0U) << "one verified snapshot is not enough";
    EXPECT_EQ(forget_sealed(store_, second, 100).value(), 0U);
    write(3);
    const auto third = keep();
    EXPECT_EQ(third.verified, (std::vector<std::uint64_t>{24}));
    EXPECT_EQ(third.sealed_fact, 12U);
    EXPECT_EQ(store::list_segments(folder, disk_)->size(), 2U) << "of ten facts and of two";
    while (forget_sealed(store_, third, 3).value() > 0) {}
    EXPECT_EQ(store_.extent().value(), (store::LogExtent{13, 37, 13, 37}));
    EXPECT_EQ(recover(store_, folder, disk_)->state.rows(), core_.state().rows());
}

TEST_F(KeepLogTest, SnapshotsOlderThanTheTwoVerifiedOnesAreRemoved) {
    for (int round = 0; round < 6; ++round) {
        write(3);
        (void)keep();
    }
    EXPECT_EQ(store_.snapshots()->size(), 3U) << "two verified ones and the next";
    write(1);
    (void)keep();
    EXPECT_LE(snapshot_files().size(), 4U);
}

TEST_F(KeepLogTest, ASnapshotThatIsNotWhatTheLogFoldsToIsSetAsideAndNeverStartedFrom) {
    write(3);
    auto other = State::from_rows(rows_after()[11]).value();  // one fact is missing in it
    const auto bytes = other.rows();
    ASSERT_TRUE(make_folder_durably("/state/snapshots", disk_));
    ASSERT_TRUE(write_durably("/state/snapshots/12.snapshot", bytes, disk_));
    ASSERT_TRUE(store_.add_snapshot({12, 12, "12.snapshot", digest_of(bytes), false}));
    write(1);
    const auto kept = keep();
    EXPECT_EQ(kept.differing, (std::vector<std::uint64_t>{12}));
    EXPECT_TRUE(kept.verified.empty());
    EXPECT_EQ(snapshot_files(), (std::vector<std::string>{"12.snapshot.differs", "16.snapshot"}));
    ASSERT_EQ(store_.snapshots()->size(), 1U);
    EXPECT_EQ(recover(store_, folder, disk_)->state.rows(), core_.state().rows());
}

TEST_F(KeepLogTest, AStartBeginsWithASnapshotThatHasBeenComparedBeforeANewerOneThatHasNot) {
    write(3);
    (void)keep();
    write(3);
    EXPECT_EQ(keep().verified, (std::vector<std::uint64_t>{12}));
    EXPECT_EQ(recover(store_, folder, disk_)->from_snapshot, 12U);
    auto other = State::from_rows(rows_after()[23]).value();  // one fact is missing in it
    ASSERT_TRUE(write_durably("/state/snapshots/24.snapshot", other.rows(), disk_));
    ASSERT_TRUE(store_.forget_snapshot(24));
    ASSERT_TRUE(store_.add_snapshot({24, 24, "24.snapshot", digest_of(other.rows()), false}));
    EXPECT_EQ(recover(store_, folder, disk_)->state.rows(), core_.state().rows());
    ASSERT_TRUE(write_durably("/state/snapshots/12.snapshot", "damaged", disk_));
    EXPECT_EQ(recover(store_, folder, disk_)->from_snapshot, 24U) << "better than nothing";
}

TEST_F(KeepLogTest, ADamagedVerifiedSnapshotCostsTimeOnlyAndSealsNothing) {
    write(3);
    (void)keep();
    write(3);
    (void)keep();
    ASSERT_TRUE(write_durably("/state/snapshots/12.snapshot", "damaged", disk_));
    write(3);
    EXPECT_EQ(keep().sealed_fact, 0U) << "of the two verified ones one cannot be read";
}

TEST_F(KeepLogTest, AHoleAtTheFrontAndASnapshotFromBeyondTheEndAreRefused) {
    write(3);
    store::Retention retention;
    retention.facts_before = 5;
    ASSERT_TRUE(store_.forget(retention));
    EXPECT_EQ(recover(store_, folder, disk_).error().fault, Fault::malformed);
    ASSERT_TRUE(make_folder_durably("/state/snapshots", disk_));
    ASSERT_TRUE(write_durably("/state/snapshots/20.snapshot", rows_after()[20], disk_));
    ASSERT_TRUE(store_.add_snapshot({20, 20, "20.snapshot", digest_of(rows_after()[20]), true}));
    EXPECT_EQ(recover(store_, folder, disk_).error().fault, Fault::malformed);
}

TEST_F(KeepLogTest, OldSegmentsAreRemovedAndTheRestStaysAChain) {
    const LogLimits few{10, 3};
    for (int round = 0; round < 12; ++round) {
        write(3);
        ASSERT_TRUE(look_after(store_, disk_, few));
    }
    const auto files = store::list_segments(folder, disk_).value();
    ASSERT_EQ(files.size(), 3U);
    EXPECT_GT(files[0].first_fact, 1U);
    EXPECT_EQ(files[2].last_fact + 1, store_.extent()->first_fact);
    const auto before = store::read_segment(files[1].path, disk_);
    EXPECT_EQ(store::read_segment(files[2].path, disk_)->head.previous, before->digest);
}

TEST_F(KeepLogTest, WhatIsNoSegmentOfThisLogIsSetAsideOnceAndTheChainBeginsAnew) {
    for (int round = 0; round < 6; ++round) {
        write(3);
        ASSERT_TRUE(look_after(store_, disk_));
    }
    const auto before = store::list_segments(folder, disk_).value();
    const auto first_kept = store_.extent()->first_fact;
    ASSERT_EQ(before.back().last_fact + 1, first_kept);
    ASSERT_TRUE(write_durably(before.back().path, "damaged", disk_));
    store::SegmentHead foreign;  // of another store, and from beyond the end of this log
    store::MemoryStore other{{2}};
    Core core{State{}};
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(write_batch(other, core));
    foreign.incarnation = other.identity()->incarnation;
    foreign.first_fact = foreign.first_input = 301;
    foreign.last_fact = foreign.last_input = 310;
    ASSERT_TRUE(store::seal_segment(other, folder, foreign, disk_));
    for (int round = 0; round < 3; ++round) {
        write(3);
        ASSERT_TRUE(look_after(store_, disk_)) << "the rest of the housekeeping goes on";
    }
    EXPECT_GT(store_.extent()->first_fact, first_kept) << "and so does sealing";
    int set_aside = 0;
    const auto names = disk_.list("/state/segments").value();
    for (const auto& name : names) set_aside += name.ends_with(".set-aside") ? 1 : 0;
    EXPECT_EQ(set_aside, 2);
    const auto after = store::list_segments(folder, disk_).value();
    std::optional<store::Segment> last;
    for (const auto& file : after) {
        const auto segment = store::read_segment(file.path, disk_);
        ASSERT_TRUE(segment) << segment.error().detail;
        if (file.first_fact == first_kept) {
            EXPECT_EQ(segment->head.previous, Digest{});
        } else if (last) {
            EXPECT_EQ(segment->head.previous, last->digest);
        }
        last = *segment;
    }
    EXPECT_EQ(last->head.last_fact + 1, store_.extent()->first_fact);
}

TEST_F(KeepLogTest, ASegmentOfWhichInputsWereForgottenIsNotMadeAnew) {
    for (int round = 0; round < 3; ++round) {
        write(3);
        ASSERT_TRUE(keep().written_fact > 0);
    }
    ASSERT_EQ(store::list_segments(folder, disk_)->size(), 2U);
    store::Retention retention;
    retention.inputs_before = 13;
    ASSERT_TRUE(store_.forget(retention));  // cut off here: the facts stay for now
    write(3);
    EXPECT_GT(keep().sealed_fact, 12U);
}

TEST_F(KeepLogTest, AJobIsForgottenOnceNeitherStateNorHistoryKnowsIt) {
    State state;
    state.change<Counters>(0, [](Counters& row) { row.jobs = 5; });
    store::Batch batch;
    batch.history.push_back({JobId{4}, Instant{}, "ended"});
    ASSERT_EQ(store_.commit(batch).outcome, store::Outcome::written);
    EXPECT_TRUE(is_forgotten(store_, state, JobId{3}).value());
    EXPECT_FALSE(is_forgotten(store_, state, JobId{4}).value()) << "it can still be asked for";
    EXPECT_FALSE(is_forgotten(store_, state, JobId{6}).value()) << "it came after this State";
    write(1);
    NodeShape shape;
    shape.name = "node";
    shape.gpus = GpuCount{4};
    shape.cpus = cpus(4);
    shape.memory = gibibytes(64);
    (void)decide(core_, Instant{}, NodeUp{shape, "boot"});
    Submit submit;
    submit.spec.name = "waits";
    submit.spec.time_limit = std::chrono::hours{1};
    submit.tenant = "t1";
    const auto answer = decide(core_, Instant{}, submit);
    ASSERT_TRUE(answer.accepted());
    EXPECT_FALSE(is_forgotten(store_, core_.state(), answer.job).value());
}

// ---- power cuts

/// Lives a scripted life on whatever the disk holds. Returns how many facts were acknowledged in it at least.
std::uint64_t live(SimulatedDisk& disk) {
    constexpr int checkpoint_pages = 4;
    constexpr int rounds = 5;
    auto opened = store::open_sqlite_store_on(disk, folder, checkpoint_pages);
    if (!opened) return 0;
    auto& store = **opened;
    auto recovered = recover(store, folder, disk);
    if (!recovered) return 0;
    auto acknowledged = recovered->last_fact;
    Core core{std::move(recovered->state)};
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < 3; ++i) {
            if (!write_batch(store, core)) return acknowledged;
            acknowledged += batch_size;
        }
        if (!look_after(store, disk) || !store.maintain()) return acknowledged;
    }
    return acknowledged;
}

/// Recovers, and looks for every fact: in the log, or in a segment that can be read.
void expect_whole(SimulatedDisk& disk, std::uint64_t acknowledged) {
    auto opened = store::open_sqlite_store_on(disk, folder);
    ASSERT_TRUE(opened) << opened.error().detail;
    auto& store = **opened;
    const auto recovered = recover(store, folder, disk);
    ASSERT_TRUE(recovered) << recovered.error().detail;
    EXPECT_GE(recovered->last_fact, acknowledged);
    EXPECT_EQ(recovered->state.rows(), rows_after()[recovered->last_fact]);
    const auto log = store.extent().value();
    std::uint64_t next = 1;
    const auto files = store::list_segments(folder, disk).value();
    for (const auto& file : files) {
        if (file.first_fact >= log.first_fact) break;  // all its rows are in the log
        const auto segment = store::read_segment(file.path, disk);
        ASSERT_TRUE(segment) << segment.error().detail;
        EXPECT_EQ(segment->head.first_fact, next);
        next = segment->head.last_fact + 1;
    }
    EXPECT_GE(next, log.first_fact) << "a hole between the segments and the log";
}

TEST(KeepLogCuts, APowerCutAtAnyStepLosesNothingAndLeavesNoHole) {
    SimulatedDisk undisturbed{folder};
    const auto all = live(undisturbed);
    expect_whole(undisturbed, all);
    ASSERT_GT(store::list_segments(folder, undisturbed)->size(), 2U) << "the life is long enough to be worth cutting";
    for (const auto cut : {Cut::drop_unsynced, Cut::keep_some}) {
        for (std::uint64_t step = 1; step <= undisturbed.steps(); ++step) {
            SimulatedDisk disk{folder};
            disk.set_plan({.cut_at_step = step, .cut = cut, .seed = step});
            const auto acknowledged = live(disk);
            SCOPED_TRACE(testing::Message()
                         << "cut " << static_cast<int>(cut) << " at step " << step << ": " << disk.trace().back());
            disk.reboot();
            expect_whole(disk, acknowledged);
            if (step % 5 == 0) {
                const auto more = live(disk);
                EXPECT_GE(more, acknowledged + 60) << "it goes on from there";
                expect_whole(disk, more);
            }
            if (HasFailure()) return;
        }
    }
}

/// Which of the disk's syncs, counted from 1, were of snapshots and segments and their folders.
std::vector<std::uint64_t> syncs_of_ours(const SimulatedDisk& disk) {
    std::vector<std::uint64_t> ours;
    std::uint64_t number = 0;
    for (const auto& step : disk.trace()) {
        if (!step.starts_with("sync ")) continue;
        ++number;
        const bool is_ours = step.starts_with("sync /state/segments") || step.starts_with("sync /state/snapshots");
        if (is_ours) ours.push_back(number);
    }
    return ours;
}

TEST(KeepLogCuts, AFailedSyncForgetsNothingThatIsNotDurable) {
    SimulatedDisk undisturbed{folder};
    (void)live(undisturbed);
    const auto syncs = syncs_of_ours(undisturbed);
    ASSERT_GT(syncs.size(), 20U);
    for (const auto sync : syncs) {
        SimulatedDisk disk{folder};
        disk.set_plan({.fail_sync = sync});
        const auto acknowledged = live(disk);
        SCOPED_TRACE(testing::Message() << "sync " << sync);
        const auto more = live(disk);  // the process has ended, the machine has not: what it sees may not be durable
        disk.reboot();
        expect_whole(disk, std::max(acknowledged, more));
        if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace stargate::live
