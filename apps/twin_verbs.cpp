#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/file.hpp"
#include "base/print_error.hpp"
#include "cli/complaint.hpp"
#include "cli/verbs.hpp"
#include "store/damage.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "twin/replay.hpp"
#include "twin/run.hpp"
#include "verbs.hpp"

namespace stargate {

namespace {

constexpr Bytes longest_scenario{1LL << 24};

struct TwinAsked {
    std::string file;
    std::string folder;
    std::string state = cli::default_state();
    std::string output = "table";
    std::vector<std::string> overrides;
    std::uint64_t seed = 1;
};

int twin_run(const TwinAsked& asked) {
    twin::RunOptions options;
    auto scenario = read_file(asked.file, longest_scenario);
    if (!scenario) {
        print_error("stargate: {}; name a scenario file\n", scenario.error().detail);
        return 2;
    }
    options.scenario = std::move(*scenario);
    options.file = asked.file;
    options.seed = asked.seed;
    options.overrides = asked.overrides;
    options.commit = STARGATE_VERSION;
    const bool watched = asked.output != "json" && ::isatty(STDERR_FILENO) != 0;
    if (watched) {
        options.progress = [](double hours, std::uint64_t events) {
            print_error("\r{:8.2f} h simulated, {} events", hours, events);
        };
    }
    std::unique_ptr<store::Store> store;
    if (!asked.folder.empty()) {
        std::error_code failed;
        std::filesystem::create_directories(asked.folder, failed);
        auto opened = store::open_sqlite_store(asked.folder);
        if (!opened) return say_failed(opened.error());
        store = std::move(*opened);
        options.store = store.get();
    }
    const auto report = twin::run_scenario(options);
    if (watched) print_error("\r{:60}\r", "");
    if (!report) {
        const auto& detail = report.error().detail;
        print_error("{}{}\n", detail.starts_with(asked.file + ":") ? "" : "stargate: ", detail);
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
    if (!report->broken.empty()) print_error("broken: {}\n", report->broken);
    return report->broken.empty() ? 0 : 1;
}

int twin_replay(const TwinAsked& asked) {
    const auto folder = asked.folder.empty() ? asked.state : asked.folder;
    const auto reader = store::open_sqlite_reader(folder);
    if (!reader) return say_failed(reader.error());
    auto begin = twin::where_to_begin(**reader, folder);
    if (!begin) return say_failed(store::damage_in(folder, begin.error()));
    const auto report = twin::replay(**reader, std::move(*begin));
    if (!report) return say_failed(store::damage_in(folder, report.error()));
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

void add_twin(CLI::App& app, std::function<int()>& action) {
    auto asked = std::make_shared<TwinAsked>();
    auto* verb =
        add_verb(app, "twin", "the same decisions in a simulated world", "twin run tests/scenario/chaos.yaml --seed 7");
    verb->require_subcommand(1);
    cli::add_state(*verb, asked->state);
    auto* run =
        add_verb(*verb, "run", "run a scenario", "twin run tests/scenario/chaos.yaml --seed 7 --set duration=1h");
    run->add_option("file", asked->file, "the scenario")->required();
    run->add_option("--state", asked->state, "taken as by every verb; a simulation needs none");
    cli::check_whole(
        run->add_option("--seed", asked->seed, "same scenario, same seed: same run")->capture_default_str(), 0);
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

}  // namespace stargate
