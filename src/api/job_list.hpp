#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api/control.hpp"
#include "api/http.hpp"
#include "api/job_rows.hpp"
#include "api/sight.hpp"

namespace stargate::api {

/// What a listing is asked to hold.
struct JobFilter {
    bool only_active = false;
    std::string name;  // of a job or of an element; empty: all
    std::optional<JobState> state;
    std::optional<std::uint32_t> owner;  // a uid

    [[nodiscard]] bool takes(const Sight& sight, const Job& job) const;
    [[nodiscard]] bool takes(const RetiredJob& job) const;
};

/// A JSON list of at most `limit` jobs that the caller may see: those of State, newest first, then those of the
/// history, the last ended first, of the newest 100,000. Each row is as the job stood when its piece was made.
[[nodiscard]] std::unique_ptr<Stream> list_jobs(const Control& control, const Caller& caller, JobFilter filter,
                                                std::uint64_t limit);

}  // namespace stargate::api
