#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "net/loop.hpp"

namespace stargate::serving {

/// What it does wrong on purpose, for tests of whoever stands before it.
enum class MockFault : std::uint8_t {
    none,
    hang,        // takes connections and answers nothing
    html,        // answers a page
    cut,         // ends the connection in the middle of each answer
    deaf_sleep,  // says yes to /sleep and serves on
};
BOOST_DESCRIBE_ENUM(MockFault, none, hang, html, cut, deaf_sleep)

struct MockEngineOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::string model = "mock";
    double tokens_per_s = 50;       // the pace of one stream
    double batch_tokens_per_s = 0;  // of all streams together, at most; 0: any number of them
    std::int32_t max_batch = 8;     // streams that are computed at once; the others wait in order
    std::int32_t longest_queue = 1'000;
    Duration wake_time{};  // from /wake_up to its answer
    MockFault fault = MockFault::none;
    std::function<void(std::string_view)> when_told{};  // "sleep" or "wake_up", as it comes; may be empty
};

/// An OpenAI server without a model: continuous batching by steps, each of which gives every stream of the batch its
/// next token; waiting, sleep and wake as vLLM has them. What it computes is words with numbers. It shares no code with
/// any model of the twin. On one loop.
class MockEngine {
public:
    /// Listens at once.
    [[nodiscard]] static Result<std::unique_ptr<MockEngine>> start(net::Loop& loop, const MockEngineOptions& options);
    virtual ~MockEngine() = default;

    [[nodiscard]] virtual std::uint16_t port() const = 0;
    /// Requests that are computed or wait.
    [[nodiscard]] virtual std::size_t in_flight() const = 0;
    [[nodiscard]] virtual bool is_asleep() const = 0;
    /// Of those whose client went away: they were ended at once.
    [[nodiscard]] virtual std::uint64_t cancelled() const = 0;
};

}  // namespace stargate::serving
