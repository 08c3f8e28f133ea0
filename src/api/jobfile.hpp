#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "core/input.hpp"
#include "work/launch.hpp"

namespace stargate::api {

/// What a job file is read against.
struct JobFileSetting {
    std::string file = "job.yaml";       // for messages
    std::string folder;                  // absolute: where relative paths of the file begin
    Account account;                     // that the job will run as
    std::uint32_t owner = 0;             // uid of the one who submits
    std::string state;                   // the state folder, which no job sees; empty: there is none
    std::vector<std::string> gpu_types;  // of this fleet, in the order of Settings::gpu_types
    std::int32_t max_array = 100'000;    // as Settings::max_array
};

/// A job as it was asked for: what decisions see, and how it is run.
struct ParsedJob {
    Submit submit;
    Launch launch;
    std::string file;                  // its name for messages; empty for a command
    std::map<std::string, int> lines;  // of each field that the file has

    /// `FILE:LINE: FIELD: ` for what is found wrong with a field later; empty for a command.
    [[nodiscard]] std::string where(std::string_view field) const;
};

/// Reads a job file (docs/job-file.md). Errors read `FILE:LINE: FIELD: what; remedy`. Looks at nothing but its
/// arguments: whether folders and programs exist is asked elsewhere.
[[nodiscard]] Result<ParsedJob> parse_job_file(std::string_view text, const JobFileSetting& setting);

}  // namespace stargate::api
