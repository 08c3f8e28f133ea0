#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/file.hpp"
#include "base/scratch_folder.hpp"
#include "core/evolve.hpp"
#include "core/log.hpp"
#include "store/memory_store.hpp"
#include "store/segment.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "twin/replay.hpp"
#include "twin/run.hpp"
#include "twin/scenario.hpp"

namespace stargate::twin {
namespace {

std::string scenario(const std::string& name) {
    std::ifstream file{std::string{STARGATE_SOURCE_DIR} + "/tests/scenario/" + name};
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

RunReport run(const std::string& name, std::uint64_t seed, std::vector<std::string> overrides = {},
              store::Store* store = nullptr) {
    RunOptions options;
    options.scenario = scenario(name);
    options.seed = seed;
    options.overrides = std::move(overrides);
    options.store = store;
    const auto report = run_scenario(options);
    EXPECT_TRUE(report) << (report ? "" : report.error().detail);
    if (!report) return {};
    EXPECT_EQ(report->broken, "") << name << " --seed " << seed;
    return *report;
}

TEST(Twin, SameSeedIsTheSameRunAndAnotherSeedAnother) {
    const auto once = run("chaos.yaml", 7);
    EXPECT_EQ(run("chaos.yaml", 7).digest, once.digest);
    EXPECT_NE(run("chaos.yaml", 8).digest, once.digest);
}

TEST(Twin, LookingCloselyChangesNothing) {
    // Checks probe and undo, and rebuild all derived data at random points: no decision may differ.
    EXPECT_EQ(run("chaos.yaml", 9).digest, run("chaos.yaml", 9, {"check_every=0"}).digest);
}

TEST(Twin, ChaosHasEveryKindOfFaultAndManyFacts) {
    const auto report = run("chaos.yaml", 3);
    EXPECT_GT(report.facts, 1000U);
    for (const auto* kind :
         {"command_refused",  "command_stale",  "control_plane_death", "link_loss",     "node_crash",
          "node_dead",        "node_gone",      "node_rebooted",       "node_reshaped", "node_silent",
          "quota_lowered",    "report_doubled", "report_late",         "report_lost",   "report_reordered",
          "settings_changed", "start_refused",  "store_full",          "store_unknown", "stray_found"}) {
        EXPECT_GT(report.faults.count(kind), 0U) << kind;
    }
    for (const auto name : fact_names) {
        EXPECT_GT(report.facts_by_type.count(std::string{name}), 0U) << name << " never happened";
    }
}

TEST(Twin, NothingBreaksInChaos) {
    // Fresh seeds on demand: STARGATE_SEEDS=first..last
    std::uint64_t first = 100, last = 120;
    if (const auto* range = std::getenv("STARGATE_SEEDS")) {
        char* end = nullptr;
        first = std::strtoull(range, &end, 10);
        last = *end == '.' ? std::strtoull(end + 2, nullptr, 10) : first;
    }
    for (auto seed = first; seed <= last; ++seed) run("chaos.yaml", seed);
}

TEST(Twin, APassThatIsCutOffWakesItself) {
    // The checks see whether a job could have started and nobody was woken to decide so.
    run("chaos.yaml", 4, {"settings.pass_steps=8", "check_every=50"});
    run("chaos.yaml", 12, {"settings.pass_steps=8", "check_every=50"});
}

TEST(Twin, SeedsThatFoundSomethingFindNothingMore) {
    std::ifstream file{std::string{STARGATE_SOURCE_DIR} + "/tests/seeds/chaos.txt"};
    std::size_t seeds = 0;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line.front() == '#') continue;
        run("chaos.yaml", std::strtoull(line.c_str(), nullptr, 10));
        ++seeds;
    }
    EXPECT_GT(seeds, 0U);
}

TEST(Twin, ThroughSqliteItIsTheSameRun) {
    const ScratchFolder folder;
    const auto store = store::open_sqlite_store(folder.path());
    ASSERT_TRUE(store) << store.error().detail;
    const auto through = run("chaos.yaml", 11, {"duration=90s", "workload.at_start=20"}, store->get());
    EXPECT_EQ(through.digest, run("chaos.yaml", 11, {"duration=90s", "workload.at_start=20"}).digest);
    const auto again = replay(**store);
    ASSERT_TRUE(again) << again.error().detail;
    EXPECT_FALSE(again->difference) << replay_json(*again);
    EXPECT_EQ(again->compared, through.facts);
}

TEST(Twin, ChurnHoldsAtAThousandNodes) {
    const auto report = run("churn.yaml", 1, {"duration=20s", "check_every=20000"});
    EXPECT_GT(report.jobs, 1000U);
}

/// A run whose whole log is kept.
std::unique_ptr<store::MemoryStore> kept_run(std::uint64_t seed) {
    auto log = std::make_unique<store::MemoryStore>();
    run("chaos.yaml", seed, {"duration=10m"}, log.get());
    return log;
}

/// The same log with `change` made to the body of one fact.
std::unique_ptr<store::MemoryStore> altered(store::MemoryStore& log, std::uint64_t seq,
                                            const std::function<void(LogEntry&)>& change) {
    store::Batch batch;
    std::map<std::uint64_t, std::uint32_t> index;
    EXPECT_TRUE(log.read_inputs(1, [&](const store::InputRow& row) {
        index[row.seq] = static_cast<std::uint32_t>(batch.inputs.size());
        batch.inputs.push_back({row.at, row.type, std::string{row.body}});
        return true;
    }));
    EXPECT_TRUE(log.read_facts(1, [&](const store::FactRow& row) {
        auto entry = decode_entry(row.body);
        if (row.seq == seq) change(*entry);
        batch.facts.push_back({row.type, encode_entry(entry->at, entry->cause, entry->fact), index.at(row.input_seq)});
        return true;
    }));
    auto copy = std::make_unique<store::MemoryStore>();
    EXPECT_EQ(copy->commit(batch).outcome, store::Outcome::written);
    return copy;
}

TEST(Replay, OfARunsOwnLogIsEqual) {
    const auto log = kept_run(5);
    const auto report = replay(*log);
    ASSERT_TRUE(report) << report.error().detail;
    EXPECT_FALSE(report->difference) << replay_json(*report);
    EXPECT_EQ(report->from_fact, 1U);
    EXPECT_EQ(report->compared, log->extent()->end_fact - 1);
}

TEST(Replay, FindsOneAlteredFact) {
    const auto log = kept_run(5);
    std::uint64_t seq = 0;
    ASSERT_TRUE(log->read_facts(300, [&](const store::FactRow& row) {
        if (std::holds_alternative<Started>(decode_entry(row.body)->fact)) seq = row.seq;
        return seq == 0;
    }));
    const auto other = altered(*log, seq, [](LogEntry& entry) { std::get<Started>(entry.fact).limit += Duration{1}; });
    const auto report = replay(*other);
    ASSERT_TRUE(report) << report.error().detail;
    ASSERT_TRUE(report->difference);
    EXPECT_EQ(report->difference->seq, seq);
    EXPECT_NE(report->difference->logged, report->difference->decided);
}

TEST(Replay, FindsThatTheLastInputsAreMissing) {
    const auto log = kept_run(5);
    const auto extent = log->extent();
    std::uint64_t last_kept = 0;
    store::Batch facts_alone;
    ASSERT_TRUE(log->read_facts(extent->end_fact - 1, [&](const store::FactRow& row) {
        facts_alone.facts.push_back({row.type, std::string{row.body}, std::nullopt});
        last_kept = row.seq;
        return true;
    }));
    ASSERT_EQ(log->commit(facts_alone).outcome, store::Outcome::written);
    const auto report = replay(*log);
    ASSERT_TRUE(report) << report.error().detail;
    ASSERT_TRUE(report->difference);
    EXPECT_EQ(report->difference->seq, last_kept + 1);
    EXPECT_EQ(report->difference->decided, "");
}

TEST(Replay, BeginsAtASnapshotWhereTheLogIsTrimmed) {
    const ScratchFolder folder;
    const auto log = kept_run(5);
    std::vector<store::SnapshotRow> rows;
    for (const auto share : {3U, 2U}) {  // after the first third, and after half of it
        Folded half;
        const auto until = log->extent()->end_fact / share;
        ASSERT_TRUE(log->read_facts(1, [&](const store::FactRow& row) {
            if (row.seq > until && row.input_seq > half.last_input) return false;
            const auto entry = decode_entry(row.body);
            evolve(half.state, entry->at, entry->fact);
            half.last_fact = row.seq;
            half.last_input = row.input_seq;
            return true;
        }));
        const auto bytes = half.state.rows();
        rows.push_back({half.last_fact, half.last_input, std::to_string(share), digest_of(bytes), false});
        if (share == 3U) { ASSERT_TRUE(make_folder_durably(folder.path() + "/snapshots")); }
        ASSERT_TRUE(write_durably(store::snapshot_path(folder.path(), rows.back()), bytes));
        ASSERT_TRUE(log->add_snapshot(rows.back()));
    }
    store::Retention retention;
    retention.inputs_before = rows[0].input_seq + 1;
    retention.facts_before = rows[0].fact_seq + 1;
    while (*log->forget(retention) > 0) {}
    EXPECT_FALSE(replay(*log)) << "the first rows are not there";
    auto begin = where_to_begin(*log, folder.path());
    ASSERT_TRUE(begin) << begin.error().detail;
    const auto report = replay(*log, std::move(*begin));
    ASSERT_TRUE(report) << report.error().detail;
    EXPECT_FALSE(report->difference) << replay_json(*report);
    EXPECT_EQ(report->from_fact, rows[0].fact_seq + 1) << "the oldest snapshot leaves most to compare";
    EXPECT_EQ(report->compared, log->extent()->end_fact - report->from_fact);
    ASSERT_TRUE(log->mark_verified(rows[1].fact_seq));
    begin = where_to_begin(*log, folder.path());
    ASSERT_TRUE(begin) << begin.error().detail;
    EXPECT_EQ(begin->last_fact, rows[1].fact_seq) << "the older one has not been compared with the log";
    retention.inputs_before = rows[1].input_seq + 2;  // the input that would come next is gone
    while (*log->forget(retention) > 0) {}
    EXPECT_FALSE(where_to_begin(*log, folder.path()));
}

TEST(Fold, RefusesAHoleAtTheFrontAndASnapshotBeyondTheEnd) {
    const auto log = kept_run(5);
    const auto end = log->extent()->end_fact;
    EXPECT_TRUE(fold_log(*log));
    EXPECT_TRUE(fold_log(*log, {State{}, end - 1, 0})) << "nothing is left to fold";
    EXPECT_FALSE(fold_log(*log, {State{}, end, 0}));
    store::Retention retention;
    retention.facts_before = 10;
    while (*log->forget(retention) > 0) {}
    EXPECT_FALSE(fold_log(*log));
    EXPECT_FALSE(fold_log(*log, {State{}, 8, 0}));
}

TEST(Replay, FindsOneAlteredPolicy) {
    const auto log = kept_run(5);
    ReplayOptions options;
    options.settings = read_scenario(scenario("chaos.yaml"), {"settings.quiet_period=2s"})->settings;
    const auto report = replay(*log, {}, options);
    ASSERT_TRUE(report) << report.error().detail;
    ASSERT_TRUE(report->difference) << "a shorter quiet period changed nothing";
    EXPECT_GT(report->compared, 10U);
}

TEST(ScenarioFile, SaysWhereItIsWrong) {
    const auto wrong = [](const std::string& override_) {
        const auto read = read_scenario(scenario("chaos.yaml"), {override_});
        return read ? std::string{} : read.error().detail;
    };
    EXPECT_EQ(wrong("faults.node_loss=60s"), "");
    EXPECT_NE(wrong("faults.node_los=60s").find("faults.node_los"), std::string::npos);
    EXPECT_NE(wrong("duration=soon").find("duration"), std::string::npos);
    EXPECT_NE(wrong("workload.kinds.0.priority=royal").find("royal"), std::string::npos);
    EXPECT_NE(wrong("workload.kinds.99.mean=1s"), "");
    EXPECT_NE(wrong("duration"), "");
}

}  // namespace
}  // namespace stargate::twin
