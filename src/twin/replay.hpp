#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/settings.hpp"
#include "loop/fold.hpp"
#include "store/port.hpp"

/// Decides a log again from its inputs and compares each fact with the logged one, bit for bit: what `stargate twin
/// replay` does. Reads only.
namespace stargate::twin {

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

/// Where to begin so that most is compared: before the first row, or where that is no longer kept, at the oldest
/// snapshot in the store's folder whose following rows all are, a verified one if there is any. Fault::not_found when
/// there is none.
[[nodiscard]] Result<Folded> where_to_begin(store::Reader& store, const std::string& folder);

/// Decides again all inputs after `from`. Facts that the log has beyond its last input are a difference too.
/// Fault::malformed when the log cannot be read, or does not go on where `from` ends.
[[nodiscard]] Result<ReplayReport> replay(store::Reader& store, Folded from = {}, const ReplayOptions& options = {});

/// One JSON object: from_fact inputs compared difference.
[[nodiscard]] std::string replay_json(const ReplayReport& report);

}  // namespace stargate::twin
