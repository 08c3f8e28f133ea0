#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/serving_port.hpp"

namespace stargate {

/// A TCP socket that takes connections.
struct ListeningSocket {
    std::uint32_t inode = 0;
    std::uint32_t uid = 0;
    friend auto operator<=>(const ListeningSocket&, const ListeningSocket&) = default;
};

/// The sockets of this machine that a connection to 127.0.0.1:PORT may end at, as the kernel's sock_diag tells them.
/// Costs what there are listening sockets, however many connections there are.
[[nodiscard]] Result<std::vector<ListeningSocket>> listening_on(std::int32_t port);

/// `python3 (pid 4711) of user 1000 listens on port 21007 already`.
[[nodiscard]] std::string words_of(const ListeningSocket& socket, std::int32_t port);

/// Says whose the sockets are that replicas are asked over. A socket is an attempt's when one of its processes has it
/// open, and these are all that descend from the init of its ranks, with and without a sandbox: with one that is the
/// init of their PID namespace, without one it is their subreaper. Where the descriptors of other users' processes
/// may not be looked at (no CAP_SYS_PTRACE) the socket's user must be that of one of the attempt's processes.
class PortHolders {
public:
    /// state  the state folder, where attempts say which their init is
    explicit PortHolders(std::string state) : state_{std::move(state)} {}

    /// Costs a walk through /proc for sockets that were not there the last time. From one thread at a time.
    [[nodiscard]] PortHolder holder_of(AttemptId attempt, std::int32_t port);

private:
    std::string state_;
    bool has_said_unseen_ = false;
    struct Proof {
        AttemptId attempt;
        std::set<ListeningSocket> sockets;
    };
    std::map<std::int32_t, Proof> proved_;  // by port
};

}  // namespace stargate
