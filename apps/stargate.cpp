#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/print_error.hpp"
#include "cli/complaint.hpp"
#include "cli/verbs.hpp"
#include "verbs.hpp"

namespace {
/// Opens what the caller has closed of the three standard descriptors, so that no file of ours gets their numbers and
/// whatever is printed with them. What is printed goes nowhere, and reading fails as from a closed one.
void fill_standard_descriptors() {
    int opened = 0;
    do { opened = ::open("/dev/null", O_WRONLY); } while (opened >= 0 && opened <= STDERR_FILENO);
    if (opened >= 0) ::close(opened);
}

/// Cuts the words after `run ... --` and `shell ... --` off what is to be parsed.
std::vector<std::string> command_of(int& argc, char** argv) {
    if (argc < 2 || (std::string_view{argv[1]} != "run" && std::string_view{argv[1]} != "shell")) return {};
    auto** const end = argv + argc;
    auto** const dashes = std::find_if(argv + 2, end, [](const char* word) { return std::string_view{word} == "--"; });
    if (dashes == end) return {};
    std::vector<std::string> command{dashes + 1, end};
    argc = static_cast<int>(dashes - argv);
    return command;
}

/// What was not written must not look like all there is, to whoever reads it from a file.
int whole_output(const std::function<int()>& action) {
    int status = 1;
    bool is_whole = true;
    try {
        status = action();
    } catch (const std::system_error& error) {  // fmt's, when a write fails; or no thread can be had
        is_whole = false;
        if (std::ferror(stdout) == 0) {
            stargate::print_error("stargate: {}; see what this machine's limits are: ulimit -a\n", error.what());
            return 1;
        }
    }
    if (is_whole && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
    std::fputs("stargate: standard output did not take all of it; see whether its disk is full\n", stderr);
    return status != 0 ? status : 1;
}
}  // namespace

int main(int argc, char** argv) {
    fill_standard_descriptors();
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
    stargate::add_gateway(app, action);
    stargate::add_follower(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {  // --help is one
        return whole_output([&] { return app.exit(error) == 0 ? 0 : 2; });
    }
    return action ? whole_output(action) : 2;
}
