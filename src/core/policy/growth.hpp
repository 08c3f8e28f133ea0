#pragma once

#include "core/core.hpp"

namespace stargate {

/// Spare GPUs go to elastic work, but only once they have been spare for a quiet period; a person's wish goes at once.
/// Cost O(elastic attempts), and O(nodes of a rack) for each that could grow there.
void grow_elastic(Core& core, Instant now);

}  // namespace stargate
