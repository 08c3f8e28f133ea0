#include "loop/demand.hpp"

#include <algorithm>
#include <tuple>

#include "core/serving.hpp"

namespace stargate {

namespace {
/// Rates differ from word to word. What they say is how many replicas they ask for.
bool says_the_same(const ServiceDemand& a, const ServiceDemand& b) {
    const auto all = [](const ServiceDemand& of) {
        return std::tie(of.service, of.is_known, of.queued, of.in_flight, of.over_limit);
    };
    return all(a) == all(b) && wanted_by_tokens(a) == wanted_by_tokens(b);
}
}  // namespace

bool DemandMerge::told(const std::string& gateway, std::uint64_t boot, std::uint64_t seq,
                       std::vector<DemandLevel> levels, Instant now) {
    const auto [found, is_new] = gateways_.try_emplace(gateway);
    auto& known = found->second;
    if (!is_new && std::pair{boot, seq} <= std::pair{known.boot, known.seq}) return false;
    known = {boot, seq, now, std::move(levels)};
    return true;
}

ServiceDemand DemandMerge::total(JobId service, Instant now) const {
    ServiceDemand sum;
    sum.service = service;
    for (const auto& [name, gateway] : gateways_) {
        if (gateway.heard + hold_ <= now) return {service};
        sum.is_known = true;
        for (const auto& level : gateway.levels) {
            if (level.service != service) continue;
            sum.queued += level.queued;
            sum.in_flight += level.in_flight;
            sum.over_limit = sum.over_limit || level.over_limit;
            sum.wanted_tokens_per_s += level.wanted_tokens_per_s;
            sum.replica_tokens_per_s = std::max(sum.replica_tokens_per_s, level.replica_tokens_per_s);
        }
    }
    return sum;
}

Instant DemandMerge::next_silence(Instant now) const {
    auto next = never;
    for (const auto& [name, gateway] : gateways_) {
        if (gateway.heard + hold_ > now) next = std::min(next, gateway.heard + hold_);
    }
    return next;
}

std::vector<ServiceDemand> DemandMerge::changed(const std::vector<JobId>& services, Instant now) {
    std::vector<ServiceDemand> news;
    for (const auto id : services) {
        auto& given = given_.try_emplace(id, ServiceDemand{id}).first->second;
        const auto demand = total(id, now);
        if (says_the_same(demand, given)) continue;
        given = demand;
        news.push_back(demand);
    }
    std::erase_if(given_, [&](const auto& entry) {
        return std::find(services.begin(), services.end(), entry.first) == services.end();
    });
    return news;
}

}  // namespace stargate
