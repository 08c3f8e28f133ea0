#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gateway/front.hpp"
#include "gateway/link.hpp"

namespace stargate::gateway {

struct GatewaySetting {
    std::string state;  // the state folder, which is there
    FrontSetting front;
    Duration drain_limit = std::chrono::seconds{30};  // for what is under way at the end
};

/// The whole gateway on one loop: front, table, pool, usage, and the link to the control plane.
class Gateway {
public:
    /// Listens at once, for clients and for the control plane. One at a time on a state folder: see process.hpp.
    [[nodiscard]] static Result<std::unique_ptr<Gateway>> start(net::Loop& loop, GatewaySetting setting);
    Gateway(const Gateway&) = delete;
    Gateway& operator=(const Gateway&) = delete;
    ~Gateway();

    [[nodiscard]] const std::string& boot() const { return boot_; }
    [[nodiscard]] std::uint16_t port() const { return front_->port(); }
    /// HOST:PORT
    [[nodiscard]] std::string address() const;
    /// Takes nothing new and calls when all has ended, or has been cut at the limit. Once.
    void drain(std::function<void()> when_over);

private:
    Gateway(net::Loop& loop, GatewaySetting setting);
    void look_whether_over();

    net::Loop& loop_;
    GatewaySetting setting_;
    std::string boot_;
    std::unique_ptr<UsageBook> usage_;
    Table table_;
    Pool pool_{loop_};
    std::unique_ptr<Front> front_;
    std::unique_ptr<ControlLink> link_;
    std::function<void()> when_over_;
    std::int64_t drains_until_us_ = 0;
    net::Loop::Timer drain_timer_ = 0;
};

}  // namespace stargate::gateway
