#pragma once

#include "base/result.hpp"
#include "fleet/node.hpp"

namespace stargate::live {

/// This machine as a node of the fleet: its host name, CPUs and memory, and `cpu_gpus` shares of its CPU as GPUs of
/// type `cpu` (0: as many as it has cores). Fault::malformed when that is more than a node can have.
[[nodiscard]] Result<NodeShape> this_machine(int cpu_gpus);

/// The name under which the state in `folder` knows this machine: `host_name` at its first start, and the same for
/// ever. A machine that is renamed is still the one on which its work runs. Kept durably in `folder`/node.
[[nodiscard]] Result<std::string> kept_node_name(const std::string& folder, const std::string& host_name);

}  // namespace stargate::live
