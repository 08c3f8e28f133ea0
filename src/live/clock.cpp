#include "live/clock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <optional>

#include "base/file.hpp"

namespace stargate::live {

namespace {
std::int64_t microseconds_of(clockid_t clock) {
    timespec at{};
    clock_gettime(clock, &at);
    return std::int64_t{at.tv_sec} * 1'000'000 + at.tv_nsec / 1000;
}

/// What the last start on this boot noted; nothing after a reboot or when the file says nothing.
std::optional<std::int64_t> noted_offset(const std::string& path, const std::string& boot) {
    const auto text = read_file(path, Bytes{4096});
    if (!text) return std::nullopt;
    char noted_boot[64] = {};
    long long offset = 0;
    if (std::sscanf(text->c_str(), "%63s %lld", noted_boot, &offset) != 2 || boot != noted_boot) return std::nullopt;
    return offset;
}
}  // namespace

std::string boot_id() {
    std::ifstream file{"/proc/sys/kernel/random/boot_id"};  // files of /proc say that they are empty
    std::string text;
    return file >> text ? text : "unknown";
}

FleetClock::Reading FleetClock::read_machine() {
    return {boot_id(), microseconds_of(CLOCK_BOOTTIME), microseconds_of(CLOCK_REALTIME)};
}

Result<FleetClock> FleetClock::start(const std::string& folder, Instant last, const Reading& machine) {
    const auto path = folder + "/clock";
    const auto newest = last.time_since_epoch().count();
    if (const auto noted = noted_offset(path, machine.boot)) {
        return FleetClock{std::max(*noted, newest - machine.since_boot)};
    }
    const auto offset = std::max(machine.wall, newest) - machine.since_boot;
    return write_durably(path, fmt::format("{} {}\n", machine.boot, offset)).map([&] { return FleetClock{offset}; });
}

Instant FleetClock::now() const { return at(microseconds_of(CLOCK_BOOTTIME)); }

}  // namespace stargate::live
