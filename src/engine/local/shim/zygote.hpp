#pragma once

#include "engine/local/posix.hpp"

namespace stargate::local {

/// Forks a shim for whoever asks over the link, and is done when the link ends. Returns the exit status, in the shims
/// as well. words  of the command line, three: where each shim writes what it is called
int be_zygote(Fd link, char** words);

}  // namespace stargate::local
