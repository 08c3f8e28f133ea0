#pragma once

#include <string>

#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::live {

/// The fleet's time on this machine. It runs with the monotonic clock, so a wall clock that jumps moves nothing; a
/// restart on the same boot goes on without a gap, and after another boot the downtime is added once, from the wall.
class FleetClock {
public:
    /// What the machine's clocks say at one moment, in microseconds.
    struct Reading {
        std::string boot;
        std::int64_t since_boot = 0;
        std::int64_t wall = 0;
    };
    [[nodiscard]] static Reading read_machine();

    /// `last` is the newest instant in the log. Keeps what it needs in `folder`/clock, durably.
    [[nodiscard]] static Result<FleetClock> start(const std::string& folder, Instant last,
                                                  const Reading& machine = read_machine());
    [[nodiscard]] Instant now() const;
    [[nodiscard]] Instant at(std::int64_t since_boot) const { return Instant{Duration{offset_ + since_boot}}; }

private:
    explicit FleetClock(std::int64_t offset) : offset_{offset} {}
    std::int64_t offset_ = 0;  // microseconds from CLOCK_BOOTTIME to fleet time
};

/// The running system's boot id, a UUID as text.
std::string boot_id();

}  // namespace stargate::live
