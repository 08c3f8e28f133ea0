#pragma once

#include <string>

#include "base/posix.hpp"
#include "base/result.hpp"

namespace stargate::net {

/// A unix socket that listens at `path` with this mode from the first moment on, in place of what was there. Paths of
/// any length: longer ones than the kernel's 107 bytes go through their folder.
[[nodiscard]] Result<FileDescriptor> listen_at(const std::string& path, unsigned mode);

/// Fault::not_found when nobody listens there.
[[nodiscard]] Result<FileDescriptor> connect_to(const std::string& path);

}  // namespace stargate::net
