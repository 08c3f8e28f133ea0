#include "verbs.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <thread>

#include "cli/client.hpp"
#include "cli/full_disk.hpp"
#include "cli/run.hpp"
#include "cli/verbs.hpp"
#include "engine/local/end_all.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/output_log.hpp"
#include "live/follower.hpp"
#include "store/doctor.hpp"
#include "store/room.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "twin/replay.hpp"
#include "twin/run.hpp"
#include "up.hpp"

namespace stargate {

namespace {

/// How long `down` waits for the control plane to go. `down --jobs` may wait for each job's grace besides.
constexpr std::chrono::seconds longest_goodbye{30};
constexpr std::chrono::seconds grace_without_control_plane{5};

int fail_with(const Error& error) {
    fmt::print(stderr, "stargate: {}\n", error.detail);
    return 1;
}

CLI::App* add_verb(CLI::App& app, const char* name, const char* what, const char* example) {
    auto* verb = app.add_subcommand(name, what);
    verb->footer(std::string{"Example: stargate "} + example);
    return verb;
}

std::optional<pid_t> noted_pid(const std::string& state) {
    std::ifstream file{state + "/stargate.pid"};
    pid_t pid = 0;
    if (!(file >> pid) || pid <= 0) return std::nullopt;
    return pid;
}

bool is_gone(pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

int down(const std::string& state, bool jobs) {
    const auto pid = noted_pid(state);
    const auto reply = cli::Client{state}.call("POST", "/api/v1/shutdown", jobs ? R"({"jobs":true})" : "{}");
    if (!reply && reply.error().fault == Fault::unavailable) {
        if (!jobs) {
            fmt::print("no control plane answers at {}: it is down already\n", state);
            return 0;
        }
        const auto ended = end_all_attempts(state, grace_without_control_plane);
        if (!ended) return fail_with(ended.error());
        fmt::print("no control plane answers at {}; {} running attempts were ended\n", state, *ended);
        return 0;
    }
    if (!reply) return fail_with(reply.error());
    if (reply->status >= 300) return cli::explain_failure(reply->status, reply->body);
    const cli::SayWhenFull say_when_full{state};
    const auto until =
        std::chrono::steady_clock::now() + longest_goodbye + (jobs ? std::chrono::hours{1} : std::chrono::hours{0});
    while (pid && !is_gone(*pid)) {
        if (std::chrono::steady_clock::now() > until)
            return fail_with({Fault::timed_out, "the control plane does not go"});
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    fmt::print("the control plane is down{}\n", jobs ? "" : "; work goes on, and the next `up` adopts it");
    return 0;
}

/// Work beside the state: an operator ends it, or puts back the state that knows it.
template <class Say>
void say_foreign(cli::Client client, const Say& say) {
    const auto fleet = client.call("GET", "/api/v1/fleet");
    if (!fleet || fleet->status != 200) return;
    const auto rows = api::parse_json(fleet->body);
    if (!rows) return;
    for (const auto& node : rows->items) {
        const auto running = node["foreign_running"].whole;
        if (running == 0) continue;
        say(false,
            fmt::format("{}: {} attempts run that this state does not know; they keep {} GPUs", node["name"].text,
                        running, node["gpus_foreign"].whole),
            "put back the state folder that knows them, or let them end; `stargate down --jobs` with the control "
            "plane dead ends them");
    }
}

/// What a control plane that runs says of its disk; or whether the next one would find room. Empty: all is well.
std::string full_disk(const std::string& state, const Result<cli::HttpReply>& info) {
    const bool is_up = info && info->status == 200;
    const auto said = is_up ? api::parse_json(info->body).value_or(api::Json{})["read_only"].text : std::string{};
    if (!said.empty()) return said;
    const auto left = store::room_left(state);
    const auto needed = store::room_kept_back(state);  // which a control plane that runs has already
    const bool lacks_room = store::is_full(state) || (!is_up && left && needed && *left < *needed);
    return lacks_room ? store::no_room(state).detail : std::string{};
}

int doctor(const std::string& state, bool only_store) {
    bool well = true;
    const auto say = [&](bool good, const std::string& what, const std::string& remedy) {
        well = well && good;
        fmt::print("{} {}{}\n", good ? "ok  " : "BAD ", what, good || remedy.empty() ? "" : "; " + remedy);
    };
    const auto report = store::examine_store(state);
    if (!report) {
        say(false, report.error().detail, "");
    } else {
        for (const auto& finding : report->findings) say(false, finding.what, finding.remedy);
        if (report->findings.empty()) {
            say(true,
                fmt::format(
                    "store: {} inputs and {} facts, no gap, term {}; facts from {} on are in the log, older ones "
                    "in {} segments",
                    report->log.end_input - 1, report->log.end_fact - 1, report->identity.term, report->log.first_fact,
                    report->segments),
                "");
        }
    }
    if (only_store) return well ? 0 : 1;
    const auto reply = cli::Client{state}.call("GET", "/api/v1/info");
    say(reply && reply->status == 200, reply ? "the control plane answers" : reply.error().detail, "");
    if (reply && reply->status == 200) say_foreign(cli::Client{state}, say);
    const auto full = full_disk(state, reply);
    say(full.empty(), full.empty() ? "there is room on the disk of the state" : full, "");
    const auto shim = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "stargate-shim";
    const auto sandbox = probe_sandbox(shim);
    say(sandbox.has_value(), sandbox ? "the default sandbox can be built here" : sandbox.error().detail, "");
    return well ? 0 : 1;
}

void add_log_limits(CLI::App& verb, live::LogLimits& limits) {
    verb.add_option("--snapshot-every", limits.facts_between_snapshots, "facts between two snapshots of the state")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    verb.add_option("--keep-segments", limits.segments_kept,
                    "sealed segments of the log that are kept, each of --snapshot-every facts")
        ->capture_default_str();
}

/// Removes the output of jobs that nobody can ask for any more: those that have left the history too.
void remove_old_output(store::Reader& store, const std::string& folder, const State& state) {
    std::error_code failed;
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator at{folder + "/logs", failed}; !failed && at != end; at.increment(failed)) {
        const auto job = job_of_output_log(at->path().filename().string());
        std::error_code ignored;  // it is looked at again the next time
        if (job && live::is_forgotten(store, state, *job).value_or(false)) std::filesystem::remove(at->path(), ignored);
    }
}

int follower(const std::string& folder, const live::LogLimits& limits) {
    const auto reader = store::open_sqlite_reader(folder);
    if (!reader) return fail_with(reader.error());
    return live::follow_once(**reader, folder, limits,
                             [&](const State& state) { remove_old_output(**reader, folder, state); });
}

struct TwinAsked {
    std::string file;
    std::string folder;
    std::string state = cli::default_state();
    std::string output = "table";
    std::vector<std::string> overrides;
    std::uint64_t seed = 1;
};

int twin_run(const TwinAsked& asked) {
    std::ifstream file{asked.file, std::ios::binary};
    if (!file) {
        fmt::print(stderr, "stargate: {}: cannot be read; name a scenario file\n", asked.file);
        return 2;
    }
    twin::RunOptions options;
    options.scenario.assign(std::istreambuf_iterator<char>{file}, {});
    options.seed = asked.seed;
    options.overrides = asked.overrides;
    options.commit = STARGATE_VERSION;
    const bool watched = asked.output != "json" && ::isatty(STDERR_FILENO) != 0;
    if (watched) {
        options.progress = [](double hours, std::uint64_t events) {
            fmt::print(stderr, "\r{:8.2f} h simulated, {} events", hours, events);
        };
    }
    std::unique_ptr<store::Store> store;
    if (!asked.folder.empty()) {
        std::error_code failed;
        std::filesystem::create_directories(asked.folder, failed);
        auto opened = store::open_sqlite_store(asked.folder);
        if (!opened) return fail_with(opened.error());
        store = std::move(*opened);
        options.store = store.get();
    }
    const auto report = twin::run_scenario(options);
    if (watched) fmt::print(stderr, "\r{:60}\r", "");
    if (!report) {
        fmt::print(stderr, "{}: {}\n", asked.file, report.error().detail);
        return 2;
    }
    if (asked.output == "json") {
        fmt::print("{}\n", twin::report_json(*report));
    } else {
        fmt::print(
            "digest  {:016x}\nseed    {}\ncommit  {}\n{:.2f} simulated hours: {} jobs, {} attempts, {} inputs, {} "
            "facts, {} "
            "events, {} checks\n",
            report->digest, report->seed, report->commit, report->simulated_hours, report->jobs, report->attempts,
            report->inputs, report->facts, report->events, report->checks);
        for (const auto& [kind, times] : report->faults) fmt::print("  {:<24} {}\n", kind, times);
    }
    if (!report->broken.empty()) fmt::print(stderr, "broken: {}\n", report->broken);
    return report->broken.empty() ? 0 : 1;
}

int twin_replay(const TwinAsked& asked) {
    const auto folder = asked.folder.empty() ? asked.state : asked.folder;
    const auto reader = store::open_sqlite_reader(folder);
    if (!reader) return fail_with(reader.error());
    auto begin = twin::where_to_begin(**reader, folder);
    if (!begin) return fail_with(begin.error());
    const auto report = twin::replay(**reader, std::move(*begin));
    if (!report) return fail_with(report.error());
    if (asked.output == "json") {
        fmt::print("{}\n", twin::replay_json(*report));
    } else {
        fmt::print("replayed from fact {}: {} inputs decided again, {} facts compared, {}\n", report->from_fact,
                   report->inputs, report->compared, report->difference ? "a difference" : "no difference");
        if (report->difference) {
            fmt::print("first difference at fact {}:\n  logged  {}\n  decided {}\n", report->difference->seq,
                       report->difference->logged, report->difference->decided);
        }
    }
    return report->difference ? 1 : 0;
}

}  // namespace

void add_up(CLI::App& app, std::function<int()>& action) {
    auto options = std::make_shared<UpOptions>();
    options->state = cli::default_state();
    auto* verb = add_verb(app, "up", "start the control plane of this machine", "up --detach");
    cli::add_state(*verb, options->state);
    verb->add_option("--listen", options->listen, "loopback address of the API, for holders of a token")
        ->capture_default_str();
    verb->add_option("--gateway", options->gateway, "address of the gateway; nothing is started for it yet")
        ->capture_default_str();
    verb->add_option("--cpu-gpus", options->cpu_gpus, "shares of this machine's CPU that count as GPUs; 0: one a core")
        ->capture_default_str();
    verb->add_option("--job-user", options->job_user, "whom root's own submissions run as")->capture_default_str();
    verb->add_flag("--detach", options->detach, "return once it is ready, and leave it running");
    add_log_limits(*verb, options->log_limits);
    verb->callback([&action, options] { action = [options] { return up(*options); }; });
}

void add_down(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        bool jobs = false;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = add_verb(app, "down", "take the control plane down; work goes on", "down --jobs");
    cli::add_state(*verb, asked->state);
    verb->add_flag("--jobs", asked->jobs, "end running work too, also when the control plane is dead");
    verb->callback([&action, asked] { action = [asked] { return down(asked->state, asked->jobs); }; });
}

void add_doctor(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        bool only_store = false;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = add_verb(app, "doctor", "look for what is wrong, and say what to do", "doctor --store");
    cli::add_state(*verb, asked->state);
    verb->add_flag("--store", asked->only_store, "look at the store alone; the control plane may be down");
    verb->callback([&action, asked] { action = [asked] { return doctor(asked->state, asked->only_store); }; });
}

void add_twin(CLI::App& app, std::function<int()>& action) {
    auto asked = std::make_shared<TwinAsked>();
    auto* verb =
        add_verb(app, "twin", "the same decisions in a simulated world", "twin run tests/scenario/chaos.yaml --seed 7");
    verb->require_subcommand(1);
    cli::add_state(*verb, asked->state);
    auto* run =
        add_verb(*verb, "run", "run a scenario", "twin run tests/scenario/chaos.yaml --seed 7 --set duration=1h");
    run->add_option("file", asked->file, "the scenario")->required();
    run->add_option("--seed", asked->seed, "same scenario, same seed: same run")->capture_default_str();
    run->add_option("--set", asked->overrides, "path=value, overrides the file")->allow_extra_args(false);
    run->add_option("--store", asked->folder, "write the log to a store in this folder");
    run->add_option("-o,--output", asked->output, "table or json")->check(CLI::IsMember({"table", "json"}));
    run->callback([&action, asked] { action = [asked] { return twin_run(*asked); }; });
    auto* replay =
        add_verb(*verb, "replay", "decide a log again from its inputs and compare every fact", "twin replay STATE");
    replay->add_option("state", asked->folder, "the state folder; a control plane may be using it");
    cli::add_state(*replay, asked->state);
    replay->add_option("-o,--output", asked->output, "table or json")->check(CLI::IsMember({"table", "json"}));
    replay->callback([&action, asked] { action = [asked] { return twin_replay(*asked); }; });
}

void add_follower(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        live::LogLimits limits;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = app.add_subcommand("follower", "look after the log; the control plane starts it");
    verb->group("");  // not for people
    cli::add_state(*verb, asked->state);
    add_log_limits(*verb, asked->limits);
    verb->callback([&action, asked] { action = [asked] { return follower(asked->state, asked->limits); }; });
}

}  // namespace stargate
