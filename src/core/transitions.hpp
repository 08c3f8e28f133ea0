#pragma once

#include <optional>
#include <string>

#include "core/fact.hpp"
#include "core/state.hpp"

namespace stargate {

/// What makes `fact` illegal in the State before it: a start of a job that is held, an end of ranks that do not live, a
/// grant beyond a quota. A sentence for people, or nothing. Cost: that of the fact. For tests and simulations.
[[nodiscard]] std::optional<std::string> illegal(const State& before, Instant at, const Fact& fact);

}  // namespace stargate
