#pragma once

#include <string>
#include <vector>

#include "engine/local/messages.hpp"

namespace stargate::local {

/// Where the job finds its own folder (attempt folder's `job/`): bound here in a sandbox, on the host's path without.
/// It lies in our own /dev, because /tmp may be the submitter's folder and everything else is the host's.
constexpr const char* job_folder_in_sandbox = "/dev/stargate";

/// The environment of one rank, as NAME=value: the account's base (or the submitter's whole environment), then what
/// the job file asks for, then ours, which nothing overrides.
[[nodiscard]] std::vector<std::string> rank_environment(const Spec& spec, const Run& run, std::int32_t local_rank);

/// How the job sees its own folder.
[[nodiscard]] std::string job_folder_path(const Spec& spec);

}  // namespace stargate::local
