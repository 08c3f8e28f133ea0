#pragma once

#include <functional>
#include <sstream>
#include <string>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::api {

/// Reads a file that has a secret's digest and some words in each line, as tokens and gateway keys are kept. No file
/// has no rows. A line that is cut, has other words or is no digest is damage: the error names it, and `made_by`, the
/// command that makes a new one in its place. take  is given the digest and the words after it, and says whether they
/// are all there
[[nodiscard]] Result<void> read_secret_rows(const std::string& file, Bytes most, const std::string& made_by,
                                            const std::function<bool(const Digest&, std::istringstream&)>& take);

}  // namespace stargate::api
