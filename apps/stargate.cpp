#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/complaint.hpp"
#include "cli/verbs.hpp"
#include "verbs.hpp"

namespace {
/// Cuts the words after `run ... --` off what is to be parsed.
std::vector<std::string> command_of(int& argc, char** argv) {
    if (argc < 2 || std::string_view{argv[1]} != "run") return {};
    auto** const end = argv + argc;
    auto** const dashes = std::find_if(argv + 2, end, [](const char* word) { return std::string_view{word} == "--"; });
    if (dashes == end) return {};
    std::vector<std::string> command{dashes + 1, end};
    argc = static_cast<int>(dashes - argv);
    return command;
}
}  // namespace

int main(int argc, char** argv) {
    const auto command = command_of(argc, argv);
    CLI::App app{"Stargate: one elastic computer out of many. Every verb has --help."};
    app.set_version_flag("--version", STARGATE_VERSION);
    app.require_subcommand(1);
    app.failure_message(stargate::cli::complaint);
    std::function<int()> action;
    stargate::add_up(app, action);
    stargate::add_down(app, action);
    stargate::cli::add_verbs(app, action, command);
    stargate::add_doctor(app, action);
    stargate::add_twin(app, action);
    stargate::add_mock_engine(app, action);
    stargate::add_bench_serve(app, action);
    stargate::add_follower(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) { return app.exit(error) == 0 ? 0 : 2; }
    return action ? action() : 2;
}
