#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/command.hpp"
#include "core/input.hpp"
#include "core/state.hpp"
#include "engine/port.hpp"

namespace stargate {

/// What a gateway has of all services; of one that is not named it has nothing.
struct GatewayDemand {
    std::string gateway;     // which one
    std::uint64_t boot = 0;  // rises each time another life of it is met
    std::uint64_t seq = 0;
    std::vector<DemandLevel> levels;
};

/// Who listens where a client on this machine that goes to 127.0.0.1:PORT gets to.
struct PortHolder {
    /// `unseen`: this machine does not let us look.
    enum class Who : std::uint8_t { nobody, the_replica, somebody_else, unseen };
    Who who = Who::nobody;
    std::string detail{};  // of somebody else: a sentence without its end; of what is unseen: why
    friend bool operator==(const PortHolder&, const PortHolder&) = default;
};

/// Speaks with replicas and gateways for a control plane. What it does follows from State and from what it is told to
/// tell; it keeps nothing over a restart.
class Serving {
public:
    /// What it needs of the control plane. Called on a thread of its own; may not block for long.
    struct Needs {
        Authority authority;
        std::function<void(Report)> on_reply;
        std::function<void(GatewayDemand)> on_demand;
        std::function<void()> on_tick;  // a few times a second: whoever was silent for too long is noticed
        std::function<void(const std::function<void(const State&)>&)> read;
        std::function<Instant()> now;
        /// Whether it is a process of this attempt that listens on the port. May be empty: nobody can look then.
        std::function<PortHolder(AttemptId, std::int32_t port)> holder_of_port{};
    };

    Serving() = default;
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;
    virtual ~Serving() = default;

    /// Returns at once; what the replica did comes as a reply.
    virtual void tell(const TellReplica& command) = 0;
    /// The replica gets no request any more. Calls `then`, on a thread of its own, when it has none left, or a moment
    /// before `deadline`: a tenth of the time and a second at most are left for what comes then. Called again for the
    /// same replica, the last call is the one that is in force. Returns at once.
    virtual void drain(AttemptId replica, Instant deadline, std::function<void()> then) = 0;
    /// State has changed: routes may be other ones. Returns at once.
    virtual void state_changed() = 0;
};

}  // namespace stargate
