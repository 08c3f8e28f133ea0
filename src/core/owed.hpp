#pragma once

#include <vector>

#include "core/command.hpp"
#include "core/state.hpp"

namespace stargate {

/// What the engine owes this attempt's ranks now: a function of State, so it is the same after a restart, and sent
/// again then. Every command is one that its receiver may see twice. Cost O(parts).
std::vector<Command> owed(const State& state, const Attempt& attempt);

/// Of every live attempt, in order of id.
std::vector<Command> owed(const State& state);

}  // namespace stargate
