#include "twin/run.hpp"

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "store/memory_store.hpp"
#include "twin/scenario.hpp"
#include "twin/world.hpp"

namespace stargate::twin {

namespace {
void json_counts(std::string& out, const std::map<std::string, std::uint64_t>& counts) {
    out += '{';
    bool first = true;
    for (const auto& [word, count] : counts) {
        if (!first) out += ',';
        first = false;
        json_string(out, word);
        out += fmt::format(":{}", count);
    }
    out += '}';
}
}  // namespace

Result<RunReport> run_scenario(const RunOptions& options) {
    const auto scenario = read_scenario(options.scenario, options.overrides, options.file);
    if (!scenario) return tl::unexpected(scenario.error());
    store::MemoryStore memory;
    store::Store& store = options.store != nullptr ? *options.store : memory;
    const auto extent = store.extent();
    if (!extent) return tl::unexpected(extent.error());
    if (extent->end_fact != 1)
        return fail(Fault::conflict,
                    "a simulation needs an empty store, and this one has facts; name a new folder with --store");
    World world{*scenario, options.seed, store, options.store == nullptr};
    world.run(options.progress);
    auto report = world.report();
    report.commit = options.commit;
    return report;
}

std::string report_json(const RunReport& report) {
    std::string out = fmt::format("{{\"digest\":\"{:016x}\",\"seed\":{},\"commit\":", report.digest, report.seed);
    json_string(out, report.commit);
    out += fmt::format(",\"inputs\":{},\"facts\":{},\"events\":{},\"checks\":{},\"faults\":", report.inputs,
                       report.facts, report.events, report.checks);
    json_counts(out, report.faults);
    out += fmt::format(",\"jobs\":{},\"attempts\":{},\"simulated_hours\":{:.3f}", report.jobs, report.attempts,
                       report.simulated_hours);
    out += ",\"facts_by_type\":";
    json_counts(out, report.facts_by_type);
    const auto times = [&](const char* fact) {
        const auto found = report.facts_by_type.find(fact);
        return found == report.facts_by_type.end() ? 0 : found->second;
    };
    out += ",\"services\":{\"requests\":";
    json_counts(out, report.requests);
    out += fmt::format(",\"lent\":{},\"returned\":{},\"woken\":{},\"slept\":{}}}", times("lent"), times("returned"),
                       times("woken"), times("seated"));
    out += ",\"broken\":";
    if (report.broken.empty()) {
        out += "null";
    } else {
        json_string(out, report.broken);
    }
    out += '}';
    return out;
}

}  // namespace stargate::twin
