#pragma once

#include <string_view>

#include "api/jobfile.hpp"

namespace stargate::api {

/// Reads the body of POST jobs: `{"yaml": TEXT, "file": NAME, "folder": DIR}` for a job file, or the fields of one
/// command as JSON. `environment` is the submitter's own, `keep_environment` whether the job may have it.
[[nodiscard]] Result<ParsedJob> parse_submit(std::string_view body, JobFileSetting setting, bool keep_environment);

/// Reads the body of PATCH jobs: what is to be different, in the words of a command's fields. Names no job.
[[nodiscard]] Result<Edit> parse_edit(std::string_view body);

}  // namespace stargate::api
