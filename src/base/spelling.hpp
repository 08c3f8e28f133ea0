#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stargate {

/// ` (did you mean `gpus`?)` when one of `known` is close to `word`, else nothing.
[[nodiscard]] std::string did_you_mean(std::string_view word, const std::vector<std::string_view>& known);

/// Nothing that others wrote shall move a terminal's cursor: control characters, C1 among them, and bytes that
/// are no UTF-8 become `?`.
[[nodiscard]] std::string without_controls(std::string_view text);

/// What a message may quote of what others wrote: one line without control characters, and not all of a large file.
[[nodiscard]] std::string presentable(std::string text);

/// `word` as it is written in a line for the shell: in quotes where it would not be one word as it stands.
[[nodiscard]] std::string shell_word(std::string_view word);

}  // namespace stargate
