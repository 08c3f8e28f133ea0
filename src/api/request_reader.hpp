#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "api/http.hpp"
#include "api/tokens.hpp"

namespace stargate::api {

/// Reads one request from the bytes of a connection, up to what a route sees. It knows no socket: the server feeds it,
/// and so does the fuzz target.
class RequestReader {
public:
    enum class Stage : std::uint8_t { head, body, done, broken };

    RequestReader();
    RequestReader(const RequestReader&) = delete;
    RequestReader& operator=(const RequestReader&) = delete;
    ~RequestReader();

    /// Takes what it can of the front of `bytes` and returns how much that was; come again with the rest and more. One
    /// call never goes beyond the end of the head, so that nobody unknown makes us read a body.
    [[nodiscard]] std::size_t put(std::string_view bytes);
    [[nodiscard]] Stage stage() const { return stage_; }
    /// What to tell the client of a broken one; nothing when it is no HTTP that we could answer.
    [[nodiscard]] const std::optional<Reply>& complaint() const { return complaint_; }

    // Once the head is there.
    /// Default-deny: a reply for whoever may not go on, else nothing and the caller. `peer` is who is at the other end
    /// of the unix socket; over TCP it is empty, and each request brings its token.
    [[nodiscard]] std::optional<Reply> turn_away(const std::optional<Caller>& peer, const Tokens& tokens,
                                                 Caller& caller) const;
    [[nodiscard]] bool expects_continue() const;
    [[nodiscard]] bool keeps_alive() const;
    [[nodiscard]] bool knows_chunks() const;  // the client can read a reply without a known length
    [[nodiscard]] bool has_two_ends() const;  // both a length and chunks: never let through, as the fuzz target asserts
    [[nodiscard]] std::size_t body_size() const;  // the most that its body can be

    /// The whole request for its route, once; nothing when its target is malformed.
    [[nodiscard]] std::optional<Request> take(const Caller& caller);

private:
    struct Parser;
    std::unique_ptr<Parser> parser_;
    Stage stage_ = Stage::head;
    std::optional<Reply> complaint_;
};

}  // namespace stargate::api
