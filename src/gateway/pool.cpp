#include "gateway/pool.hpp"

#include <set>
#include <utility>
#include <vector>

namespace stargate::gateway {

namespace {
constexpr Duration after_end = std::chrono::seconds{1};  // another gateway may be there then
}

Pool::~Pool() {
    when_changed = nullptr;
    when_drained = nullptr;
    when_answered_first = nullptr;
    end_all("the gateway ends");
    for (const auto& [replica, timer] : withdrawals_) loop_.cancel(timer);
}

void Pool::follow(const Table& table) {
    std::set<std::uint64_t> told;
    for (const auto& [name, entry] : table.services()) {
        std::vector<std::shared_ptr<Replica>> replicas;
        for (const auto& each : entry.replicas) {
            replicas.push_back(replica_for(each));
            told.insert(each.id);
        }
        service_for(name)->update(entry, std::move(replicas));
    }
    std::erase_if(replicas_,
                  [&](const auto& each) { return told.count(each.first) == 0 && each.second->in_flight == 0; });
    for (auto at = services_.begin(); at != services_.end();) {
        const auto service = at->second;
        at = table.services().count(at->first) == 0 ? services_.erase(at) : std::next(at);
        const auto& name = service->entry().name;
        if (services_.count(name) == 0) service->drop(unknown_model(name));
    }
    if (when_changed) when_changed();
}

std::shared_ptr<Service> Pool::service(const std::string& name) const {
    const auto found = services_.find(name);
    return found == services_.end() ? nullptr : found->second;
}

std::shared_ptr<Service> Pool::service_for(const std::string& name) {
    auto& service = services_[name];
    if (!service) {
        ServiceEvents events;
        events.changed = [this] {
            if (when_changed) when_changed();
        };
        events.emptied = [this](const Replica& replica) { emptied(replica); };
        events.answered_first = [this](const Replica& replica) {
            if (when_answered_first) when_answered_first({replica.entry.id, replica.entry.telling});
        };
        service = std::make_shared<Service>(loop_, std::move(events));
    }
    return service;
}

std::shared_ptr<Replica> Pool::replica_for(const ReplicaEntry& entry) {
    auto& replica = replicas_[entry.id];
    if (!replica) replica = std::make_shared<Replica>();
    const bool has_moved = replica->entry.host != entry.host || replica->entry.port != entry.port;
    if (!replica->client || has_moved) {
        net::ClientSetting setting;
        setting.host = entry.host;
        setting.port = entry.port;
        replica->client = std::make_shared<net::Client>(loop_, std::move(setting));
    }
    if (replica->entry != entry) replica->rests_until_us = 0;  // what is said now is newer than what we have seen
    replica->entry = entry;
    const auto withdrawal = withdrawals_.find(entry.id);
    if (withdrawal != withdrawals_.end() && entry.state == ReplicaState::serving) {
        loop_.cancel(withdrawal->second);
        withdrawals_.erase(withdrawal);
    }
    return replica;
}

std::int64_t Pool::withdraw(std::uint64_t id, Duration deadline) {
    const auto found = replicas_.find(id);
    if (found == replicas_.end()) return 0;
    const auto replica = found->second;
    if (replica->in_flight == 0) return 0;
    auto& timer = withdrawals_[id];
    loop_.cancel(timer);
    timer = loop_.after(deadline, [replica] { cut(*replica, "its replica was taken away"); });
    return replica->in_flight;
}

/// Requests may end, and leave the set, while they are cut.
void Pool::cut(const Replica& replica, const std::string& why) {
    const auto errands = replica.errands;
    for (auto* errand : errands) {
        if (replica.errands.count(errand) > 0) errand->cut(why);
    }
}

void Pool::end_all(const std::string& why) {
    const auto services = std::exchange(services_, {});
    for (const auto& [name, service] : services) service->drop(overloaded(why, after_end));
    const auto replicas = replicas_;
    for (const auto& [id, replica] : replicas) cut(*replica, why);
}

Seen Pool::take_seen() {
    Seen seen;
    for (const auto& [id, replica] : replicas_) {
        if (std::exchange(replica->has_answered, false)) seen.answered.push_back(id);
        if (std::exchange(replica->said_asleep, false)) seen.asleep.push_back(id);
    }
    return seen;
}

void Pool::emptied(const Replica& replica) {
    const auto id = replica.entry.id;
    const auto withdrawal = withdrawals_.find(id);
    if (withdrawal == withdrawals_.end()) return;
    loop_.cancel(withdrawal->second);
    withdrawals_.erase(withdrawal);
    if (when_drained) when_drained(id);
}

}  // namespace stargate::gateway
