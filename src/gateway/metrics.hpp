#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "gateway/pool.hpp"

namespace stargate::gateway {

/// Prometheus' text format. refused  requests that belonged to no service, by status
[[nodiscard]] std::string metrics_text(const Pool& pool, const std::map<int, std::uint64_t>& refused,
                                       std::size_t connections);

}  // namespace stargate::gateway
