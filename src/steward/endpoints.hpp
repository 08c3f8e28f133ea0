#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "net/loop.hpp"
#include "steward/asker.hpp"
#include "work/service.hpp"

namespace stargate::steward {

/// How a server answered when it was last asked.
struct EndpointSight {
    bool is_serving = false;
    std::string detail;  // why not
    friend bool operator==(const EndpointSight&, const EndpointSight&) = default;
};

/// Asks servers that Stargate did not start whether they answer: GET /health, or GET /v1/models where they have none.
/// Nothing else is ever asked of them. On the loop's thread.
class Endpoints {
public:
    /// How often each is asked. One that says nothing within `patience` does not serve.
    struct Pace {
        Duration while_serving = std::chrono::seconds{2};
        Duration while_not = std::chrono::seconds{1};
        Duration patience = std::chrono::seconds{5};
    };
    /// when_changed  some sight is another one; called on a turn of the loop of its own
    Endpoints(net::Loop& loop, std::function<void()> when_changed, Pace pace);
    Endpoints(const Endpoints&) = delete;
    Endpoints& operator=(const Endpoints&) = delete;
    ~Endpoints();

    /// These are to be asked from now on, and no others. The server of an id never changes.
    void follow(const std::map<std::uint64_t, Endpoint>& all);
    [[nodiscard]] EndpointSight sight(std::uint64_t id) const;

private:
    struct Asked {
        Asked(net::Loop& loop, const Endpoint& endpoint) : asker{loop, endpoint.host, endpoint.port} {}

        Asker asker;
        net::Loop::Timer timer = 0;
        EndpointSight sight{false, "it has not been asked yet"};
    };
    void ask(std::uint64_t id);
    void seen(std::uint64_t id, EndpointSight sight);
    void forget(std::map<std::uint64_t, Asked>::iterator at);

    net::Loop& loop_;
    std::function<void()> when_changed_;
    Pace pace_;
    std::map<std::uint64_t, Asked> asked_;
};

}  // namespace stargate::steward
