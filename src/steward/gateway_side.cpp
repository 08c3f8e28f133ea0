#include "steward/gateway_side.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace stargate::steward {

namespace {
constexpr Duration between_tries = std::chrono::milliseconds{100};
/// A gateway that was there a moment ago may still be there, and send requests.
constexpr Duration may_be_there = std::chrono::seconds{2};
}  // namespace

GatewaySide::GatewaySide(net::Loop& loop, std::string path, gateway::TakeOffice office, Events events)
    : loop_{loop}, path_{std::move(path)}, office_{std::move(office)}, events_{std::move(events)} {}

GatewaySide::~GatewaySide() {
    *is_here_ = false;
    loop_.cancel(timer_);
    for (const auto& [replica, draining] : draining_) loop_.cancel(draining.timer);
}

void GatewaySide::begin() {
    if (has_services_ && has_keys_ && !link_ && timer_ == 0) connect();
}

void GatewaySide::connect() {
    timer_ = 0;
    auto link = net::LineLink::connect(loop_, path_);
    if (!link) return lost();
    link_ = std::move(*link);
    link_->begin({[this](std::string_view line) { heard(line); },
                  [this, is_here = is_here_](const std::string&) {
                      loop_.post([this, is_here] {  // not while it calls us
                          if (*is_here) lost();
                      });
                  }});
}

void GatewaySide::lost() {
    if (knows_us_) lost_us_ = net::Loop::now_us();
    link_.reset();
    knows_us_ = false;
    if (timer_ == 0) timer_ = loop_.after(between_tries, [this] { connect(); });
}

void GatewaySide::heard(std::string_view line) {
    const auto report = gateway::read_report(line);
    if (!report) {
        std::fprintf(stderr, "stargate: the gateway says what cannot be read: %s\n", report.error().detail.c_str());
        link_->close();
        return loop_.post([this, is_here = is_here_] {
            if (*is_here) lost();
        });
    }
    const auto* known = std::get_if<gateway::Report>(&*report);
    if (known != nullptr) std::visit([this](const auto& what) { hear(what); }, *known);
}

void GatewaySide::hear(const gateway::Introduction& report) {
    if (boots_ == 0 || boot_ != report.boot) ++boots_;
    boot_ = report.boot;
    tell(office_);
    version_ = std::max(version_, report.version);
    tell_table();
}

void GatewaySide::tell_table() {
    knows_us_ = true;
    lacks_table_ = false;
    gateway::WholeTable table{++version_, {}, {}};
    for (const auto& [name, service] : services_) table.services.push_back(service);
    for (const auto& [id, key] : keys_) table.keys.push_back(key);
    tell(table);
    for (const auto& [replica, draining] : draining_) {
        tell_withdrawn(replica, draining);
        await_drain(replica);
    }
}

void GatewaySide::hear(const gateway::Have& report) {
    if (!std::exchange(lacks_table_, false) && report.version <= version_) return;
    version_ = std::max(version_, report.version);
    tell_table();
}

void GatewaySide::hear(const gateway::Drained& report) { drained(report.replica); }

void GatewaySide::hear(const gateway::Demand& report) { events_.on_demand(boots_, report); }

void GatewaySide::hear(const gateway::Refused& report) {
    lacks_table_ = true;
    if (report.why == said_) return;
    said_ = report.why;
    std::fprintf(stderr, "stargate: the gateway refused: %s\n", said_.c_str());
}

void GatewaySide::set_services(std::map<std::string, gateway::ServiceEntry> services) {
    for (auto& [name, service] : services) {  // what was told since is newer than this State
        std::erase_if(service.replicas, [this](const auto& entry) { return withdrawn_.contains(entry.id); });
    }
    gateway::Change change;
    for (const auto& [name, service] : services) {
        const auto known = services_.find(name);
        if (known == services_.end() || known->second != service) change.services.push_back(service);
    }
    for (const auto& [name, service] : services_) {
        if (!services.contains(name)) change.drop.push_back(name);
    }
    services_ = std::move(services);
    has_services_ = true;
    begin();
    if ((change.services.empty() && change.drop.empty()) || !is_in_touch()) return;
    change.version = ++version_;
    tell(change);
}

void GatewaySide::set_keys(std::map<std::string, gateway::KeyEntry> keys) {
    gateway::Change change;
    for (const auto& [id, key] : keys) {
        const auto known = keys_.find(id);
        if (known == keys_.end() || known->second != key) change.keys.push_back(key);
    }
    for (const auto& [id, key] : keys_) {
        if (!keys.contains(id)) change.revoke.push_back(id);
    }
    keys_ = std::move(keys);
    has_keys_ = true;
    begin();
    if ((change.keys.empty() && change.revoke.empty()) || !is_in_touch()) return;
    change.version = ++version_;
    tell(change);
}

void GatewaySide::withdraw(std::uint64_t replica, Duration limit, std::function<void()> when_drained) {
    forget_drain(replica);
    withdrawn_.insert(replica);
    for (auto& [name, service] : services_) {
        std::erase_if(service.replicas, [&](const auto& entry) { return entry.id == replica; });
    }
    auto& draining = draining_[replica];
    draining.until_us = net::Loop::now_us() + std::max(limit, Duration{}).count();
    draining.when_drained = std::move(when_drained);
    await_drain(replica);
    if (is_in_touch()) tell_withdrawn(replica, draining);
}

/// Until a moment after the gateway cuts what is left. Where no gateway is, nobody sends it anything; one that was
/// there a moment ago may.
void GatewaySide::await_drain(std::uint64_t replica) {
    auto& draining = draining_.at(replica);
    loop_.cancel(draining.timer);
    auto until_us = draining.until_us + between_tries.count();
    if (!is_in_touch()) until_us = std::min(draining.until_us, lost_us_ + may_be_there.count());
    draining.timer = loop_.after(std::max(Duration{until_us - net::Loop::now_us()}, Duration{}),
                                 [this, replica] { drained(replica); });
}

void GatewaySide::tell_withdrawn(std::uint64_t replica, const Draining& draining) {
    const auto left_ms = std::max<std::int64_t>(0, (draining.until_us - net::Loop::now_us()) / 1000);
    tell(gateway::Withdraw{++version_, replica, left_ms});
}

void GatewaySide::give_back(std::uint64_t replica) {
    forget_drain(replica);
    withdrawn_.erase(replica);
}

void GatewaySide::forget_drain(std::uint64_t replica) {
    const auto found = draining_.find(replica);
    if (found == draining_.end()) return;
    loop_.cancel(found->second.timer);
    draining_.erase(found);
}

void GatewaySide::drained(std::uint64_t replica) {
    const auto found = draining_.find(replica);
    if (found == draining_.end()) return;
    const auto when_drained = std::move(found->second.when_drained);
    forget_drain(replica);
    when_drained();
}

void GatewaySide::tell(const gateway::Order& order) {
    if (link_) link_->send(gateway::to_line(order));
}

}  // namespace stargate::steward
