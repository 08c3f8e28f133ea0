#pragma once

#include <cstdint>
#include <string>

#include "cli/table.hpp"

/// Verbs that pass on a stream, and take it up again where it broke off.
namespace stargate::cli {

struct LogsAsked {
    std::string state;
    std::string reference;      // of the job
    bool follow = false;        // until it ends
    std::uint64_t attempt = 0;  // 0: the newest
};
/// A job's output, of both of its streams, on standard output. Returns the exit status.
int logs(const LogsAsked& asked);

struct EventsAsked {
    std::string state;
    std::uint64_t from = 1;  // seq of the first one
    bool follow = false;     // for ever
    Output output = Output::table;
};
int events(const EventsAsked& asked);

}  // namespace stargate::cli
