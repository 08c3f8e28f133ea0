#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gateway/refusal.hpp"

namespace stargate::gateway {

/// What we act upon of a request for a completion; all else of its body is passed on as it came.
struct CompletionRequest {
    std::string model;
    bool streams = false;
    bool asks_usage = false;            // wants its stream's usage told
    std::optional<std::int64_t> limit;  // tokens of the answer, as far as the client says
    std::int64_t prompt_tokens = 1;     // an estimate, until the replica tells: a fourth of the prompt's bytes
    std::optional<std::string> service_tier;

    /// A part of the body that goes upstream as other text.
    struct Edit {
        std::size_t begin = 0;
        std::size_t length = 0;
        std::string text;
    };
    std::vector<Edit> edits;  // in order; the first one is the model's value, whose text upstream_body() is told
};

/// Refuses what is no JSON object in UTF-8, and members that we act upon when they are there twice or of a wrong kind.
[[nodiscard]] std::variant<CompletionRequest, Refusal> read_completion(std::string_view body);

/// The body for a replica: the same bytes but for the model's name and, in streams, that usage is told.
[[nodiscard]] std::string upstream_body(const CompletionRequest& request, std::string_view body,
                                        std::string_view upstream_model);

}  // namespace stargate::gateway
