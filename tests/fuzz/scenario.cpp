#include "twin/scenario.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

/// Any bytes are a scenario or one line that says what is wrong with them. Lines `--set PATH=VALUE` at the front are
/// overrides.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string text{reinterpret_cast<const char*>(data), size};
    std::vector<std::string> overrides;
    for (const std::string set = "--set "; text.starts_with(set);) {
        const auto end = std::min(text.find('\n'), text.size() - 1);
        overrides.push_back(text.substr(set.size(), end - set.size()));
        text.erase(0, end + 1);
    }
    const auto scenario = stargate::twin::read_scenario(text, overrides, "fuzz.yaml");
    if (!scenario) {
        const auto& said = scenario.error().detail;
        const bool has_place = said.starts_with("fuzz.yaml:") || said.starts_with("--set: ");
        if (!has_place || said.find('\n') != std::string::npos) std::abort();
        return 0;
    }
    const auto types = scenario->settings.gpu_types.size();
    bool is_sound = !scenario->fleet.empty() && !scenario->kinds.empty() && !scenario->tenants.empty() && types >= 1 &&
                    types <= stargate::max_gpu_types;
    for (const auto& group : scenario->fleet) {
        is_sound = is_sound && group.nodes >= 1 && group.shape.gpus.count() >= 0 && group.shape.gpus.count() <= 64 &&
                   group.shape.gpu_type < types;
    }
    for (const auto& kind : scenario->kinds) {
        is_sound = is_sound && kind.spec.min_gpus <= kind.spec.max_gpus && kind.spec.time_limit.count() > 0;
    }
    if (!is_sound) std::abort();
    return 0;
}
