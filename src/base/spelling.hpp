#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stargate {

/// ` (did you mean `gpus`?)` when one of `known` is close to `word`, else nothing.
[[nodiscard]] std::string did_you_mean(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace stargate
