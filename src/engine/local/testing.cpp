#include "engine/local/testing.hpp"

#include <sys/stat.h>
#include <unistd.h>
#include <map>
#include <thread>

#include "engine/local/end_all.hpp"

namespace stargate::local::testing {

namespace fs = std::filesystem;

bool LocalEngineTest::is_root() { return geteuid() == 0; }

void LocalEngineTest::SetUp() {
    char name[] = "/tmp/stargate-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
    chmod(name, 0755);
    state_ = root_ / "state";
    submit_ = root_ / "submit";
    home_ = root_ / "home";
    // As root the job is somebody else; as an ordinary user it can only be ourselves.
    account_ = {.uid = is_root() ? 12345 : geteuid(),
                .gid = is_root() ? 12346 : getegid(),
                .groups = {12346, 12347},
                .name = "ada",
                .home = home_,
                .shell = "/bin/sh"};
    for (const auto& folder : {state_, submit_, home_}) fs::create_directory(folder);
    for (const auto& folder : {submit_, home_}) {
        if (!is_root()) continue;  // they are ours already
        ASSERT_EQ(chown(folder.c_str(), account_.uid, account_.gid), 0);
    }
    start_engine();
}

void LocalEngineTest::TearDown() {
    engine_.reset();
    EXPECT_TRUE(end_all_attempts(state_, Duration{0}));
    std::error_code ignored;
    fs::remove_all(root_, ignored);
}

void LocalEngineTest::start_engine(std::uint64_t term) {
    engine_.reset();
    LocalEngineOptions options;
    options.state = state_;
    options.shim = STARGATE_SHIM;
    options.node = here;
    options.open_files = 512;
    options.authority.incarnation.fill(9);
    options.authority.term = term;
    options.listener = [this](Report report) { reports_.add(std::move(report)); };
    options.launch_of = [this](JobId job) -> Result<Launch> {
        const std::lock_guard guard{launches_mutex_};
        const auto found = launches_.find(job.value);
        if (found == launches_.end()) return fail(Fault::not_found, "no such job");
        return found->second;
    };
    options.now = now;
    auto engine = LocalEngine::open(std::move(options));
    ASSERT_TRUE(engine) << engine.error().detail;
    engine_ = std::move(*engine);
}

Instant LocalEngineTest::now() {
    return Instant{std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

Launch LocalEngineTest::shell_job(const std::string& script) const {
    Launch launch;
    launch.name = "test";
    launch.shell = script;
    launch.folder = submit_;
    launch.account = account_;
    return launch;
}

RunRanks LocalEngineTest::command_for(AttemptId attempt, int ranks, std::uint32_t generation) const {
    RunRanks command;
    command.attempt = attempt;
    command.job = JobId{attempt.value + 1000};
    command.node = here;
    command.generation = generation;
    command.first = generation == 1;
    command.gpus = (1ULL << ranks) - 1;
    command.ranks = ranks;
    command.world_size = ranks;
    command.port = 29500;
    return command;
}

AttemptId LocalEngineTest::start(Launch launch, int ranks) { return start(std::move(launch), command_for({}, ranks)); }

AttemptId LocalEngineTest::start(Launch launch, RunRanks command) {
    last_ = AttemptId{last_.value + 1};
    {
        const std::lock_guard guard{launches_mutex_};
        launches_[last_.value + 1000] = std::move(launch);
    }
    command.attempt = last_;
    command.job = JobId{last_.value + 1000};
    engine_->carry_out(command);
    return last_;
}

void LocalEngineTest::end(AttemptId attempt, std::chrono::milliseconds grace, std::uint32_t generation, int next_world,
                          int keep, EndCause cause) {
    engine_->carry_out(EndRanks{.attempt = attempt,
                                .node = here,
                                .generation = generation,
                                .cause = cause,
                                .keep = keep,
                                .next_world = next_world,
                                .deadline = now() + grace});
}

RanksEnded LocalEngineTest::run(Launch launch, int ranks) {
    const auto attempt = start(std::move(launch), ranks);
    const auto ended = reports_.next<RanksEnded>(attempt);
    EXPECT_TRUE(ended) << "attempt " << attempt.value << " has not ended; output: " << output(attempt);
    return ended.value_or(RanksEnded{});
}

std::string LocalEngineTest::output(AttemptId attempt) const {
    const auto log = OutputLog::open(output_log_path(state_, JobId{attempt.value + 1000}, attempt));
    std::string text;
    if (!log) return text;
    for (std::int64_t offset = 0;;) {
        const auto part = log->read(offset);
        if (!part || part->pieces.empty()) return text;
        for (const auto& piece : part->pieces) text += piece.bytes;
        offset = part->next_offset;
    }
}

std::string LocalEngineTest::output_of(Launch launch, int ranks) {
    const auto ended = run(std::move(launch), ranks);
    EXPECT_EQ(ended.exit.kind, ExitKind::exited) << ended.exit.detail;
    return output(ended.attempt);
}

bool LocalEngineTest::prints(AttemptId attempt, const std::string& text) const {
    return soon([&] { return output(attempt).find(text) != std::string::npos; });
}

fs::path LocalEngineTest::folder_of(AttemptId attempt) const {
    return state_ / "attempts" / std::to_string(attempt.value);
}

}  // namespace stargate::local::testing
