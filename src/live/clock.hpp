#pragma once

#include <string>

#include "base/result.hpp"
#include "base/units.hpp"

namespace stargate::live {

/// The fleet's time on this machine. It runs with the monotonic clock, so a wall clock that jumps moves nothing; a
/// restart on the same boot goes on without a gap, and after another boot the downtime is added once, from the wall.
class FleetClock {
public:
    /// `last` is the newest instant in the log. Keeps what it needs in `folder`/clock, durably.
    [[nodiscard]] static Result<FleetClock> start(const std::string& folder, Instant last);
    [[nodiscard]] Instant now() const;

private:
    explicit FleetClock(std::int64_t offset) : offset_{offset} {}
    std::int64_t offset_ = 0;  // microseconds from CLOCK_BOOTTIME to fleet time
};

/// The running system's boot id, a UUID as text.
std::string boot_id();

}  // namespace stargate::live
