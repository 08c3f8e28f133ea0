#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "core/core.hpp"
#include "store/rows.hpp"
#include "twin/rng.hpp"

namespace stargate::twin {

/// Looks over the core's shoulder: folds every committed fact onto a State of its own and asserts DESIGN 4 on the way.
class Checker {
public:
    using Broken = std::function<void(std::string)>;
    explicit Checker(Broken broken) : broken_{std::move(broken)} {}

    /// Local invariants, after every fact.
    void committed(Instant at, const store::Batch& batch, const std::vector<Fact>& facts);
    /// Whole-state ones; between two rounds.
    void whole(Instant now, const State& state);
    /// What the log folds to after a death.
    void recovered(const State& state);
    /// Passes leave nothing behind that they could have started: a second one right after the first starts nothing, and
    /// nor does the first unless an input or a deadline pends. This is how a lost wake-up is seen.
    void passes_settle(Core& core, Instant now, bool something_pends);
    /// A probe that is undone leaves nothing behind: the core tries these inputs and takes them back.
    void probe(Core& core, Instant now, Rng& rng);

    [[nodiscard]] const State& mirror() const { return mirror_; }
    [[nodiscard]] std::uint64_t checks() const { return checks_; }

private:
    void before(Instant at, const Fact& fact);
    void after(Instant at, const Fact& fact);
    void compare_history(const store::Batch& batch, const std::vector<Fact>& facts);

    Broken broken_;
    State mirror_;
    std::map<AttemptId, Instant> settled_;  // a lease that a resize granted is not taken back before this
    std::uint64_t checks_ = 0;
};

}  // namespace stargate::twin
