#pragma once

#include <vector>

#include "core/state.hpp"

namespace stargate::api {

/// A job and what it holds of that which another waits for; nothing of what the other does not lack.
struct Holder {
    JobId job;  // none: the work on `node` that State does not know
    NodeId node;
    std::int64_t milli_gpus = 0;  // thousandths of GPUs
    MilliCpus cpus;
    Bytes memory;
};

/// Who holds what this waiting job lacks by these reasons: GPUs of its types, CPUs or memory of the node that came
/// closest, its tenant's quota, or what is promised to it. Most first, at most `most` of them. Cost O(attempts +
/// nodes).
[[nodiscard]] std::vector<Holder> holders(const State& state, JobId job, const std::vector<Refusal>& reasons,
                                          std::size_t most);

}  // namespace stargate::api
