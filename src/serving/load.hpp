#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "net/loop.hpp"

namespace stargate::serving {

/// A request that is to be sent.
struct Arrival {
    Duration at{};  // after the begin
    std::int64_t prompt_tokens = 64;
    std::int64_t tokens = 16;  // to be made
};

struct LoadOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::string path = "/v1";  // before /chat/completions
    std::string key;
    std::string model = "mock";
    std::vector<std::string> tiers;                 // `service_tier` of each request, by turns; empty: not said
    Duration slo = std::chrono::seconds{1};         // to the first token: what came later is no goodput
    Duration patience = std::chrono::seconds{120};  // for the rest, when all is sent
    std::chrono::seconds waits{};                   // that each says it does (x-stainless-timeout); 0: it does not say
};

/// Times of one kind, in milliseconds.
struct Times {
    double p50 = 0;
    double p90 = 0;
    double p99 = 0;
    double mean = 0;
    double longest = 0;
};
BOOST_DESCRIBE_STRUCT(Times, (), (p50, p90, p99, mean, longest))

/// What came of the requests of one tier.
struct LoadResult {
    std::uint64_t sent = 0;
    std::uint64_t completed = 0;
    std::uint64_t rejected = 0;              // 429 and 503
    std::uint64_t rejected_with_advice = 0;  // ... that said when to come again
    std::uint64_t failed = 0;                // no answer, another status, or a stream that was not whole
    std::uint64_t frames_lost = 0;           // tokens that a completed stream lacked
    std::uint64_t frames = 0;
    double good = 0;    // completed within the objective, a second
    double tokens = 0;  // a second
    Times ttft_ms;      // from when it was to be sent to its first token, of the completed
    Times tpot_ms;      // between the tokens of one stream, its mean
    Times whole_ms;
    std::map<std::string, std::uint64_t> reasons;  // why they failed or were rejected
};

/// Arrivals at random times (a Poisson process of that rate), the same for the same seed.
[[nodiscard]] std::vector<Arrival> random_arrivals(double rate, Duration duration, std::int64_t prompt_tokens,
                                                   std::int64_t tokens, std::uint64_t seed);
/// Of a file with a JSON object a line: `timestamp` in ms, `input_length` and `output_length` in tokens.
/// Fault::malformed with the line.
[[nodiscard]] Result<std::vector<Arrival>> read_trace(const std::string& text, Duration duration);

/// Sends them when their time comes, however many are still under way (an open loop), reads each answer as a stream,
/// and returns when all have ended. By tier; all together under the empty name. Runs the loop.
[[nodiscard]] std::map<std::string, LoadResult> run_load(net::Loop& loop, const LoadOptions& options,
                                                         const std::vector<Arrival>& arrivals,
                                                         const std::function<void(const LoadResult&)>& progress = {});

/// The results as JSON.
[[nodiscard]] std::string to_json(const std::map<std::string, LoadResult>& results, Duration took);

}  // namespace stargate::serving
