#pragma once

#include "base/result.hpp"
#include "fleet/node.hpp"

namespace stargate::live {

/// This machine as a node of the fleet: its host name, CPUs and memory, and `cpu_gpus` shares of its CPU as GPUs of
/// type `cpu` (0: as many as it has cores). Fault::malformed when that is more than a node can have.
[[nodiscard]] Result<NodeShape> this_machine(int cpu_gpus);

}  // namespace stargate::live
