#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "cli/table.hpp"

/// What has been used: `history` and `usage --jobs`.
namespace stargate::cli {

struct Accounting {
    std::string state;
    std::string since, until;  // `7d`, or a date; empty: no bound
    std::string user, tenant;  // a name or a uid; a path
    int limit = 1000;
    Output output = Output::table;
};

/// Jobs that have ended, the last one first.
int history(const Accounting& asked);
/// What they used together, by tenant and user.
int usage_of_jobs(const Accounting& asked);

/// `90m`, `12h`, `7d` or `2w` before `now`, `2026-11-28`, `2026-11-28 13:00` or with seconds, in local time:
/// microseconds since the Unix epoch.
[[nodiscard]] Result<std::int64_t> read_instant(std::string_view text, std::int64_t now);

}  // namespace stargate::cli
