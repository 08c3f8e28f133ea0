#pragma once

#include <string>

#include "base/result.hpp"

namespace stargate::cli {

/// A job file as it was handed over.
struct JobSource {
    std::string name;    // for messages: the path as given, or `standard input`
    std::string text;    // no more than the control plane needs to see that it is too long
    std::string folder;  // where its job starts unless it says so: a file's own, else the caller's
};

/// Reads a job file, or what comes through a pipe until it ends; `-` is standard input. Of a terminal it says on
/// standard error that it waits for it. Fault::malformed with the whole sentence, but for `stargate: `.
[[nodiscard]] Result<JobSource> read_job_source(const std::string& path);

}  // namespace stargate::cli
