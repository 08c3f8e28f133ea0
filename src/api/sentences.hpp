#pragma once

#include <string>
#include <vector>

#include "api/http.hpp"
#include "api/sight.hpp"
#include "core/input.hpp"

/// Reasons as people read them: one sentence with its numbers, one action.
namespace stargate::api {

struct Sentence {
    std::string what;
    std::string action;
};

/// What a refusal was told to, each where there is one.
struct Subject {
    const JobSpec* spec = nullptr;
    const Submit* asked = nullptr;  // when it was a submit
    JobId job;                      // that waits, or of which something was asked
};

/// Why this job waits, or why what was asked of it was refused. Jobs that the one who asks may not see are named as
/// those of another tenant.
[[nodiscard]] Sentence sentence_of(const Sight& sight, const Refusal& why, const Subject& subject);

/// A refusal of the core as a reply: the status that fits and the sentence, after `where` (as `train.yaml:3: gpus: `).
[[nodiscard]] Reply refusal_reply(const Sight& sight, const Refusal& why, const Subject& subject,
                                  std::string_view where = {});

/// The field of a submit that a refusal is about, as `gpus`; empty where it is about none.
[[nodiscard]] std::string_view field_of(Why why);

/// Whether Refusal::about is the id of a job.
[[nodiscard]] bool is_about_a_job(Why why);

/// `2h 5m`, `35s`: what people read of a duration. Rounded down, two units at most.
[[nodiscard]] std::string spoken(Duration duration);

}  // namespace stargate::api
