#include "loop/round.hpp"

#include <algorithm>

#include "base/overloaded.hpp"
#include "core/log.hpp"
#include "core/owed.hpp"

namespace stargate {

void log_facts(store::Batch& batch, const Core& core, Instant now, const Input& input, std::size_t from) {
    const auto& facts = core.batch();
    if (facts.size() == from) return;
    const auto cause = static_cast<std::uint32_t>(batch.inputs.size());
    batch.inputs.push_back({now, type_of(input), encoded(input)});
    for (auto i = from; i < facts.size(); ++i) {
        batch.facts.push_back({type_of(facts[i]), encode_entry(now, type_of(input), facts[i]), cause});
    }
}

void log_history(store::Batch& batch, const Core& core) {
    for (const auto& retired : core.retired()) {
        const auto* finished = std::get_if<Finished>(&retired.job.phase);
        batch.history.push_back({retired.job.id, finished->at, encoded(retired)});
    }
}

CommandsDue::CommandsDue(const State& state) {
    state.table<Attempt>().for_each([this](const Attempt& attempt) {
        for (const auto& part : attempt.parts) places_[attempt.id].push_back(part.node);
    });
}

std::vector<Command> CommandsDue::after(const State& state, const std::vector<Fact>& facts) {
    std::vector<AttemptId> touched;
    std::vector<Command> commands;
    const auto over = [&](AttemptId id) {
        const auto known = places_.find(id);
        if (known == places_.end()) return;
        for (const auto node : known->second) commands.push_back(Forget{id, node});
        places_.erase(known);
    };
    const auto placed = [&](AttemptId id, const Parts& on) {
        auto& nodes = places_[id];
        for (const auto node : nodes) {  // what it left behind there must not be taken for its next generation
            const auto stays = [&](const Part& part) { return part.node == node; };
            if (std::none_of(on.begin(), on.end(), stays)) commands.push_back(Forget{id, node});
        }
        nodes.clear();
        for (const auto& part : on) nodes.push_back(part.node);
        touched.push_back(id);
    };
    for (const auto& fact : facts) {
        if (const auto* started = std::get_if<Started>(&fact)) placed(started->attempt, started->parts);
        if (const auto* resized = std::get_if<Resized>(&fact)) placed(resized->attempt, resized->parts);
        if (const auto* warned = std::get_if<Warned>(&fact)) touched.push_back(warned->attempt);
        if (const auto* running = std::get_if<Running>(&fact)) touched.push_back(running->attempt);
        if (const auto* sleeps = std::get_if<SleepBegun>(&fact)) touched.push_back(sleeps->attempt);
        if (const auto* woken = std::get_if<Woken>(&fact)) touched.push_back(woken->attempt);
        if (const auto* ended = std::get_if<Ended>(&fact)) over(ended->attempt);
        if (const auto* requeued = std::get_if<Requeued>(&fact)) over(requeued->attempt);
    }
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (const auto id : touched) {
        if (const auto* attempt = state.find<Attempt>(id)) {
            const auto more = owed(state, *attempt);
            commands.insert(commands.end(), more.begin(), more.end());
        }
    }
    return commands;
}

std::vector<Command> owed_to(const State& state, NodeId node) {
    std::vector<Command> commands;
    for (const auto id : state.attempts_on(node)) {
        for (const auto& command : owed(state, state.at<Attempt>(id))) {
            const auto to = std::visit([](const auto& what) { return what.node; }, command);
            if (to == node) commands.push_back(command);
        }
    }
    return commands;
}

}  // namespace stargate
