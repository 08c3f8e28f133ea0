#include "engine/local/attempt_records.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/simulated_disk.hpp"

// An attempt runs once at most, and what was told of it holds, wherever the power goes.
namespace stargate::local {
namespace {

constexpr std::uint64_t attempt = 7;
constexpr Cut cuts[] = {Cut::drop_unsynced, Cut::keep_some, Cut::tear};

/// What a control plane was told of the attempt, and so may have written into its log.
enum class Told { nothing, ended, lost, never_began };

/// One machine: its disk, the shims and control planes that come and go on it, and what they brought about.
class Machine {
public:
    Machine() : disk{"/state/attempts"} {}

    SimulatedDisk disk;
    int ran = 0;

    [[nodiscard]] bool has_folder() { return disk.exists("/state/attempts/7"); }

    /// A shim from its start to its end, as far as the power lasts. Nobody holds the lock.
    void run_shim() {
        auto records = of_attempt();
        if (!records.claim() || records.is_buried() || !records.keep_claim()) return;
        ++ran;
        (void)records.keep_end({.obeyed = {}, .ended = {.code = 3, .final = true}});
    }

    /// A control plane that finds the folder's lock free, and answers for what it says.
    Told look() {
        auto records = of_attempt();
        if (!has_folder()) return Told::nothing;
        if (const auto end = records.end()) return end->ended.code == 3 ? Told::ended : Told::nothing;
        if (records.is_buried()) return Told::lost;
        return records.bury({}) ? Told::lost : Told::nothing;
    }

    /// An end that overtakes its start.
    Told bury_unborn() {
        auto records = of_attempt();
        return records.claim() && records.bury({}) && records.keep_claim() ? Told::never_began : Told::nothing;
    }

private:
    AttemptRecords of_attempt() { return {"/state", attempt, disk}; }
};

/// Calls `scenario` with a fresh machine whose power goes in its first step, its second, and so on, until it lasts.
template <class Scenario>
void cut_everywhere(Scenario scenario) {
    for (const auto cut : cuts) {
        for (std::uint64_t seed = 1; seed <= 8; ++seed) {
            bool was_cut = true;
            for (std::uint64_t step = 1; was_cut; ++step) {
                SCOPED_TRACE("cut " + std::to_string(static_cast<int>(cut)) + " seed " + std::to_string(seed) +
                             " at step " + std::to_string(step));
                Machine machine;
                const FaultPlan plan{.cut_at_step = step, .cut = cut, .seed = seed};
                machine.disk.set_plan(plan);
                was_cut = scenario(machine, plan);
            }
        }
    }
}

/// The records of an attempt whose shim died with its claim kept and nothing else; the plan's cut counts from there.
AttemptRecords claimed_before(Machine& machine, const FaultPlan& plan) {
    machine.disk.set_plan({});
    AttemptRecords records{"/state", attempt, machine.disk};
    EXPECT_TRUE(records.claim() && records.keep_claim());
    auto later = plan;
    later.cut_at_step += machine.disk.steps();
    machine.disk.set_plan(later);
    return records;
}

TEST(AttemptRecords, AShimThatLosesPowerAnywhereRunsItsAttemptOnce) {
    cut_everywhere([](Machine& machine, const FaultPlan&) {
        machine.run_shim();
        const bool was_cut = machine.disk.is_cut();
        machine.disk.reboot();
        const auto told = machine.look();
        if (told == Told::nothing) { EXPECT_EQ(machine.ran, 0) << "its trace is gone"; }
        if (told == Told::ended) { EXPECT_EQ(machine.ran, 1); }
        machine.run_shim();  // the start is owed still, or comes twice
        EXPECT_LE(machine.ran, 1);
        EXPECT_EQ(machine.look(), told == Told::nothing ? Told::ended : told);
        return was_cut;
    });
}

TEST(AttemptRecords, WhatWasSaidToBeLostStaysSoWhenThePowerGoesAgain) {
    cut_everywhere([](Machine& machine, const FaultPlan& plan) {
        (void)claimed_before(machine, plan);
        const auto told = machine.look();
        const bool was_cut = machine.disk.is_cut();
        machine.disk.reboot();
        if (told == Told::lost) {
            machine.run_shim();  // one that was on its way to the lock
            EXPECT_EQ(machine.ran, 0);
            EXPECT_EQ(machine.look(), Told::lost);
        }
        return was_cut;
    });
}

TEST(AttemptRecords, AnEndThatOvertookItsStartHoldsAfterAPowerCut) {
    cut_everywhere([](Machine& machine, const FaultPlan&) {
        const auto told = machine.bury_unborn();
        const bool was_cut = machine.disk.is_cut();
        machine.disk.reboot();
        machine.run_shim();
        if (told == Told::never_began) { EXPECT_EQ(machine.ran, 0); }
        EXPECT_NE(machine.look(), Told::nothing);
        return was_cut;
    });
}

TEST(AttemptRecords, AnEndIsKeptWholeOrNotAtAll) {
    cut_everywhere([](Machine& machine, const FaultPlan& plan) {
        auto records = claimed_before(machine, plan);
        const bool was_kept = records.keep_end({.obeyed = {}, .ended = {.code = 3}}).has_value();
        const bool was_cut = machine.disk.is_cut();
        machine.disk.reboot();
        const auto end = records.end();
        EXPECT_TRUE(end || !was_kept);
        EXPECT_TRUE(!end || end->ended.code == 3);
        return was_cut;
    });
}

TEST(AttemptRecords, OfManyThatClaimOneSucceeds) {
    Machine machine;
    AttemptRecords first{"/state", attempt, machine.disk};
    AttemptRecords second{"/state", attempt, machine.disk};
    EXPECT_TRUE(first.claim());
    const auto again = second.claim();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().fault, Fault::conflict);
}

TEST(AttemptRecords, AFullDiskLeavesAnEmptyFolderNoClaimOfAnEnd) {
    Machine machine;
    AttemptRecords records{"/state", attempt, machine.disk};
    ASSERT_TRUE(records.claim() && records.keep_claim());
    machine.disk.set_plan({.full_from_step = 1});
    const auto kept = records.keep_end({.obeyed = {}, .ended = {.code = 3}});
    ASSERT_FALSE(kept);
    EXPECT_EQ(kept.error().fault, Fault::full);
    EXPECT_FALSE(records.end());
    machine.disk.set_plan({});
    EXPECT_TRUE(records.keep_end({.obeyed = {}, .ended = {.code = 3}}));
    EXPECT_TRUE(records.end());
}

}  // namespace
}  // namespace stargate::local
