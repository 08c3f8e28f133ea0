#pragma once

#include <cstdint>
#include <string>

#include "engine/local/messages.hpp"

namespace stargate::local {

/// How far a rank came that never ran its command; sent over its status pipe, which closes when the command is
/// executed.
struct RankFailure {
    enum Stage : std::int32_t { account, folder, filter, command };
    std::int32_t local_rank = 0;
    Stage stage = command;
    std::int32_t error = 0;
};

/// The sentence for it.
[[nodiscard]] std::string describe(const Spec& spec, const RankFailure& failure);

/// Turns the calling process, just forked by init, into the rank: its own session, the submitter's account, no new
/// privileges, default signals, standard streams only; then the command. Sends a RankFailure when it cannot.
[[noreturn]] void become_rank(const Spec& spec, const Run& run, std::int32_t local_rank, int output, int errors,
                              int status);

}  // namespace stargate::local
