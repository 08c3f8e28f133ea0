#pragma once

#include <cstdint>
#include <string>

#include "engine/local/messages.hpp"

namespace stargate::local {

/// How far a rank came that never ran its command.
struct RankFailure {
    enum Stage : std::uint8_t { account, folder, filter, streams, command };
    std::int32_t local_rank = 0;
    Stage stage = command;
    int error = 0;  // errno; 0: nothing failed
};

/// The sentence for it.
[[nodiscard]] std::string describe(const Spec& spec, const RankFailure& failure);

/// Turns the calling process, made by init with vfork, into the rank: its own session, the submitter's account, no new
/// privileges, default signals, standard streams only; then the command. When it cannot, it says so in `why`, which
/// init reads: until the command is executed both have one memory, and init stands still. With `spec.terminal` both
/// streams are one terminal, which it reads from too and which controls it.
[[noreturn]] void become_rank(const Spec& spec, const Run& run, std::int32_t local_rank, int output, int errors,
                              RankFailure& why);

}  // namespace stargate::local
