#pragma once

#include <optional>
#include <string>

#include "core/fact.hpp"
#include "core/state.hpp"

/// What must hold whatever the world does (DESIGN 4), as an independent look at the rows: nothing here trusts a sum
/// that the core keeps.
namespace stargate {

/// What does not hold in the rows that this fact touched; nothing when all does. Cost O(rows touched).
std::optional<std::string> broken_by(const State& state, const Fact& fact);

/// What does not hold anywhere, derived data rebuilt and compared included. Cost O(State).
std::optional<std::string> broken(const State& state);

}  // namespace stargate
