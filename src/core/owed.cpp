#include "core/owed.hpp"

#include <algorithm>

#include "core/attempts.hpp"

namespace stargate {

namespace {
std::int32_t world_of(const Parts& parts) {
    std::int32_t ranks = 0;
    for (const auto& part : parts) ranks += part.ranks;
    return ranks;
}

std::int32_t ranks_on(const Parts& parts, NodeId node) {
    const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.node == node; });
    return found == parts.end() ? 0 : found->ranks;
}
Telling told(const Attempt& replica) {
    switch (replica.presence) {
        case Presence::falling_asleep:
            return Telling::sleep;
        case Presence::waking:
            return Telling::wake;
        case Presence::awake:
        case Presence::asleep:
            break;
    }
    return Telling::prove;
}
/// Of one that does not answer nothing more is to be waited for.
bool drains(const State& state, const Job& job, const Attempt& attempt) {
    const bool may_have_requests = attempt.is_ready || attempt.presence == Presence::falling_asleep;
    return may_have_requests && attempt.ending->cause != EndCause::unanswered &&
           state.find<Service>(job.spec) != nullptr;
}
}  // namespace

std::vector<Command> owed(const State& state, const Attempt& attempt) {
    std::vector<Command> commands;
    const auto& job = state.at<Job>(attempt.job);
    const auto& spec = state.spec_of(job);
    const auto world = world_of(attempt.parts);
    std::int32_t first_rank = 0;
    for (const auto& part : attempt.parts) {
        const auto rank = first_rank;
        first_rank += part.ranks;
        if (state.at<Node>(part.node).reach == Reach::dead) continue;
        if (attempt.ending) {
            const auto& ending = *attempt.ending;
            if (part.phase == PartPhase::ended || part.phase == PartPhase::thinned || !must_end(spec, ending, part))
                continue;
            const auto next_world = ranks_on(ending.next, part.node) > 0 ? world_of(ending.next) : 0;
            commands.push_back(EndRanks{attempt.id, part.node, attempt.generation, ending.cause,
                                        staying_ranks(spec, ending, part), next_world, ending.deadline,
                                        drains(state, job, attempt)});
        } else if (part.phase == PartPhase::running && attempt.reply_by != Instant{}) {
            commands.push_back(TellReplica{attempt.id, part.node, attempt.port, told(attempt), attempt.reply_by,
                                           attempt.reply_by - state.settings().claim_slack, attempt.tellings});
        } else if (part.phase == PartPhase::owed) {
            commands.push_back(RunRanks{attempt.id, job.id, part.node, attempt.generation, part.first, part.gpus, rank,
                                        part.ranks, world, job.task, attempt.port, part.cpus, part.memory});
        }
    }
    return commands;
}

std::vector<Command> owed(const State& state) {
    std::vector<Command> commands;
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        const auto more = owed(state, attempt);
        commands.insert(commands.end(), more.begin(), more.end());
    });
    return commands;
}

}  // namespace stargate
