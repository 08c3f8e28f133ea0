#pragma once

#include <sys/types.h>

#include <optional>

#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"

namespace stargate::local {

/// The init of one generation, as its shim holds it.
struct InitHandle {
    pid_t pid = 0;
    Fd process;  // pidfd
    Fd link;     // init_messages.hpp
};

/// Starts the first process of a generation: in namespaces of its own it is their pid 1, with Confinement::none a
/// subreaper. It builds the sandbox, starts, signals and reaps ranks, and ends when all of them have. It dies with the
/// shim, and everything beneath it dies with it. Empty with errno when it could not be started.
/// The current folder is the attempt's.
/// lock  kept open by init: it is free only when everything is dead
[[nodiscard]] std::optional<InitHandle> start_init(const Spec& spec, std::uint64_t gpus, int lock);

}  // namespace stargate::local
