#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/core.hpp"

/// Jobs as rows of JSON, straight from State: called under the view's lock for a thousand jobs at a time.
namespace stargate::api {

enum class JobState : std::uint8_t { waiting, starting, running, stopping, unknown, succeeded, failed, cancelled };
BOOST_DESCRIBE_ENUM(JobState, waiting, starting, running, stopping, unknown, succeeded, failed, cancelled)

[[nodiscard]] JobState state_of(const State& state, const Job& job);

/// `NAME`, or `NAME[i]` for an element of an array.
[[nodiscard]] std::string label_of(const State& state, const Job& job);

/// Appends one object (docs/api.md lists its members).
void append_job(std::string& out, const State& state, const Job& job);
void append_retired(std::string& out, const State& state, const RetiredJob& retired);

/// The jobs that a reference stands for: an id, `NAME[i]`, or a name. Of several of one name, the newest with an
/// unfinished element. A name stands for all elements of its array, oldest first; empty when there is none.
[[nodiscard]] std::vector<JobId> jobs_of(const State& state, std::string_view reference);
/// The one of them that a verb for a single job means: the newest unfinished element, else the newest.
[[nodiscard]] std::optional<JobId> job_of(const State& state, std::string_view reference);

}  // namespace stargate::api
