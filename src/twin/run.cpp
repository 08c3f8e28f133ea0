#include "twin/run.hpp"

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "store/memory_store.hpp"
#include "twin/scenario.hpp"
#include "twin/world.hpp"

namespace stargate::twin {

Result<RunReport> run_scenario(const RunOptions& options) {
    const auto scenario = read_scenario(options.scenario, options.overrides);
    if (!scenario) return tl::unexpected(scenario.error());
    store::MemoryStore memory;
    store::Store& store = options.store != nullptr ? *options.store : memory;
    const auto extent = store.extent();
    if (!extent) return tl::unexpected(extent.error());
    if (extent->end_fact != 1) return fail(Fault::conflict, "a simulation needs an empty store: this one has facts");
    World world{*scenario, options.seed, store, options.store == nullptr};
    world.run(options.progress);
    auto report = world.report();
    report.commit = options.commit;
    return report;
}

std::string report_json(const RunReport& report) {
    std::string out = fmt::format("{{\"digest\":\"{:016x}\",\"seed\":{},\"commit\":", report.digest, report.seed);
    json_string(out, report.commit);
    out += fmt::format(",\"inputs\":{},\"facts\":{},\"events\":{},\"checks\":{},\"faults\":{{", report.inputs,
                       report.facts, report.events, report.checks);
    bool first = true;
    for (const auto& [kind, count] : report.faults) {
        if (!first) out += ',';
        first = false;
        json_string(out, kind);
        out += fmt::format(":{}", count);
    }
    out += fmt::format("}},\"jobs\":{},\"attempts\":{},\"simulated_hours\":{:.3f},\"broken\":", report.jobs,
                       report.attempts, report.simulated_hours);
    if (report.broken.empty()) {
        out += "null";
    } else {
        json_string(out, report.broken);
    }
    out += '}';
    return out;
}

}  // namespace stargate::twin
