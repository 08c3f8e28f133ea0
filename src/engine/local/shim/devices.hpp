#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/local/posix.hpp"

namespace stargate::local {

/// Replaces /dev by a small one: the harmless devices, the host's /dev/shm, terminals of its own, the granted GPUs'
/// files, and at job_folder_in_sandbox the job's folder. Returns what went wrong, if anything.
/// gpus   bit i grants /dev/nvidia<i>; 0 grants none
[[nodiscard]] std::optional<std::string> build_devices(std::uint64_t gpus, const Fd& job_folder,
                                                       const Fd& shared_memory);

}  // namespace stargate::local
