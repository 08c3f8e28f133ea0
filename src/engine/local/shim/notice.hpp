#pragma once

#include <cstdint>
#include <string>

#include "engine/local/messages.hpp"

namespace stargate::local {

/// What the job reads in $STARGATE_NOTICE.
struct Notice {
    std::string cause;
    std::int64_t grace_us = 0;    // left when the notice is written
    std::int32_t next_world = 0;  // 0: no generation follows
    std::uint32_t generation = 1;
    std::int32_t port = 0;  // MASTER_PORT of a generation that has begun; 0: none has
};

/// Replaces the notice as a whole, so that a reader never sees half of one. The folder belongs to the job, which may
/// put links and folders in our way: nothing outside is ever touched, and a job that spoils its own notice goes
/// without. Not durable: the job dies with the machine.
void write_notice(int job_folder, const Notice& notice);

/// The step that the job has written to $STARGATE_PROGRESS, -1 when none can be read.
[[nodiscard]] std::int64_t read_progress(int job_folder);

}  // namespace stargate::local
