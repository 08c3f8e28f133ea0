#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "engine/serving_port.hpp"
#include "gateway/messages.hpp"
#include "net/line_link.hpp"

namespace stargate::steward {

/// The control plane's end of the link to a gateway: tells it the table and what of it is withdrawn, and hears what is
/// asked of the services. Finds a gateway that was there before, and one that comes later. On the loop's thread.
class GatewaySide {
public:
    struct Events {
        /// boot  rises when another life of the gateway is met: one link at a time, so none is heard later
        std::function<void(std::uint64_t boot, const gateway::Demand&)> on_demand;
        std::function<void(const gateway::Seen&)> on_seen = [](const gateway::Seen&) {};
        std::function<void(const gateway::FirstAnswer&)> on_first_answer = [](const gateway::FirstAnswer&) {};
    };
    /// Speaks with nobody before it has been given services and keys: half a table would turn clients away.
    /// path  of the gateway's socket
    GatewaySide(net::Loop& loop, std::string path, gateway::TakeOffice office, Events events);
    GatewaySide(const GatewaySide&) = delete;
    GatewaySide& operator=(const GatewaySide&) = delete;
    ~GatewaySide();

    /// The table is so now. Costs O(services) and tells what changed.
    void set_services(std::map<std::string, gateway::ServiceEntry> services);
    void set_keys(std::map<std::string, gateway::KeyEntry> keys);

    /// Nothing new may go to that replica. Calls `when_drained` once: when its last request has ended, or `limit` is
    /// over, or no gateway is there that could send it any.
    void withdraw(std::uint64_t replica, Duration limit, std::function<void()> when_drained);
    /// It is not withdrawn any more, and nobody waits for it to be drained.
    void give_back(std::uint64_t replica);

private:
    struct Draining {
        std::int64_t until_us = 0;
        net::Loop::Timer timer = 0;
        std::function<void()> when_drained;
    };
    void begin();
    void connect();
    void lost();
    void heard(std::string_view line);
    void hear(const gateway::Introduction& report);
    void hear(const gateway::Have& report);
    static void hear(const gateway::Draining&) {}
    void hear(const gateway::Drained& report);
    void hear(const gateway::Demand& report);
    void hear(const gateway::Refused& report);
    void hear(const gateway::Seen& report) { events_.on_seen(report); }
    void hear(const gateway::FirstAnswer& report) { events_.on_first_answer(report); }
    void tell_table();
    void tell_withdrawn(std::uint64_t replica, const Draining& draining);
    void tell(const gateway::Order& order);
    void drained(std::uint64_t replica);
    void forget_drain(std::uint64_t replica);
    void await_drain(std::uint64_t replica);
    [[nodiscard]] bool is_in_touch() const { return link_ != nullptr && knows_us_; }

    net::Loop& loop_;
    std::string path_;
    gateway::TakeOffice office_;
    Events events_;
    std::unique_ptr<net::LineLink> link_;
    bool knows_us_ = false;     // it has been told who we are, and the table
    bool lacks_table_ = false;  // it did not take what we told it
    std::string said_;          // when it refused last
    std::string boot_;
    std::uint64_t boots_ = 0;  // that were met
    net::Loop::Timer timer_ = 0;
    std::int64_t lost_us_ = net::Loop::now_us();  // since when no gateway is known to be there
    std::uint64_t version_ = 0;
    bool has_services_ = false;
    bool has_keys_ = false;
    std::map<std::string, gateway::ServiceEntry> services_;
    std::map<std::string, gateway::KeyEntry> keys_;
    std::map<std::uint64_t, Draining> draining_;
    std::set<std::uint64_t> withdrawn_;  // replicas that get nothing whatever an older State says
    std::shared_ptr<bool> is_here_ = std::make_shared<bool>(true);
};

}  // namespace stargate::steward
