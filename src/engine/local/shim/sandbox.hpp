#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"

namespace stargate::local {

/// Why the place for the ranks could not be made: could_not_start where the job file asks for what is not there,
/// refused where this machine lacks something.
struct SandboxFault {
    EndKind kind = EndKind::refused;
    std::string why;
};

/// The flags of clone that make the namespaces, for this caller: root needs no user namespace, others do.
[[nodiscard]] unsigned long namespace_flags(Confinement confinement);

/// Called by init in its new namespaces, before it has started anything: makes the file system that the ranks will
/// see. With Confinement::none only checks what must hold there, too.
/// The current folder is the attempt's; its job/ is shown to the job.
/// gpus      granted to the generation, as bits
/// uid, gid  of the caller before it entered a user namespace
[[nodiscard]] std::optional<SandboxFault> build_sandbox(const Spec& spec, std::uint64_t gpus, uid_t uid, gid_t gid);

}  // namespace stargate::local
