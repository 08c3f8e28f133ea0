#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "api/control.hpp"
#include "api/sight.hpp"

/// What people write to mean a job: an id, `NAME`, or `NAME[i]` for an element of an array; and what programs write to
/// mean the whole array that they were given the first id of: `ID[]`.
namespace stargate::api {

/// What a reference stands for among the jobs of State that the caller may see.
struct Named {
    std::vector<JobId> jobs;    // all elements of one array, oldest first; empty when there is none
    std::vector<JobId> rivals;  // the newest of each owner, when several people's jobs are meant alike
};

/// One's own jobs come before others', and of several the newest with an unfinished element. Where only others have one
/// of that name, and more than one of them, nobody can tell which is meant.
[[nodiscard]] Named jobs_of(const Sight& sight, std::string_view reference);

/// The one of them that a verb for a single job means: the newest unfinished element, else the newest.
[[nodiscard]] std::optional<JobId> one_of(const State& state, const std::vector<JobId>& jobs);

/// The job of the history that a reference stands for: of several the one that ended last, one's own before others'.
/// Names are looked for among the newest 20,000.
[[nodiscard]] Result<std::optional<RetiredJob>> retired_of(const Control& control, const Caller& caller,
                                                           std::string_view reference);

/// Whether a name or `NAME[i]` means this job of the history.
[[nodiscard]] bool is_named(const RetiredJob& job, std::string_view reference);

}  // namespace stargate::api
