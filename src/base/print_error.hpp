#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace stargate {

/// Writes to standard error and goes on where that cannot be written, as on a full disk: fmt::print would throw there.
template <class... Args>
void print_error(fmt::format_string<Args...> text, Args&&... args) {
    const auto said = fmt::format(text, std::forward<Args>(args)...);
    [[maybe_unused]] const auto written = std::fwrite(said.data(), 1, said.size(), stderr);
}

}  // namespace stargate
