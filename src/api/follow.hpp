#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/control.hpp"
#include "api/fact_sight.hpp"
#include "api/http.hpp"

/// Streams: what jobs print while they run, and facts as they are committed.
namespace stargate::api {

enum class Framing : std::uint8_t { plain, frames };

/// Where an earlier stream of some jobs broke off.
struct Heard {
    std::size_t first = 0;  // elements first to last, from 0
    std::size_t last = 0;
    bool done = false;  // to their ends; else:
    AttemptId attempt{};
    std::int64_t offset = 0;  // bytes of its output
};

/// Reads `TASK:ATTEMPT:OFFSET`, `TASK:done` or `FIRST-LAST:done`, commas between, of `count` elements; `what; remedy`
/// (Fault::malformed) where it is none of these.
[[nodiscard]] Result<std::vector<Heard>> read_heard(std::string_view text, std::int32_t count);

struct FollowOptions {
    Framing framing = Framing::frames;
    bool until_end = true;     // wait for more until all have ended, else give what there is
    std::string accepted;      // JSON of the first frame; empty: none
    AttemptId attempt;         // read this one instead of the newest
    std::vector<Heard> heard;  // by who takes it up
    bool is_typed_at = false;  // somebody waits for the echo of each key: looks for output oftener
};

/// The output and the end of `count` jobs from `first` on.
[[nodiscard]] std::unique_ptr<Stream> follow_jobs(const Control& control, JobId first, std::int32_t count,
                                                  const FollowOptions& options);

enum class EventFormat : std::uint8_t { lines, list, server_sent };

/// Facts from `from` on that the caller may see: for ever, or those that there are, at most `most`. A list is JSON as a
/// whole; it looks at the next 100,000, where most are of tenants that the caller may not see.
[[nodiscard]] std::unique_ptr<Stream> follow_facts(const Control& control, const Caller& caller, std::uint64_t from,
                                                   EventFormat format, std::optional<std::size_t> most = {});

/// Reads the log from a fact on, for one caller.
class FactReader {
public:
    FactReader(const Control& control, const Caller& caller, std::uint64_t from)
        : control_{control}, sight_{control, caller}, next_{from} {}
    /// Looks at up to `most` facts and appends those that the caller may see; returns at how many it looked.
    [[nodiscard]] Result<std::size_t> read(std::size_t most, std::vector<LoggedFact>& out);

private:
    const Control& control_;
    FactSight sight_;
    std::uint64_t next_;
};

/// What a fact's own member is called in an event: the names that every event has are taken.
[[nodiscard]] std::string_view event_word(std::string_view member);

/// Appends one fact as an object: `{"seq":..,"at":..,"type":..,"cause":..,"cause_seq":.., members of the fact}`.
void append_fact(std::string& out, const LoggedFact& fact);

}  // namespace stargate::api
