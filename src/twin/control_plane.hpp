#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "core/decide.hpp"
#include "loop/fold.hpp"
#include "loop/round.hpp"
#include "store/port.hpp"
#include "twin/rng.hpp"

namespace stargate::twin {

/// What the world wants from the control plane, and what becomes of it.
struct Request {
    Input input;
    bool from_client = false;  // somebody waits for an answer
};

/// What the next commits shall meet.
enum class CommitFate : std::uint8_t { written, full, unknown_but_written, unknown_and_lost };

/// The writer of the live control plane in the simulated world: the same rounds around the same core, with a death
/// possible between any two steps. Everything that a death may lose lives here and goes with it.
class ControlPlane {
public:
    /// What it does to the world, in the order in which it does it.
    struct Ports {
        std::function<CommitFate()> next_commit;
        /// The batch is in the store. `batch` has one row a fact, in the order of `facts`.
        std::function<void(Instant, const store::Batch& batch, const std::vector<Fact>& facts)> committed;
        std::function<void(const Command&)> send;
        std::function<void(const Input&, const Answer&)> answer;
        std::function<void(const Input&)> refuse;  // the store cannot be written
    };
    enum class Survival : std::uint8_t { lives, died };

    ControlPlane(store::Store& store, State state, std::uint64_t last_fact, std::uint64_t last_input,
                 Authority authority, Ports ports);

    [[nodiscard]] const State& state() const { return core_.state(); }
    [[nodiscard]] Core& core() { return core_; }
    [[nodiscard]] const Authority& authority() const { return authority_; }
    /// It dies at the n-th step from now on; 0: not at all.
    void die_in(std::uint64_t steps) { steps_to_live_ = steps; }

    /// Until then commands stay with State: the engines have not been asked yet what they have.
    void engines_are_ready() { engines_ready_ = true; }

    /// One round: decides everything in `inbox`, then a Pass, commits, sends, answers. `inbox` keeps what must be
    /// tried again.
    [[nodiscard]] Survival round(Instant now, std::deque<Request>& inbox);
    /// The last round's pass was cut off: another round goes on with it.
    [[nodiscard]] bool pass_goes_on() const { return pass_goes_on_; }
    /// While the store is full nothing is tried before this.
    [[nodiscard]] Instant try_again() const { return try_again_; }

    /// Sends these, with a death possible before each.
    [[nodiscard]] Survival send_all(const std::vector<Command>& commands);

    /// Drops everything that is derived and builds it anew from the rows: decisions must not change.
    void rebuild_derived();

private:
    [[nodiscard]] bool dies_here();

    store::Store& store_;
    Core core_;
    CommandsDue due_;
    std::uint64_t last_fact_ = 0;
    std::uint64_t last_input_ = 0;
    Authority authority_;
    Ports ports_;
    std::uint64_t steps_to_live_ = 0;
    bool engines_ready_ = false;
    Instant try_again_{};
    bool pass_goes_on_ = false;
};

}  // namespace stargate::twin
