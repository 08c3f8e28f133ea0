#pragma once

#include <cstdint>

#include "engine/local/posix.hpp"

namespace stargate::local {

/// A pair of ends: what is written to one is read at the other, with what a terminal does between.
struct Terminal {
    Fd master;
    Fd slave;  // the rank's
};

/// Of the /dev that the caller sees, so that the rank finds its name there; the slave belongs to `owner`. Empty with
/// errno.
[[nodiscard]] Terminal open_terminal(std::uint32_t owner);

void set_window(int master, std::uint16_t rows, std::uint16_t columns);

}  // namespace stargate::local
