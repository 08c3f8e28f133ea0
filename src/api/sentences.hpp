#pragma once

#include <string>
#include <vector>

#include "api/http.hpp"
#include "core/state.hpp"

/// Reasons as people read them: one sentence with its numbers, one action.
namespace stargate::api {

struct Sentence {
    std::string what;
    std::string action;
};

/// Why this job waits, or why what was asked of it was refused. `spec` may be null when there is no job yet.
[[nodiscard]] Sentence sentence_of(const State& state, const Refusal& why, const JobSpec* spec);

/// A refusal of the core as a reply: the status that fits and the sentence.
[[nodiscard]] Reply refusal_reply(const State& state, const Refusal& why, const JobSpec* spec);

/// The jobs that hold whole GPUs of these types (0: any), most first, at most `most` of them.
struct Holder {
    JobId job;
    std::int32_t gpus = 0;
};
[[nodiscard]] std::vector<Holder> holders(const State& state, GpuTypeBits types, std::size_t most);

/// `2h 5m`, `35s`: what people read of a duration. Rounded down, two units at most.
[[nodiscard]] std::string spoken(Duration duration);

}  // namespace stargate::api
