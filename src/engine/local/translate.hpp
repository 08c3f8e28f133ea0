#pragma once

#include <string>

#include "core/command.hpp"
#include "core/report.hpp"
#include "engine/local/messages.hpp"
#include "work/launch.hpp"

// Between the core's words and the shim's, which are the same words without their library.
namespace stargate::local {

[[nodiscard]] Speaker speaker_of(const Authority& authority);
[[nodiscard]] Run run_of(const RunRanks& command, const Speaker& by);
/// now  the same clock as the command's deadline; the shim gets what is left
[[nodiscard]] End end_of(const EndRanks& command, Instant now, const Speaker& by);
[[nodiscard]] Spec spec_of(const RunRanks& command, const Launch& launch, const Speaker& by);
[[nodiscard]] RanksEnded report_of(const Ended& ended, AttemptId attempt, NodeId node);

}  // namespace stargate::local
