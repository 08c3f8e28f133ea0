#pragma once

#include <string>
#include <utility>
#include <vector>

namespace stargate::cli {

/// What `stargate shell` was asked.
struct ShellOptions {
    std::string state;
    std::string attach;                // a job that runs already; empty: a new one
    std::vector<std::string> command;  // empty: the account's shell
    std::string gpus = "1";
    std::vector<std::pair<std::string, std::string>> more;  // further members of the request, as name, priority, time
};

/// A shell where the GPUs are, at this terminal. It outlives this one: whoever loses it takes it up again by `attach`.
/// What is typed goes to it as it is; `~.` at the beginning of a line leaves it running. Its exit status, 0 when left.
int shell(const ShellOptions& options);

}  // namespace stargate::cli
