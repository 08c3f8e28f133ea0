#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "store/port.hpp"

/// A whole simulation as one call: what `stargate twin run` does.
namespace stargate::twin {

/// What came of a run. Same scenario, overrides and seed: same digest, whatever the compiler or the store.
struct RunReport {
    std::uint64_t digest = 0;  // FNV-1a over all committed facts as they lie in the log
    std::uint64_t seed = 0;
    std::string commit;        // of the program
    std::uint64_t inputs = 0;  // logged
    std::uint64_t facts = 0;
    std::uint64_t events = 0;  // of the simulated world
    std::uint64_t checks = 0;
    std::uint64_t jobs = 0;      // accepted
    std::uint64_t attempts = 0;  // started
    double simulated_hours = 0;
    std::map<std::string, std::uint64_t> facts_by_type;
    std::map<std::string, std::uint64_t> faults;    // how often each kind happened
    std::map<std::string, std::uint64_t> requests;  // of clients, by how they ended; `asked`: all
    std::string broken;                             // what did not hold, and when; empty: all did
};

struct RunOptions {
    std::string scenario;                // the file's text
    std::string file = "scenario.yaml";  // its name, for messages
    std::uint64_t seed = 1;
    std::vector<std::string> overrides;  // path=value
    store::Store* store = nullptr;       // none: a log in memory. Must be empty
    std::string commit;
    /// Called now and then with simulated hours and events, for people who wait. May be empty.
    std::function<void(double, std::uint64_t)> progress;
};

/// Fails when the scenario cannot be read or the store cannot be used; what does not hold stands in the report.
[[nodiscard]] Result<RunReport> run_scenario(const RunOptions& options);

/// One JSON object: digest seed commit inputs facts events checks faults, and further keys.
[[nodiscard]] std::string report_json(const RunReport& report);

}  // namespace stargate::twin
