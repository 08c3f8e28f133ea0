#include "live/follower.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "base/codec.hpp"
#include "live/recover.hpp"
#include "store/sqlite/sqlite_store.hpp"

extern char** environ;

namespace stargate::live {

namespace {
/// Facts between two snapshots. Folding so many takes well under a second, which bounds a recovery.
constexpr std::uint64_t facts_between = 200'000;

struct PrintedRow {
    std::uint64_t fact_seq = 0;
    std::uint64_t input_seq = 0;
    std::string file;
    Digest digest{};
};
BOOST_DESCRIBE_STRUCT(PrintedRow, (), (fact_seq, input_seq, file, digest))

std::string read_all(int from) {
    std::string bytes;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = ::read(from, buffer.data(), buffer.size())) > 0;) {
        bytes.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return bytes;
}
}  // namespace

Follower::Follower(std::string program, std::string folder, Writer& writer, std::uint64_t last_snapshot)
    : program_{std::move(program)},
      folder_{std::move(folder)},
      writer_{writer},
      snapshot_{last_snapshot},
      newest_{last_snapshot},
      thread_{[this] { work(); }} {}

Follower::~Follower() {
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    reached_.notify_one();
    thread_.join();
}

void Follower::log_reached(std::uint64_t fact) {
    bool enough = false;
    {
        const std::lock_guard lock{mutex_};
        newest_ = fact;
        enough = newest_ - snapshot_ >= facts_between;
    }
    if (enough) reached_.notify_one();
}

void Follower::work() {
    std::unique_lock lock{mutex_};
    while (true) {
        reached_.wait(lock, [this] { return stopping_ || newest_ - snapshot_ >= facts_between; });
        if (stopping_) return;
        lock.unlock();
        make_one();
        lock.lock();
    }
}

void Follower::make_one() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::array<std::string, 4> words{program_, "follower", "--state", folder_};
    std::array<char*, 5> arguments{words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
    pid_t child = 0;
    const int failed = posix_spawn(&child, program_.c_str(), &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    const auto printed = failed == 0 ? read_all(ends[0]) : std::string{};
    ::close(ends[0]);
    int status = 1;
    if (failed == 0) ::waitpid(child, &status, 0);
    const auto row = decoded<PrintedRow>(printed);
    const std::lock_guard lock{mutex_};
    if (status != 0 || !row) {
        std::fprintf(stderr, "stargate: no snapshot was made (status %d); the log still has everything\n", status);
        snapshot_ = newest_;  // try again after as many facts, not at once
        return;
    }
    snapshot_ = row->fact_seq;
    writer_.between_batches([row = *row](store::Store& store) {
        (void)store.add_snapshot({row.fact_seq, row.input_seq, row.file, row.digest, false});
    });
}

int follow_once(const std::string& folder) {
    const auto reader = store::open_sqlite_reader(folder);
    if (!reader) {
        fmt::print(stderr, "stargate: {}\n", reader.error().detail);
        return 1;
    }
    const auto row = write_snapshot(**reader, folder);
    if (!row) {
        fmt::print(stderr, "stargate: {}\n", row.error().detail);
        return 1;
    }
    const auto printed = encoded(PrintedRow{row->fact_seq, row->input_seq, row->file, row->digest});
    std::fwrite(printed.data(), 1, printed.size(), stdout);
    return 0;
}

}  // namespace stargate::live
