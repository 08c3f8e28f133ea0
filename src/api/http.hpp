#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// Requests and replies as the routes see them: no socket, no library.
namespace stargate::api {

constexpr std::size_t max_head_bytes = 32U << 10;

/// Who asks. Decided by the server, from the peer's credentials or a token; never by what the request says.
struct Caller {
    std::uint32_t uid = 0;
    bool is_operator = false;
    bool is_local = false;  // came over the unix socket
    std::string token{};    // id of the token that it came with; empty: none, or the owner's
};

/// The part of a request's target after the host: `/api/v1/jobs/a%20b?limit=3`.
struct Target {
    std::vector<std::string> path;  // decoded segments
    std::vector<std::pair<std::string, std::string>> query;

    /// Nothing when it is malformed or has more parts than any route of ours.
    [[nodiscard]] static std::optional<Target> parse(std::string_view text);
    /// The first value of that name, or `otherwise`.
    [[nodiscard]] std::string_view value(std::string_view name, std::string_view otherwise = {}) const;
    [[nodiscard]] bool is_set(std::string_view name) const;  // there, and not `0` or `false`
};

struct Request {
    std::string method;
    Target target;
    std::string idempotency_key;
    std::string accept;
    std::string body;
    Caller caller;
};

struct Reply {
    int status = 200;
    std::string body;
    std::string_view type = "application/json";
    int retry_after_s = 0;  // 0: not said
};

/// A reply without a known end: the server asks for more whenever there may be some.
class Stream {
public:
    enum class Pulled : std::uint8_t { more, nothing_yet, ended, broken };

    Stream() = default;
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    virtual ~Stream() = default;

    /// Appends what there is, not much more than 256 KiB, within a few milliseconds: everybody else waits meanwhile.
    /// `more`: ask again, though nothing may have come. `broken`: the rest cannot be read;
    /// the reply breaks off, so that nobody takes what came for the whole.
    [[nodiscard]] virtual Pulled pull(std::string& out) = 0;
    /// How many bytes it keeps from one pull to the next, which the caller's budget has to have.
    [[nodiscard]] virtual std::size_t keeps() const { return 0; }
    /// When to ask again though no new fact came; nothing: facts are all it waits for.
    [[nodiscard]] virtual std::optional<std::chrono::milliseconds> poll_after() const { return std::nullopt; }
    /// What to send when nothing was sent for a while, so that a gone client is noticed.
    [[nodiscard]] virtual std::string heartbeat() const = 0;
    [[nodiscard]] virtual std::string_view type() const = 0;
};

/// What is sent back: at once, or for as long as it lasts.
using Response = std::variant<Reply, std::unique_ptr<Stream>>;

/// A stream whose first piece is all of it as a plain reply; what goes on stays a stream.
[[nodiscard]] Response whole_or_rest(std::unique_ptr<Stream> stream);

/// `{"error":{"code":...,"message":...,"remedy":...}}`
[[nodiscard]] Reply error_reply(int status, std::string_view code, std::string_view message, std::string_view remedy);

}  // namespace stargate::api
