#pragma once

#include <map>
#include <vector>

#include "core/core.hpp"
#include "store/rows.hpp"

/// What one round of the writer leaves, the same in both worlds: rows for the log, and the commands that became owed.
namespace stargate {

/// Logs `input` and the facts it caused, which are those of the core's batch from `from` on. An input that caused none
/// is not logged.
void log_facts(store::Batch& batch, const Core& core, Instant now, const Input& input, std::size_t from);

/// Rows for the history table of the jobs that this batch retired.
void log_history(store::Batch& batch, const Core& core);

/// Turns facts into the commands that became owed with them. Keeps which nodes a live attempt is on, so that it can be
/// forgotten there once its end, or a generation that left the node, is committed; after a restart this is learnt anew
/// from State and, for what State has forgotten, from what the engines find.
class CommandsDue {
public:
    CommandsDue() = default;
    explicit CommandsDue(const State& state);

    /// First what is to be forgotten, then in order of attempt what State owes; that stands in for whatever was sent
    /// before.
    std::vector<Command> after(const State& state, const std::vector<Fact>& facts);

private:
    std::map<AttemptId, std::vector<NodeId>> places_;
};

/// What State owes to this node: to be sent again when it can be reached again.
std::vector<Command> owed_to(const State& state, NodeId node);

}  // namespace stargate
