#include "steward/endpoints.hpp"

#include <fmt/format.h>

#include <utility>

namespace stargate::steward {

namespace {
constexpr const char* health = "/health";
constexpr const char* models = "/v1/models";

bool is_good(int status) { return status >= 200 && status < 300; }
bool has_no_such_route(int status) { return status == 404 || status == 405 || status == 501; }
}  // namespace

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
    auto& asked = asked_.at(id);
    asked.asker.ask("GET", asked.lacks_health ? models : health, pace_.patience,
                    [this, id](int status, const std::string& body) { answered(id, status, body); });
}

/// status  0: no answer, for the reason `why`
void Endpoints::answered(std::uint64_t id, int status, const std::string& why) {
    auto& asked = asked_.at(id);
    if (status == 0) return seen(id, {false, why});
    if (is_good(status)) return seen(id, {true, ""});
    if (!asked.lacks_health && has_no_such_route(status)) {
        asked.lacks_health = true;
        return ask(id);
    }
    seen(id, {false, fmt::format("it answers {} with status {}", asked.lacks_health ? models : health, status)});
}

void Endpoints::seen(std::uint64_t id, EndpointSight sight) {
    auto& asked = asked_.at(id);
    if (!sight.is_serving) asked.lacks_health = false;  // another server may be there next time
    asked.timer = loop_.after(sight.is_serving ? pace_.while_serving : pace_.while_not, [this, id] { ask(id); });
    if (std::exchange(asked.sight, sight) != sight) when_changed_();
}

}  // namespace stargate::steward
