#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "base/units.hpp"

namespace stargate::gateway {

/// What is counted of a service, since the start.
struct Meters {
    /// Upper ends of the buckets of the time to the first token, in seconds; the last is open.
    static constexpr std::array<double, 12> ttft_bounds{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};

    std::map<int, std::uint64_t> requests;  // by the status that the client got; 499: it went before it got one
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t bytes_in = 0;   // of bodies, from clients
    std::uint64_t bytes_out = 0;  // and to them
    std::uint64_t retries = 0;    // at another replica
    std::uint64_t broken_streams = 0;
    std::array<std::uint64_t, ttft_bounds.size() + 1> ttft{};
    double ttft_sum_s = 0;

    void note_ttft(Duration took);
};

constexpr int client_gone_status = 499;  // as nginx has it

}  // namespace stargate::gateway
