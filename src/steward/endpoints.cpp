#include "steward/endpoints.hpp"

#include <fmt/format.h>

#include <utility>

namespace stargate::steward {

Endpoints::Endpoints(net::Loop& loop, std::function<void()> when_changed, Pace pace)
    : loop_{loop}, when_changed_{std::move(when_changed)}, pace_{pace} {}

Endpoints::~Endpoints() {
    while (!asked_.empty()) forget(asked_.begin());
}

void Endpoints::follow(const std::map<std::uint64_t, Endpoint>& all) {
    for (auto at = asked_.begin(); at != asked_.end();) {
        const auto here = at++;
        if (!all.contains(here->first)) forget(here);
    }
    for (const auto& [id, endpoint] : all) {
        const auto [at, is_new] = asked_.try_emplace(id, loop_, endpoint);
        if (is_new) ask(id);
    }
}

EndpointSight Endpoints::sight(std::uint64_t id) const {
    const auto found = asked_.find(id);
    return found == asked_.end() ? EndpointSight{} : found->second.sight;
}

void Endpoints::forget(std::map<std::uint64_t, Asked>::iterator at) {
    loop_.cancel(at->second.timer);
    asked_.erase(at);
}

void Endpoints::ask(std::uint64_t id) {
    asked_.at(id).asker.ask_health(pace_.patience, [this, id](const Asker::Health& health) {
        if (health.status == 0) return seen(id, {false, health.why});
        if (is_good(health.status)) return seen(id, {true, ""});
        seen(id, {false, fmt::format("it answers {} with status {}", health.target, health.status)});
    });
}

void Endpoints::seen(std::uint64_t id, EndpointSight sight) {
    auto& asked = asked_.at(id);
    asked.timer = loop_.after(sight.is_serving ? pace_.while_serving : pace_.while_not, [this, id] { ask(id); });
    if (std::exchange(asked.sight, sight) != sight) when_changed_();
}

}  // namespace stargate::steward
