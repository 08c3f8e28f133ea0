#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "net/client.hpp"
#include "net/loop.hpp"

namespace stargate::steward {

/// Asks one replica over HTTP, one thing at a time. On the loop's thread.
class Asker {
public:
    Asker(net::Loop& loop, const std::string& host, std::int32_t port);
    Asker(const Asker&) = delete;
    Asker& operator=(const Asker&) = delete;
    ~Asker();

    /// Whatever was asked before is forgotten. `then` hears the status and the body (its first 4 KiB), on a turn of the
    /// loop of its own, where this may be let go of; status 0: no answer within `patience`, and the body says why.
    void ask(const char* method, const char* target, Duration patience,
             std::function<void(int status, const std::string& body)> then);
    struct Health {
        const char* target = nullptr;  // what it was asked
        int status = 0;                // 0: no answer, for the reason `why`
        std::string why{};
    };
    /// Asks GET /health, or GET /v1/models where it has none; when it was not well it may be another server next time.
    void ask_health(Duration patience, std::function<void(const Health&)> then);

private:
    struct Question;
    void forget();

    net::Loop& loop_;
    std::unique_ptr<net::Client> client_;
    std::shared_ptr<Question> question_;
    bool lacks_health_ = false;
};

/// Of a status of HTTP.
[[nodiscard]] constexpr bool is_good(int status) { return status >= 200 && status < 300; }
[[nodiscard]] constexpr bool has_no_such_route(int status) { return status == 404 || status == 405 || status == 501; }

}  // namespace stargate::steward
