#pragma once

#include "core/core.hpp"

namespace stargate {

/// What the one who sent an input is told once the batch is durable. `why` is `none` when it was accepted.
struct Answer {
    Refusal why;
    JobId job;  // of a Submit: the first element
    [[nodiscard]] bool accepted() const { return why.why == Why::none; }
};

/// The only place where something is chosen. Reads State and the input, changes State by facts alone; a refused input
/// leaves no fact. `now` never falls from one input to the next. Cost: of a Pass, O(equivalence classes + placements
/// tried); of Submit and Edit,
/// O(elements); of everything else O(log fleet).
Answer decide(Core& core, Instant now, const Input& input);

/// Turns the names of `after` into the arrays that `spec`, whose tenant and owner say whose are meant, comes after;
/// says why not where that cannot be.
Refusal find_what_comes_before(const State& state, const std::vector<std::string>& after, JobSpec& spec);

/// Whether this could run if everything else let go: asked by decide before a job is accepted.
Refusal can_ever_run(const State& state, const JobSpec& spec);

}  // namespace stargate
