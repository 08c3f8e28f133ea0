#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/names.hpp"
#include "base/result.hpp"
#include "work/job.hpp"
#include "work/launch.hpp"

/// The values of job files, of the API's JSON and of the command line as single words. Errors read `what; remedy`.
namespace stargate::api {

/// `4`, `1..8`, `0`, or `0.5` for a share of one GPU: sets min_gpus, max_gpus and share.
[[nodiscard]] Result<void> read_gpus(std::string_view text, JobSpec& spec);
[[nodiscard]] Result<void> check_job_name(std::string_view name);
/// Names of jobs to come after, each once; at most max_after.
[[nodiscard]] Result<std::vector<std::string>> read_after(const std::vector<std::string>& names);
[[nodiscard]] Result<void> check_variable_name(std::string_view name);
[[nodiscard]] Result<Duration> read_duration(std::string_view text);
[[nodiscard]] Result<Bytes> read_bytes(std::string_view text);
[[nodiscard]] Result<MilliCpus> read_cpus(std::string_view text);
[[nodiscard]] Result<PriorityClass> read_priority(std::string_view text);
[[nodiscard]] Result<Sandbox> read_sandbox(std::string_view text);

/// What a job gets that does not ask.
constexpr std::string_view default_tenant = "default";
constexpr Duration default_time_limit = std::chrono::hours{24};
constexpr Duration default_grace = std::chrono::seconds{5};
constexpr Duration default_drain = std::chrono::seconds{30};  // of a replica: for the requests that it has
constexpr Duration longest_time_limit = std::chrono::hours{24 * 366};
constexpr Duration longest_grace = std::chrono::hours{1};

}  // namespace stargate::api
