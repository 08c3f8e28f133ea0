#pragma once

#include <string>

#include "live/keep_log.hpp"

namespace stargate {

/// What `stargate up` was asked.
struct UpOptions {
    std::string state;
    std::string listen = "127.0.0.1:7433";
    std::string gateway = "127.0.0.1:7434";  // where clients find the services
    int cpu_gpus = 0;                        // 0: as many as this machine has cores
    std::string job_user = "stargate-job";   // whom root's own submissions run as
    bool allow_sandbox_none = false;         // to everybody; operators may always
    bool detach = false;
    live::LogLimits log_limits;
};

/// Starts the control plane of this machine and stays until it is told to go down; with `detach` returns once it is
/// ready. Says where it is, and what to do next. Returns an exit status: 0, or with a sentence on standard error 1, and
/// 2 where it was asked for a job user that there is not.
int up(UpOptions options);

}  // namespace stargate
