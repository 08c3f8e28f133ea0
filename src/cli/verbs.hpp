#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace stargate::cli {

/// Where the state lies unless --state or STARGATE_STATE says otherwise.
std::string default_state();

/// Adds `--state`, which every verb takes, to a verb.
void add_state(CLI::App& verb, std::string& state);

/// Adds the verbs that talk to a control plane. The verb that was asked for puts what it does into `action`, which
/// returns the exit status: 0 done, 1 it failed, 2 it was refused. `command` is what follows the first `--` of `run`:
/// CLI11 is not shown it, since it would take words as `[1,2]` apart.
void add_verbs(CLI::App& app, std::function<int()>& action, const std::vector<std::string>& command);

}  // namespace stargate::cli
