#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "gateway/service.hpp"
#include "gateway/table.hpp"

namespace stargate::gateway {

/// All services and replicas that the gateway knows, as its table has them.
class Pool {
public:
    explicit Pool(net::Loop& loop) : loop_{loop} {}
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool();

    /// Makes services and replicas what the table says. Requests that are under way go on.
    void follow(const Table& table);
    /// nullptr when there is none.
    [[nodiscard]] std::shared_ptr<Service> service(const std::string& name) const;
    /// By name; also those that are gone from the table and still have requests.
    [[nodiscard]] const std::map<std::string, std::shared_ptr<Service>>& services() const { return services_; }

    /// Of a replica that the table has no more, or not serving: what it still has at the deadline is cut. Returns how
    /// many that are; unless none, when_drained tells that they are over.
    std::int64_t withdraw(std::uint64_t replica, Duration deadline);
    /// Ends all that waits or is under way, as a failure, and forgets all services.
    void end_all(const std::string& why);

    /// What has been seen of replicas since this was called last.
    [[nodiscard]] Seen take_seen();

    std::function<void()> when_changed;  // some service's demand
    std::function<void(std::uint64_t replica)> when_drained;
    std::function<void(FirstAnswer)> when_answered_first;

private:
    [[nodiscard]] std::shared_ptr<Service> service_for(const std::string& name);
    [[nodiscard]] std::shared_ptr<Replica> replica_for(const ReplicaEntry& entry);
    void emptied(const Replica& replica);
    static void cut(const Replica& replica, const std::string& why);

    net::Loop& loop_;
    std::map<std::string, std::shared_ptr<Service>> services_;
    std::map<std::uint64_t, std::shared_ptr<Replica>> replicas_;  // in the table, or with requests
    std::map<std::uint64_t, net::Loop::Timer> withdrawals_;       // not drained yet: their deadlines
};

}  // namespace stargate::gateway
