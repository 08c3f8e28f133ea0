#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.hpp"

namespace stargate {

/// Keeps the gateway's process of a state folder: takes the one that outlived the last control plane, or starts one,
/// and starts another when it dies. It outlives this object, unless it is told to end.
class GatewayProcess {
public:
    /// Returns once a gateway serves; one that runs already stays at its address. One that has been told to end is
    /// waited for. One that serves for another store is refused. What is in the way is told as the process said it.
    /// program  this program      listen  ADDRESS:PORT, loopback      incarnation  of the store, as gateways are told
    /// it
    [[nodiscard]] static Result<std::unique_ptr<GatewayProcess>> keep(std::string program, std::string state,
                                                                      std::string listen, std::string incarnation);
    GatewayProcess(const GatewayProcess&) = delete;
    GatewayProcess& operator=(const GatewayProcess&) = delete;
    ~GatewayProcess();

    /// HOST:PORT where it serves.
    [[nodiscard]] const std::string& address() const { return address_; }
    /// Says where it serves if that is elsewhere than was asked.
    void tell_remark() const;
    /// Ends the gateway again if it was started by this object: whoever wanted it cannot start.
    void undo();

private:
    GatewayProcess(std::string program, std::string state, std::string listen, std::string incarnation)
        : program_{std::move(program)},
          state_{std::move(state)},
          listen_{std::move(listen)},
          incarnation_{std::move(incarnation)} {}
    struct Found;
    [[nodiscard]] static std::optional<Found> find(const std::string& state);
    /// patience  with one that is about to end
    [[nodiscard]] Result<void> take_or_start(std::chrono::steady_clock::duration patience);
    [[nodiscard]] Result<void> take(const Found& found);
    [[nodiscard]] Result<void> start();
    void stop_watching();
    void watch();

    std::string program_, state_, listen_, incarnation_, address_, remark_;
    int pid_ = 0;
    bool is_child_ = false;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool is_over_ = false;
    std::thread watch_;
};

/// Tells the gateway of this state, if there is one, to end, and waits until it has, 5 s at most.
void end_gateway(const std::string& state);

}  // namespace stargate
