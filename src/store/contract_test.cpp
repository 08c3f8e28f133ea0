// What every store promises, whatever it is made of.
#include <gtest/gtest.h>

#include "base/scratch_folder.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::store {
namespace {

/// How the suite opens a store, ends its process and opens it again.
class MemoryWorld {
public:
    Store& store() { return store_; }
    void reopen() { store_.restart(); }

private:
    MemoryStore store_;
};

class SqliteWorld {
public:
    SqliteWorld() { reopen(); }
    Store& store() { return *store_; }
    void reopen() {
        store_.reset();
        auto opened = open_sqlite_store(folder_.path());
        CHECK(opened.has_value());
        store_ = std::move(*opened);
    }

private:
    ScratchFolder folder_;
    std::unique_ptr<Store> store_;
};

template <class World>
class StoreContract : public testing::Test {
protected:
    World world;
    Store& store() { return world.store(); }
    void commit(const Batch& batch) { ASSERT_EQ(store().commit(batch).outcome, Outcome::written); }
};

using Worlds = testing::Types<MemoryWorld, SqliteWorld>;
struct WorldName {
    template <class World>
    static std::string GetName(int) {
        return std::is_same_v<World, MemoryWorld> ? "Memory" : "Sqlite";
    }
};
TYPED_TEST_SUITE(StoreContract, Worlds, WorldName);

constexpr Instant at(std::int64_t seconds) { return Instant{std::chrono::seconds{seconds}}; }

std::vector<std::string> inputs_of(Reader& reader, std::uint64_t from = 1) {
    std::vector<std::string> text;
    EXPECT_TRUE(reader.read_inputs(from, [&](const InputRow& row) {
        text.push_back(std::to_string(row.seq) + ":" + std::string{row.body});
        return true;
    }));
    return text;
}

std::vector<std::string> facts_of(Reader& reader, std::uint64_t from = 1) {
    std::vector<std::string> text;
    EXPECT_TRUE(reader.read_facts(from, [&](const FactRow& row) {
        text.push_back(std::to_string(row.seq) + "<" + std::to_string(row.input_seq) + ":" + std::string{row.body});
        return true;
    }));
    return text;
}

using Texts = std::vector<std::string>;

Batch two_inputs_three_facts() {
    Batch batch;
    batch.at = at(10);
    batch.inputs = {{at(9), 1, "submit"}, {at(10), 2, "pass"}};
    batch.facts = {{7, "submitted", 0}, {8, "started", 1}, {9, "soft", std::nullopt}};
    return batch;
}

TYPED_TEST(StoreContract, BeginsEmpty) {
    EXPECT_EQ(this->store().extent().value(), LogExtent{});
    EXPECT_EQ(this->store().identity().value().term, 0U);
    EXPECT_TRUE(this->store().snapshots().value().empty());
    EXPECT_TRUE(this->store().newest_history(10).value().empty());
}

TYPED_TEST(StoreContract, ATermRisesAndStays) {
    const auto first = this->store().begin_term(0).value();
    EXPECT_EQ(first.term, 1U);
    this->world.reopen();
    const auto second = this->store().begin_term(0).value();
    EXPECT_EQ(second.term, 2U);
    EXPECT_EQ(second.incarnation, first.incarnation);
    const auto restored = this->store().renew_incarnation().value();
    EXPECT_NE(restored.incarnation, first.incarnation);
    EXPECT_EQ(restored.term, 2U);
    EXPECT_EQ(this->store().identity().value(), restored);
}

TYPED_TEST(StoreContract, ATermRisesBeyondWhatExecutorsObey) {
    EXPECT_EQ(this->store().begin_term(40)->term, 41U);
    EXPECT_EQ(this->store().begin_term(3)->term, 42U);
}

TYPED_TEST(StoreContract, NumbersInputsAndFactsWithoutAGap) {
    const auto first = this->store().commit(two_inputs_three_facts());
    EXPECT_EQ(first.outcome, Outcome::written);
    EXPECT_EQ(first.first_input, 1U);
    EXPECT_EQ(first.first_fact, 1U);
    this->world.reopen();
    const auto second = this->store().commit(two_inputs_three_facts());
    EXPECT_EQ(second.first_input, 3U);
    EXPECT_EQ(second.first_fact, 4U);
    EXPECT_EQ(inputs_of(this->store()), (Texts{"1:submit", "2:pass", "3:submit", "4:pass"}));
    EXPECT_EQ(facts_of(this->store(), 2),
              (Texts{"2<2:started", "3<0:soft", "4<3:submitted", "5<4:started", "6<0:soft"}));
    EXPECT_EQ(this->store().extent().value(), (LogExtent{1, 5, 1, 7}));
}

TYPED_TEST(StoreContract, GivesBackWhatItWasGiven) {
    const std::string any_bytes{"\0\xff '\n", 5};
    Batch batch;
    batch.inputs = {{Instant{Duration{-1}}, 65535, any_bytes}, {never, 0, ""}};
    this->commit(batch);
    std::vector<LoggedInput> read;
    ASSERT_TRUE(this->store().read_inputs(0, [&](const InputRow& row) {
        read.push_back({row.at, row.type, std::string{row.body}});
        return true;
    }));
    EXPECT_EQ(read, batch.inputs);
}

TYPED_TEST(StoreContract, ReadingStopsWhenTheVisitorHasEnough) {
    this->commit(two_inputs_three_facts());
    int seen = 0;
    ASSERT_TRUE(this->store().read_facts(1, [&](const FactRow&) { return ++seen < 2; }));
    EXPECT_EQ(seen, 2);
    EXPECT_EQ(facts_of(this->store()).size(), 3U) << "and the next reading begins anew";
}

TYPED_TEST(StoreContract, AnEmptyBatchIsFine) {
    const auto done = this->store().commit({});
    EXPECT_EQ(done.outcome, Outcome::written);
    EXPECT_EQ(done.first_fact, 1U);
}

TYPED_TEST(StoreContract, OneLaunchServesAWholeArray) {
    Batch batch;
    batch.launches = {{JobId{10}, 1, "single"}, {JobId{20}, 5, "array"}};
    this->commit(batch);
    const auto body = [&](std::uint64_t job) {
        const auto row = this->store().find_launch(JobId{job}).value();
        return row ? row->body : "none";
    };
    EXPECT_EQ(body(9), "none");
    EXPECT_EQ(body(10), "single");
    EXPECT_EQ(body(11), "none");
    EXPECT_EQ(body(20), "array");
    EXPECT_EQ(body(24), "array");
    EXPECT_EQ(body(25), "none");
}

TYPED_TEST(StoreContract, AConflictWritesNothingOfItsBatch) {
    Batch batch = two_inputs_three_facts();
    batch.launches = {{JobId{1}, 1, "one"}};
    batch.history = {{JobId{1}, at(5), "ended"}};
    this->commit(batch);
    for (int which = 0; which < 2; ++which) {
        Batch again = two_inputs_three_facts();
        (which == 0 ? again.launches.push_back({JobId{1}, 1, "two"})
                    : again.history.push_back({JobId{1}, at(6), "again"}));
        const auto refused = this->store().commit(again);
        EXPECT_EQ(refused.outcome, Outcome::not_written);
        EXPECT_EQ(refused.error.fault, Fault::conflict);
    }
    EXPECT_EQ(this->store().extent().value(), (LogExtent{1, 3, 1, 4}));
    EXPECT_EQ(this->store().commit(two_inputs_three_facts()).first_fact, 4U) << "no seq was used up";
}

TYPED_TEST(StoreContract, AKeyIsFreeAgainOnceItHasExpired) {
    Batch batch;
    batch.at = at(100);
    batch.keys = {{TenantId{1}, "k", {1}, JobId{7}, at(200)}};
    this->commit(batch);
    EXPECT_EQ(this->store().find_key(TenantId{1}, "k").value(), batch.keys[0]);
    EXPECT_FALSE(this->store().find_key(TenantId{2}, "k").value());
    EXPECT_FALSE(this->store().find_key(TenantId{1}, "K").value());
    Batch early = batch;
    early.at = at(199);
    EXPECT_EQ(this->store().commit(early).error.fault, Fault::conflict);
    Batch late = batch;
    late.at = at(200);
    late.keys[0].first_job = JobId{8};
    this->commit(late);
    EXPECT_EQ(this->store().find_key(TenantId{1}, "k").value()->first_job, JobId{8});
}

TYPED_TEST(StoreContract, HistoryIsListedNewestFirstAndInPages) {
    Batch batch;
    batch.history = {
        {JobId{1}, at(30), "a"}, {JobId{2}, at(10), "b"}, {JobId{3}, at(30), "c"}, {JobId{4}, at(20), "d"}};
    this->commit(batch);
    const auto page = this->store().newest_history(2).value();
    ASSERT_EQ(page.size(), 2U);
    EXPECT_EQ(page[0].body + page[1].body, "ca");
    const auto rest = this->store().newest_history(9, &page.back()).value();
    ASSERT_EQ(rest.size(), 2U);
    EXPECT_EQ(rest[0].body + rest[1].body, "db");
    EXPECT_EQ(this->store().find_history(JobId{4}).value()->at, at(20));
    EXPECT_FALSE(this->store().find_history(JobId{5}).value());
}

TYPED_TEST(StoreContract, SnapshotsAreRegisteredVerifiedAndForgotten) {
    ASSERT_TRUE(this->store().add_snapshot({5, 2, "snapshot-5", {1}, false}));
    ASSERT_TRUE(this->store().add_snapshot({9, 4, "snapshot-9", {2}, false}));
    EXPECT_EQ(this->store().add_snapshot({9, 4, "again", {2}, false}).error().fault, Fault::conflict);
    ASSERT_TRUE(this->store().mark_verified(5));
    EXPECT_EQ(this->store().mark_verified(6).error().fault, Fault::not_found);
    this->world.reopen();
    const auto rows = this->store().snapshots().value();
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0], (SnapshotRow{9, 4, "snapshot-9", {2}, false}));
    EXPECT_EQ(rows[1], (SnapshotRow{5, 2, "snapshot-5", {1}, true}));
    ASSERT_TRUE(this->store().forget_snapshot(9));
    EXPECT_EQ(this->store().forget_snapshot(9).error().fault, Fault::not_found);
    EXPECT_EQ(this->store().snapshots().value().size(), 1U);
}

TYPED_TEST(StoreContract, ForgetsOnlyWhatItIsToldTo) {
    Batch batch = two_inputs_three_facts();
    batch.launches = {{JobId{1}, 1, "one"}, {JobId{2}, 3, "array"}};
    batch.history = {{JobId{1}, at(10), "old"}, {JobId{2}, at(20), "new"}};
    batch.keys = {{TenantId{1}, "old", {}, JobId{1}, at(15)}, {TenantId{1}, "new", {}, JobId{2}, at(16)}};
    this->commit(batch);
    EXPECT_EQ(this->store().forget({}).value(), 0U);
    Retention retention;
    retention.keys_expired_before = at(16);
    retention.history_before = at(20);
    retention.launches = {JobId{1}, JobId{77}};
    EXPECT_EQ(this->store().forget(retention).value(), 3U);
    EXPECT_EQ(this->store().forget(retention).value(), 0U);
    EXPECT_FALSE(this->store().find_key(TenantId{1}, "old").value());
    EXPECT_TRUE(this->store().find_key(TenantId{1}, "new").value());
    EXPECT_EQ(this->store().newest_history(9).value().size(), 1U);
    EXPECT_FALSE(this->store().find_launch(JobId{1}).value());
    EXPECT_TRUE(this->store().find_launch(JobId{4}).value());
    EXPECT_EQ(facts_of(this->store()).size(), 3U);
}

TYPED_TEST(StoreContract, AForgottenLogGoesOnCounting) {
    this->commit(two_inputs_three_facts());
    this->commit(two_inputs_three_facts());
    Retention retention;
    retention.inputs_before = 2;
    retention.facts_before = 99;
    retention.row_limit = 4;
    EXPECT_EQ(this->store().forget(retention).value(), 5U) << "one input, and four facts in this call";
    EXPECT_EQ(this->store().forget(retention).value(), 2U);
    EXPECT_EQ(this->store().forget(retention).value(), 0U);
    this->world.reopen();
    EXPECT_EQ(this->store().extent().value(), (LogExtent{2, 5, 7, 7}));
    EXPECT_EQ(inputs_of(this->store(), 1)[0], "2:pass");
    EXPECT_EQ(this->store().commit(two_inputs_three_facts()).first_fact, 7U);
    EXPECT_EQ(facts_of(this->store())[0], "7<5:submitted");
}

TYPED_TEST(StoreContract, MaintenanceChangesNothingToSee) {
    Batch batch;
    for (int i = 0; i < 20'000; ++i) batch.facts.push_back({1, std::string(300, 'x'), std::nullopt});
    this->commit(batch);
    ASSERT_TRUE(this->store().maintain());
    this->commit(two_inputs_three_facts());
    ASSERT_TRUE(this->store().maintain());
    this->world.reopen();
    EXPECT_EQ(this->store().extent().value(), (LogExtent{1, 3, 1, 20'004}));
}

TEST(MemoryStore, ObeysTheFateOfACommit) {
    MemoryStore store;
    store.set_next_commit(MemoryStore::Fate::refused_full);
    EXPECT_EQ(store.commit(two_inputs_three_facts()).outcome, Outcome::not_written);
    EXPECT_EQ(store.commit(two_inputs_three_facts()).outcome, Outcome::written);
    store.set_next_commit(MemoryStore::Fate::unknown_but_written);
    EXPECT_EQ(store.commit(two_inputs_three_facts()).outcome, Outcome::unknown);
    EXPECT_EQ(store.commit(two_inputs_three_facts()).outcome, Outcome::unknown) << "stopped until the next start";
    store.restart();
    EXPECT_EQ(store.extent().value().end_fact, 7U);
    store.set_next_commit(MemoryStore::Fate::unknown_and_lost);
    EXPECT_EQ(store.commit(two_inputs_three_facts()).outcome, Outcome::unknown);
    store.restart();
    EXPECT_EQ(store.extent().value().end_fact, 7U);
}

}  // namespace
}  // namespace stargate::store
