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
    *is_here_ = false;
    while (!asked_.empty()) forget(asked_.begin());
}

void Endpoints::follow(const std::map<std::uint64_t, Endpoint>& all) {
    for (auto at = asked_.begin(); at != asked_.end();) {
        const auto here = at++;
        if (!all.contains(here->first)) forget(here);
    }
    for (const auto& [id, endpoint] : all) {
        auto& asked = asked_[id];
        if (asked.client) continue;
        net::ClientSetting setting;
        setting.host = endpoint.host;
        setting.port = endpoint.port;
        setting.connect_limit = pace_.patience;
        asked.client = std::make_unique<net::Client>(loop_, std::move(setting));
        ask(id);
    }
}

EndpointSight Endpoints::sight(std::uint64_t id) const {
    const auto found = asked_.find(id);
    return found == asked_.end() ? EndpointSight{} : found->second.sight;
}

void Endpoints::forget(std::map<std::uint64_t, Asked>::iterator at) {
    loop_.cancel(at->second.timer);
    if (at->second.call) at->second.call->cancel();
    asked_.erase(at);
}

void Endpoints::ask(std::uint64_t id) {
    auto& asked = asked_.at(id);
    asked.question = ++last_question_;
    // What comes of it is looked at on a turn of the loop of its own, where the call may be let go of.
    const auto later = [this, id, question = asked.question, is_here = is_here_](int status, const std::string& why) {
        loop_.post([this, id, question, status, why, is_here] {
            if (*is_here) came_of_it(id, question, status, why);
        });
    };
    net::CallEvents events;
    const auto status = std::make_shared<int>(0);
    events.on_head = [status](const net::ResponseHead& head) { *status = head.status; };
    // The whole of it is read, so that the connection is there for the next question and no name is looked up again.
    events.on_end = [status, later] { later(*status, ""); };
    events.on_failure = [later](const net::CallFailure& failure) { later(0, failure.why); };
    asked.timer = loop_.after(
        pace_.patience, [this, id, question = asked.question] { came_of_it(id, question, 0, "it says nothing"); });
    const auto* target = asked.lacks_health ? models : health;
    asked.call =
        asked.client->start(net::request_bytes("GET", target, asked.client->host(), {}, ""), std::move(events));
}

/// status  0: no answer, for this reason
void Endpoints::came_of_it(std::uint64_t id, std::uint64_t question, int status, const std::string& why) {
    const auto found = asked_.find(id);
    if (found == asked_.end() || found->second.question != question || !found->second.call) return;
    loop_.cancel(found->second.timer);
    found->second.call->cancel();  // where it has not ended
    found->second.call.reset();
    status == 0 ? seen(id, {false, why}) : answered(id, status);
}

void Endpoints::answered(std::uint64_t id, int status) {
    auto& asked = asked_.at(id);
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
