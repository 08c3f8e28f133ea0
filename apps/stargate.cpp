#include <CLI/CLI.hpp>
#include <functional>

#include "cli/verbs.hpp"
#include "verbs.hpp"

int main(int argc, char** argv) {
    CLI::App app{"Stargate: one elastic computer out of many. Every verb has --help."};
    app.set_version_flag("--version", STARGATE_VERSION);
    app.require_subcommand(1);
    std::function<int()> action;
    stargate::add_up(app, action);
    stargate::add_down(app, action);
    stargate::cli::add_verbs(app, action);
    stargate::add_doctor(app, action);
    stargate::add_twin(app, action);
    stargate::add_follower(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) { return app.exit(error) == 0 ? 0 : 2; }
    return action ? action() : 2;
}
