#pragma once

#include "core/core.hpp"
#include "core/decide.hpp"

namespace stargate {

/// Changes what a job, or an array as a whole, asks for: class, time limit, size, what it comes after. Waiting work
/// takes its place in the line anew. Who runs keeps what it holds, which its new size must allow; a job that is not
/// elastic runs at the size at which it began. Called by decide alone. Cost O(elements).
Answer edit(Core& core, Instant now, const Edit& in);

}  // namespace stargate
