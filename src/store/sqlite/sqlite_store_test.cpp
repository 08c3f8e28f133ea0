// What only a store in real files has: modes, locks, versions, readers beside the writer, damage.
#include "store/sqlite/sqlite_store.hpp"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/file.hpp"
#include "base/scratch_folder.hpp"
#include "store/doctor.hpp"
#include "store/sqlite/database.hpp"

namespace stargate::store {
namespace {

constexpr Instant at(std::int64_t seconds) { return Instant{std::chrono::seconds{seconds}}; }

/// Some rows of each kind, and a snapshot beside them.
void fill(const ScratchFolder& folder) {
    auto store = open_sqlite_store(folder.path()).value();
    ASSERT_TRUE(store->begin_term(0));
    Batch batch;
    batch.at = at(1);
    for (int i = 0; i < 40; ++i) {
        batch.inputs.push_back({at(1), 1, "input " + std::to_string(i)});
        batch.facts.push_back({1, "fact " + std::to_string(i) + std::string(300, 'x'), static_cast<std::uint32_t>(i)});
        const JobId job{static_cast<std::uint64_t>(i) + 1};
        batch.launches.push_back({job, 1, "launch"});
        batch.history.push_back({job, at(i), "history"});
        batch.keys.push_back({TenantId{1}, "key " + std::to_string(i), {}, job, at(100)});
    }
    ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
    ASSERT_TRUE(make_folder_durably(folder / "snapshots"));
    ASSERT_TRUE(write_durably(folder / "snapshots/snapshot-40", "state"));
    ASSERT_TRUE(store->add_snapshot({40, 40, "snapshot-40", digest_of("state"), true}));
}

std::string bytes_of(const std::string& path) { return read_file(path, mebibytes(64)).value(); }

void overwrite(const std::string& path, std::uint64_t offset, std::string_view bytes) {
    auto file = real_disk().open(path, Opening::edit).value();
    ASSERT_TRUE(file->write(offset, bytes));
}

/// Puts a whole file there, without any sync: these tests damage files by the hundred.
void place_file(const std::string& path, std::string_view bytes) {
    auto file = real_disk().open(path, Opening::edit_or_create).value();
    ASSERT_TRUE(file->truncate(0));
    ASSERT_TRUE(file->write(0, bytes));
}

TEST(SqliteStore, KeepsItsFilesToItsUser) {
    const ScratchFolder folder;
    auto store = open_sqlite_store(folder.path()).value();
    ASSERT_TRUE(store->begin_term(0));
    for (const auto* name : {"stargate.db", "stargate.db-wal", "stargate.db-shm", "lock"}) {
        struct stat status {};
        ASSERT_EQ(::stat((folder / name).c_str(), &status), 0) << name;
        EXPECT_EQ(status.st_mode & 0777U, 0600U) << name;
    }
}

TEST(SqliteStore, ExcludesASecondWriterByName) {
    const ScratchFolder folder;
    auto store = open_sqlite_store(folder.path()).value();
    const auto second = open_sqlite_store(folder.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().fault, Fault::conflict);
    EXPECT_NE(second.error().detail.find("pid " + std::to_string(::getpid())), std::string::npos)
        << second.error().detail;
    store.reset();
    EXPECT_TRUE(open_sqlite_store(folder.path()));
}

TEST(SqliteStore, IsReadBesideALiveWriterBatchByBatch) {
    const ScratchFolder folder;
    auto store = open_sqlite_store(folder.path()).value();
    auto reader = open_sqlite_reader(folder.path()).value();
    for (std::uint64_t n = 1; n <= 3; ++n) {
        Batch batch;
        batch.inputs = {{at(1), 1, "x"}};
        ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
        EXPECT_EQ(reader->extent().value().end_input, n + 1);
    }
}

TEST(SqliteStore, IsReadAfterItsWriterWasKilled) {
    const ScratchFolder folder;
    const auto child = ::fork();
    if (child == 0) {
        auto store = open_sqlite_store(folder.path()).value();
        Batch batch;
        batch.inputs = {{at(1), 1, "acknowledged"}};
        const bool is_written = store->commit(batch).outcome == Outcome::written;
        ::_exit(is_written ? 0 : 1);  // nothing is closed
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    EXPECT_EQ(open_sqlite_reader(folder.path()).value()->extent().value().end_input, 2U);
    EXPECT_EQ(open_sqlite_store(folder.path()).value()->extent().value().end_input, 2U);
}

TEST(SqliteStore, ACommitWritesWhereTheWalHasRoomAlready) {
    const ScratchFolder folder;
    auto store = open_sqlite_store(folder.path()).value();
    const auto size = std::filesystem::file_size(folder / "stargate.db-wal");
    for (int n = 1; n <= 20; ++n) {
        Batch batch;
        batch.inputs = {{at(n), 1, std::string(4000, 'x')}};
        ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
    }
    EXPECT_EQ(std::filesystem::file_size(folder / "stargate.db-wal"), size);
}

TEST(SqliteStore, MaintenanceMovesTheWalIntoTheDatabase) {
    const ScratchFolder folder;
    auto store = open_sqlite_store(folder.path()).value();
    const auto small = std::filesystem::file_size(folder / "stargate.db");
    Batch batch;
    for (int i = 0; i < 20'000; ++i) batch.facts.push_back({1, std::string(300, 'x'), std::nullopt});
    ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
    EXPECT_EQ(std::filesystem::file_size(folder / "stargate.db"), small) << "not within the commit";
    ASSERT_TRUE(store->maintain());
    EXPECT_GT(std::filesystem::file_size(folder / "stargate.db"), 20'000U * 300U);
}

TEST(SqliteStore, ANewerSchemaIsRefusedUntouched) {
    const ScratchFolder folder;
    fill(folder);
    overwrite(folder / "stargate.db", 60, std::string{"\0\0\0\2", 4});  // user_version
    const auto before = bytes_of(folder / "stargate.db");
    const auto refused = open_sqlite_store(folder.path());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().fault, Fault::denied);
    EXPECT_NE(refused.error().detail.find("schema version 2"), std::string::npos) << refused.error().detail;
    EXPECT_FALSE(real_disk().exists(folder / "stargate.db-wal"));
    EXPECT_EQ(open_sqlite_reader(folder.path()).error().fault, Fault::denied);
    EXPECT_EQ(examine_store(folder.path()).error().fault, Fault::denied);
    EXPECT_EQ(bytes_of(folder / "stargate.db"), before);
}

TEST(SqliteStore, AFileThatIsNoStoreIsRefusedUntouched) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "stargate.db", "my thesis"));
    EXPECT_EQ(open_sqlite_store(folder.path()).error().fault, Fault::malformed);
    EXPECT_EQ(bytes_of(folder / "stargate.db"), "my thesis");
}

TEST(SqliteStore, AWalWithoutItsDatabaseIsNotBuriedUnderAnEmptyStore) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "stargate.db-wal", "frames"));
    EXPECT_EQ(open_sqlite_store(folder.path()).error().fault, Fault::malformed);
    EXPECT_EQ(bytes_of(folder / "stargate.db-wal"), "frames");
}

TEST(SqliteStore, AGapInTheLogIsNeverReadOver) {
    const ScratchFolder folder;
    fill(folder);
    {
        auto database = Database::open(folder / "stargate.db", Access::read_write, "").value();
        ASSERT_TRUE(database.execute("DELETE FROM facts WHERE seq IN (1, 20)"));
    }
    auto reader = open_sqlite_reader(folder.path()).value();
    const auto all = [](const FactRow&) { return true; };
    EXPECT_TRUE(reader->read_facts(21, all));
    for (const std::uint64_t from : {1U, 2U, 20U}) {
        EXPECT_EQ(reader->read_facts(from, all).error().fault, Fault::malformed) << from;
    }
    EXPECT_EQ(examine_store(folder.path()).value().findings.size(), 2U);
}

TEST(SqliteStore, AReaderNeverTakesForgettingForDamage) {
    const ScratchFolder folder;
    fill(folder);
    auto store = open_sqlite_store(folder.path()).value();
    std::atomic<bool> is_over{false};
    std::string said;
    std::thread reading{[&] {
        auto reader = open_sqlite_reader(folder.path()).value();
        while (!is_over && said.empty()) {
            const auto read = reader->read_facts(1, [](const FactRow&) { return false; });
            if (!read) said = read.error().detail;
        }
    }};
    for (std::uint64_t before = 2; before <= 40; ++before) {
        Retention retention;
        retention.facts_before = before;
        EXPECT_EQ(store->forget(retention).value(), 1U);
    }
    is_over = true;
    reading.join();
    EXPECT_EQ(said, "");
}

/// SQLite's own file layer with a write that always fails, for as long as this lives.
class FailingWrites {
public:
    explicit FailingWrites(int error) {
        code = error;
        for (const auto* name : {"pwrite", "pwrite64"}) unix_layer()->xSetSystemCall(unix_layer(), name, failing());
    }
    FailingWrites(const FailingWrites&) = delete;
    FailingWrites& operator=(const FailingWrites&) = delete;
    ~FailingWrites() {
        for (const auto* name : {"pwrite", "pwrite64"}) unix_layer()->xSetSystemCall(unix_layer(), name, nullptr);
    }

private:
    static sqlite3_vfs* unix_layer() { return sqlite3_vfs_find("unix"); }
    static sqlite3_syscall_ptr failing() {
        return reinterpret_cast<sqlite3_syscall_ptr>(+[](int, const void*, std::size_t, off_t) -> ssize_t {
            errno = code;
            return -1;
        });
    }
    static inline int code = 0;
};

TEST(SqliteStore, AUsedUpQuotaIsAFullDisk) {
    const ScratchFolder folder;
    fill(folder);
    auto store = open_sqlite_store(folder.path()).value();
    Batch batch;
    batch.facts.push_back({1, "one more", {}});
    for (const int error : {EDQUOT, ENOSPC}) {
        const FailingWrites failing{error};
        const auto refused = store->commit(batch);
        EXPECT_EQ(refused.outcome, Outcome::not_written) << refused.error.detail;
        EXPECT_EQ(refused.error.fault, Fault::full) << refused.error.detail;
    }
    EXPECT_EQ(store->commit(batch).outcome, Outcome::written);
    EXPECT_EQ(store->extent().value().end_fact, 42U);
}

TEST(SqliteStore, AWriteThatFailedOtherwiseIsAnUnknownOutcome) {
    const ScratchFolder folder;
    fill(folder);
    auto store = open_sqlite_store(folder.path()).value();
    Batch batch;
    batch.facts.push_back({1, "one more", {}});
    const FailingWrites failing{EIO};
    EXPECT_EQ(store->commit(batch).outcome, Outcome::unknown);
}

TEST(Doctor, FindsNothingInASoundStore) {
    const ScratchFolder folder;
    EXPECT_EQ(examine_store(folder.path()).error().fault, Fault::not_found);
    fill(folder);
    const auto report = examine_store(folder.path()).value();
    EXPECT_TRUE(report.is_sound()) << report.findings[0].what;
    EXPECT_EQ(report.schema_version, 1);
    EXPECT_EQ(report.identity.term, 1U);
    EXPECT_EQ(report.log, (LogExtent{1, 41, 1, 41}));
    EXPECT_EQ(report.launches + report.history + report.keys, 120U);
    EXPECT_EQ(report.snapshots.size(), 1U);
}

TEST(Doctor, FindsASnapshotThatIsGoneOrAltered) {
    const ScratchFolder folder;
    fill(folder);
    ASSERT_TRUE(write_durably(folder / "snapshots/snapshot-40", "other"));
    EXPECT_EQ(examine_store(folder.path()).value().findings.size(), 1U);
    ASSERT_TRUE(remove_durably(folder / "snapshots/snapshot-40"));
    EXPECT_EQ(examine_store(folder.path()).value().findings.size(), 1U);
}

TEST(Doctor, FindsThatTheEndOfTheLogIsLostByASnapshotFromBeyondIt) {
    const ScratchFolder folder;
    fill(folder);
    {
        auto store = open_sqlite_store(folder.path()).value();
        ASSERT_TRUE(store->add_snapshot({41, 40, "snapshot-40", digest_of("state"), true}));
    }
    const auto report = examine_store(folder.path()).value();
    ASSERT_EQ(report.findings.size(), 1U);
    EXPECT_NE(report.findings[0].what.find("its end was lost"), std::string::npos);
}

/// What a control plane would have read at its start; empty as soon as something is refused as damaged.
std::string everything_read(const std::string& folder) {
    auto reader = open_sqlite_reader(folder);
    if (!reader) return {};
    std::string text;
    const auto inputs = (*reader)->read_inputs(1, [&](const InputRow& row) { return text += row.body, true; });
    const auto facts = (*reader)->read_facts(1, [&](const FactRow& row) { return text += row.body, true; });
    const auto history = (*reader)->newest_history(1000);
    if (!inputs || !facts || !history) return {};
    for (int i = 0; i < 40; ++i) {
        const auto launch = (*reader)->find_launch(JobId{static_cast<std::uint64_t>(i) + 1});
        const auto key = (*reader)->find_key(TenantId{1}, "key " + std::to_string(i));
        if (!launch || !key) return {};
        text += *launch ? (*launch)->body : "lost";
        text += *key ? (*key)->key : "lost";
    }
    return text;
}

TEST(Doctor, ReportsEveryFlippedByteThatMatters) {
    const ScratchFolder folder;
    fill(folder);
    const auto path = folder / "stargate.db";
    const auto sound = bytes_of(path);
    const auto truth = everything_read(folder.path());
    ASSERT_FALSE(truth.empty());
    int found = 0;
    int tried = 0;
    for (std::size_t place = 0; place < sound.size(); place += place < 100 ? 1 : 97) {
        const char flipped = static_cast<char>(sound[place] ^ 0x41);
        overwrite(path, place, {&flipped, 1});
        const auto report = examine_store(folder.path());
        const bool is_reported = !report || !report->is_sound();
        const auto read = everything_read(folder.path());
        // Free space may hold anything; and what is read without a word must be the truth.
        if (!is_reported) { EXPECT_EQ(read, truth) << "byte " << place; }
        found += is_reported ? 1 : 0;
        ++tried;
        overwrite(path, place, {&sound[place], 1});
        for (const auto* left : {"-wal", "-shm"}) std::filesystem::remove(path + left);
    }
    EXPECT_GT(found, tried / 3);
}

TEST(Doctor, ReportsATruncatedStore) {
    const ScratchFolder folder;
    fill(folder);
    const auto path = folder / "stargate.db";
    const auto sound = bytes_of(path);
    for (std::size_t size = 0; size < sound.size(); size += 1000) {
        place_file(path, sound.substr(0, size));
        const auto report = examine_store(folder.path());
        EXPECT_TRUE(!report || !report->is_sound()) << size;
        auto store = open_sqlite_store(folder.path());  // must not crash; what it opens, it reads or refuses
        if (store) (void)(*store)->read_facts(1, [](const FactRow&) { return true; });
        store = fail(Fault::not_found, "");
        for (const auto* left : {"-wal", "-shm"}) std::filesystem::remove(path + left);
    }
}

TEST(Doctor, ADamagedWalLosesItsEndButNeverHalfABatch) {
    const ScratchFolder folder;
    const ScratchFolder copy;
    auto store = open_sqlite_store(folder.path()).value();
    for (int n = 1; n <= 5; ++n) {
        Batch batch;
        batch.inputs = {{at(n), 1, "x"}, {at(n), 2, "y"}};
        batch.facts = {{1, std::string(600, 'f'), 0}};
        ASSERT_EQ(store->commit(batch).outcome, Outcome::written);
    }
    const auto database = bytes_of(folder / "stargate.db");
    auto wal = bytes_of(folder / "stargate.db-wal");
    wal.resize(wal.find_last_not_of('\0') + 1);
    for (std::size_t place = 0; place < wal.size(); place += 193) {
        auto damaged = wal;
        damaged[place] = static_cast<char>(damaged[place] ^ 0x10);
        if (place % 2 == 0) damaged.resize(place);
        place_file(copy / "stargate.db", database);
        place_file(copy / "stargate.db-wal", damaged);
        {
            auto reader = open_sqlite_reader(copy.path());
            ASSERT_TRUE(reader) << reader.error().detail;
            const auto log = (*reader)->extent().value();
            EXPECT_EQ(log.end_input - 1, 2 * (log.end_fact - 1));
        }
        for (const auto* left : {"-wal", "-shm"}) std::filesystem::remove(copy / "stargate.db" + left);
    }
}

}  // namespace
}  // namespace stargate::store
