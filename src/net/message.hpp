#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// HTTP/1.1 messages as we see them: no socket, no library.
namespace stargate::net {

using Fields = std::vector<std::pair<std::string, std::string>>;

/// The first field of that name, in any case; empty when there is none.
[[nodiscard]] std::string_view field(const Fields& fields, std::string_view name);
[[nodiscard]] std::size_t count_of(const Fields& fields, std::string_view name);

/// The token in what stands behind `Authorization:` as `Bearer TOKEN`, the scheme in any case (RFC 9110, section 11.1);
/// empty when there is none.
[[nodiscard]] std::string_view bearer_token(std::string_view credentials);

struct RequestHead {
    std::string method;
    std::string target;
    Fields fields;
    bool keeps_alive = true;
    bool knows_chunks = true;  // HTTP/1.1: a reply without a known length can be told
    bool expects_continue = false;
};

struct ResponseHead {
    int status = 0;
    Fields fields;
    bool keeps_alive = true;
};

/// The words after a status: "Not Found".
[[nodiscard]] std::string_view phrase_of(int status);

/// A whole request for the wire; Host, Content-Length and what `fields` say.
[[nodiscard]] std::string request_bytes(std::string_view method, std::string_view target, std::string_view host,
                                        const Fields& fields, std::string_view body);

enum class Stage : std::uint8_t { head, body, whole, broken };

/// Reads one request from the bytes of a connection. Refuses what two readers could read differently: a length beside
/// chunks, two lengths, two hosts.
class RequestReader {
public:
    RequestReader(std::size_t longest_head, std::size_t longest_body);
    RequestReader(RequestReader&&) noexcept;
    RequestReader& operator=(RequestReader&&) noexcept;
    ~RequestReader();

    /// Takes what it can of the front of `bytes` and returns how much that was; never beyond the request's end, and in
    /// one call never beyond the end of the head.
    [[nodiscard]] std::size_t put(std::string_view bytes);
    [[nodiscard]] Stage stage() const;
    /// Also of one that broke because its body is too large (413).
    [[nodiscard]] RequestHead& head();
    [[nodiscard]] std::string& body();
    /// Of a broken one: 400, 413 or 431, and why.
    [[nodiscard]] int status() const;
    [[nodiscard]] const std::string& why() const;

private:
    struct Parser;
    std::unique_ptr<Parser> parser_;
};

/// Reads one response; its body is handed on as it comes.
class ResponseReader {
public:
    explicit ResponseReader(std::size_t longest_head);
    ResponseReader(ResponseReader&&) noexcept;
    ResponseReader& operator=(ResponseReader&&) noexcept;
    ~ResponseReader();

    /// As above. `on_body` is called with parts of the body that lie in `bytes`, without chunks' framing; interim
    /// responses (1xx) are passed over.
    [[nodiscard]] std::size_t put(std::string_view bytes, const std::function<void(std::string_view)>& on_body);
    /// The connection has ended: the end of a body without a length, and a break of any other.
    void put_end();
    [[nodiscard]] Stage stage() const;
    [[nodiscard]] ResponseHead& head();

private:
    struct Parser;
    std::size_t longest_head_;
    std::unique_ptr<Parser> parser_;
};

}  // namespace stargate::net
