#pragma once

namespace stargate::local {

/// Refuses (EPERM) the system calls that no computation needs and that attacks on the kernel begin with. Needs
/// no_new_privs; holds for the calling process and all that it starts. False with errno.
[[nodiscard]] bool forbid_dangerous_calls();

}  // namespace stargate::local
