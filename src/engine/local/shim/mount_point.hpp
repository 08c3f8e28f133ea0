#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/local/messages.hpp"
#include "engine/local/shim/sandbox.hpp"

namespace stargate::local {

/// Makes `path`, absolute and plain, exist as a mount point; nothing to tell when it does.
/// Where the submitter may create it, it is created for good, as any program of theirs would. Elsewhere the nearest
/// folder that exists is replaced, in this mount namespace alone, by a copy with its owner and mode, made of its
/// entries and the new one; for "/" the root itself is replaced. That is done only to a folder that the submitter may
/// read and search, so the copy shows nothing that was closed to them.
/// hidden  folders that no job sees, canonical: nothing is made inside them, not even by who owns them
[[nodiscard]] std::optional<SandboxFault> make_mount_point(const RunAs& submitter,
                                                           const std::vector<std::string>& hidden,
                                                           const std::string& path, bool for_folder);

}  // namespace stargate::local
