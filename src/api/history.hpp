#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api/control.hpp"
#include "api/http.hpp"

/// Accounting: jobs that have ended, those of State and those of the history alike, the last one first.
namespace stargate::api {

/// Which of them are asked for.
struct HistoryFilter {
    Instant since{};                     // ended then or later
    Instant until = never;               // and before
    std::optional<std::uint32_t> owner;  // a uid
    std::string tenant;                  // and those below it; empty: all
};

/// A JSON list of at most `limit` of them that the caller may see, as `GET /jobs` tells them.
[[nodiscard]] std::unique_ptr<Stream> list_history(const Control& control, const Caller& caller, HistoryFilter filter,
                                                   std::uint64_t limit);

/// A JSON list with what all of them have used and lost together, a row a tenant and owner.
[[nodiscard]] std::unique_ptr<Stream> sum_history(const Control& control, const Caller& caller, HistoryFilter filter);

}  // namespace stargate::api
