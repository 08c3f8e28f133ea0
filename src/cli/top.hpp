#pragma once

#include <string>

namespace stargate::cli {

/// Shows the fleet, what runs and what waits, anew every second, until `q` or an interrupt; the terminal is as it was
/// then. Where standard output is no terminal it is shown once.
int top(const std::string& state);

}  // namespace stargate::cli
