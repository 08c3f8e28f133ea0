// How many events a second does the twin handle? One scenario file, as `stargate twin run` would run it, with the
// time that it took: bench_twin_run FILE.yaml [seed] [path=value ...]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "twin/run.hpp"

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    std::ifstream file{argv[1]};
    std::stringstream text;
    text << file.rdbuf();
    stargate::twin::RunOptions options;
    options.scenario = text.str();
    if (argc > 2) options.seed = std::strtoull(argv[2], nullptr, 10);
    for (int i = 3; i < argc; ++i) options.overrides.emplace_back(argv[i]);
    const auto begun = std::chrono::steady_clock::now();
    const auto report = stargate::twin::run_scenario(options);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    if (!report) {
        fmt::print(stderr, "{}\n", report.error().detail);
        return 1;
    }
    fmt::print("{}\n{:.2f} s, {:.0f} events/s, {:.0f} facts/s, {:.0f} jobs/s\n", report_json(*report), took.count(),
               static_cast<double>(report->events) / took.count(), static_cast<double>(report->facts) / took.count(),
               static_cast<double>(report->jobs) / took.count());
    return report->broken.empty() ? 0 : 1;
}
