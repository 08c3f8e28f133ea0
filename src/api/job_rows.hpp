#pragma once

#include <string>
#include <string_view>

#include "core/core.hpp"

/// Jobs as rows of JSON, straight from State: called under the view's lock for a thousand jobs at a time.
namespace stargate::api {

enum class JobState : std::uint8_t { waiting, starting, running, stopping, unknown, succeeded, failed, cancelled };
BOOST_DESCRIBE_ENUM(JobState, waiting, starting, running, stopping, unknown, succeeded, failed, cancelled)

[[nodiscard]] JobState state_of(const State& state, const Job& job);

/// `NAME`, or `NAME[i]` for an element of an array.
[[nodiscard]] std::string label_of(const State& state, const Job& job);
[[nodiscard]] std::string label_of(const RetiredJob& job);

/// Of a replica that is not over: how it fails, or how its last attempt did, where it has not been ready since. A
/// sentence, empty when there is nothing to say.
[[nodiscard]] std::string trouble_of(const State& state, const Job& job);

/// Thousandths as a decimal number: 500 is 0.5.
void append_milli(std::string& out, std::int64_t milli);

/// Appends one object (docs/api.md lists its members).
void append_job(std::string& out, const State& state, const Job& job);
void append_retired(std::string& out, const State& state, const RetiredJob& retired);

}  // namespace stargate::api
