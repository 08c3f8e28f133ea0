#pragma once

#include <functional>
#include <sstream>
#include <string>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::api {

/// Reads a file that has a secret's digest and some words in each line, as tokens and gateway keys are kept. No file
/// has no rows. A line that is cut, has other words or is no digest is damage: the error names it, and the remedy.
/// remedy  what to do beside removing the line
/// take    is given the digest and the words after it, and says whether they are all there
[[nodiscard]] Result<void> read_secret_rows(const std::string& file, Bytes most, const std::string& remedy,
                                            const std::function<bool(const Digest&, std::istringstream&)>& take);

}  // namespace stargate::api
