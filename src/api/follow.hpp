#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/control.hpp"
#include "api/http.hpp"

/// Streams: what jobs print while they run, and facts as they are committed.
namespace stargate::api {

enum class Framing : std::uint8_t { plain, frames };

struct FollowOptions {
    Framing framing = Framing::frames;
    bool until_end = true;  // wait for more until all have ended, else give what there is
    std::string accepted;   // JSON of the first frame; empty: none
    AttemptId attempt;      // read this one instead of the newest
    std::string resume;     // where an earlier stream broke off: `task:attempt:offset` or `task:done`, commas between
};

/// The output and the end of `count` jobs from `first` on.
[[nodiscard]] std::unique_ptr<Stream> follow_jobs(const Control& control, JobId first, std::int32_t count,
                                                  const FollowOptions& options);

enum class EventFormat : std::uint8_t { lines, server_sent };

/// Facts from `from` on, for ever.
[[nodiscard]] std::unique_ptr<Stream> follow_facts(const Control& control, std::uint64_t from, EventFormat format);

/// Appends one fact as an object: `{"seq":..,"at":..,"type":..,"cause":..,"cause_seq":.., members of the fact}`.
void append_fact(std::string& out, const LoggedFact& fact);

}  // namespace stargate::api
