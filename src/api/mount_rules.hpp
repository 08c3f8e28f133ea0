#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "work/launch.hpp"

/// What no job may mount or start in, because the shim would refuse it or nothing could run then. Asked of the paths as
/// a file has them, and again of where its links lead. Errors read `what; remedy`. `state` is the state folder, empty
/// for none.
namespace stargate::api {

[[nodiscard]] Result<void> check_mount_source(std::string_view source, std::string_view state);

/// The folder that a job starts in.
[[nodiscard]] Result<void> check_folder(std::string_view folder, std::string_view state);

/// Where the folder that the job starts in lies on the host, when its mounts are made: beneath the source of the last
/// one that holds it. Empty when none does.
[[nodiscard]] std::string folder_in_mounts(const Launch& launch);

/// The target as a path without `.`, doubled or trailing slashes, when something may be mounted there.
[[nodiscard]] Result<std::string> read_mount_target(std::string_view target, std::string_view state);

}  // namespace stargate::api
