#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/settings.hpp"
#include "core/state.hpp"
#include "store/port.hpp"

/// Decides a log again from its inputs and compares each fact with the logged one, bit for bit: what `stargate twin
/// replay` does. Reads only.
namespace stargate::twin {

/// Where a replay begins: a State as of after these rows of the log.
struct ReplayFrom {
    State state;
    std::uint64_t last_fact = 0;
    std::uint64_t last_input = 0;
};

struct Difference {
    std::uint64_t seq = 0;  // of the fact
    std::string logged;     // as JSON text; empty: the log has none
    std::string decided;    // empty: nothing was decided
};

struct ReplayReport {
    std::uint64_t from_fact = 1;  // seq of the first fact compared
    std::uint64_t inputs = 0;     // decided again
    std::uint64_t compared = 0;   // facts that were the same
    std::optional<Difference> difference;
};

struct ReplayOptions {
    /// Decide with these instead of the settings in the log: another policy, which should make a difference.
    std::optional<Settings> settings;
    std::uint64_t most_facts = ~std::uint64_t{0};
};

/// Without `from` the log must begin with its first row. Fault::malformed when the log cannot be read.
[[nodiscard]] Result<ReplayReport> replay(store::Reader& store, ReplayFrom from = {},
                                          const ReplayOptions& options = {});

/// One JSON object: from_fact inputs compared difference.
[[nodiscard]] std::string replay_json(const ReplayReport& report);

}  // namespace stargate::twin
