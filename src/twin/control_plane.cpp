#include "twin/control_plane.hpp"

#include "core/schedule.hpp"

namespace stargate::twin {

namespace {
constexpr Duration retry_after_full = std::chrono::seconds{1};
}

ControlPlane::ControlPlane(store::Store& store, State state, std::uint64_t last_fact, std::uint64_t last_input,
                           Authority authority, Ports ports)
    : store_{store},
      core_{std::move(state)},
      due_{core_.state()},
      last_fact_{last_fact},
      last_input_{last_input},
      authority_{authority},
      ports_{std::move(ports)} {}

bool ControlPlane::dies_here() { return steps_to_live_ > 0 && --steps_to_live_ == 0; }

ControlPlane::Survival ControlPlane::round(Instant now, std::deque<Request>& inbox) {
    const auto give_back = [&](std::deque<Request>& requests) {
        std::deque<Request> kept;
        for (auto& request : requests) {
            if (request.from_client) {
                ports_.refuse(request.input);
            } else {
                kept.push_back(std::move(request));
            }
        }
        requests = std::move(kept);
    };
    if (now < try_again_) {
        give_back(inbox);
        return Survival::lives;
    }
    const bool was_cut_off = std::exchange(pass_goes_on_, false);
    store::Batch batch;
    batch.at = now;
    std::vector<Answer> answers;
    answers.reserve(inbox.size());
    for (const auto& request : inbox) {
        if (dies_here()) return Survival::died;
        const auto from = core_.batch().size();
        answers.push_back(decide(core_, now, request.input));
        log_facts(batch, core_, now, request.input, from);
    }
    if (dies_here()) return Survival::died;
    const auto before_pass = core_.batch().size();
    const Pass pass{false, was_cut_off && before_pass == 0, most_retired};
    (void)decide(core_, now, pass);
    log_facts(batch, core_, now, pass, before_pass);
    const bool goes_on = is_cut_off(core_.state(), now);
    log_history(batch, core_);
    if (dies_here()) return Survival::died;
    std::vector<Command> commands;
    if (!batch.inputs.empty()) {
        const auto fate = ports_.next_commit();
        if (fate == CommitFate::unknown_and_lost) return Survival::died;
        if (fate == CommitFate::full) {
            core_.undo_to({});
            try_again_ = now + retry_after_full;
            give_back(inbox);
            return Survival::lives;
        }
        const auto committed = store_.commit(batch);
        if (committed.outcome != store::Outcome::written) return Survival::died;
        ports_.committed(now, batch, core_.batch());
        if (fate == CommitFate::unknown_but_written || dies_here()) return Survival::died;
        last_input_ = committed.first_input + batch.inputs.size() - 1;
        last_fact_ = committed.first_fact + batch.facts.size() - 1;
        commands = due_.after(core_.state(), core_.batch());
    }
    core_.commit();
    pass_goes_on_ = goes_on;
    auto done = std::move(inbox);
    inbox.clear();
    if (engines_ready_ && send_all(commands) == Survival::died) return Survival::died;
    for (std::size_t i = 0; i < done.size(); ++i) {
        if (!done[i].from_client) continue;
        if (dies_here()) return Survival::died;
        ports_.answer(done[i].input, answers[i]);
    }
    return Survival::lives;
}

ControlPlane::Survival ControlPlane::send_all(const std::vector<Command>& commands) {
    for (const auto& command : commands) {
        if (dies_here()) return Survival::died;
        ports_.send(command);
    }
    return Survival::lives;
}

void ControlPlane::rebuild_derived() {
    auto rebuilt = State::from_rows(core_.state().rows());
    CHECK(rebuilt.has_value());
    core_ = Core{std::move(*rebuilt)};
}

}  // namespace stargate::twin
