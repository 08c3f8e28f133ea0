#include "twin/gateways.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace stargate::twin {

namespace {
constexpr Duration word_every = std::chrono::milliseconds{20};  // at most
constexpr Duration sign_of_life_every = std::chrono::milliseconds{500};
/// Longer than this nobody shall wait, where no objective is set.
constexpr Duration patience = std::chrono::milliseconds{200};
/// Requests that wait at one gateway for one service; more are refused.
constexpr std::size_t most_waiting = 2'000;
/// Over this a gateway counts what is asked for.
constexpr std::chrono::seconds of_late{10};
}  // namespace

Gateways::Gateways(EventQueue& queue, const Scenario& scenario, std::uint64_t seed, Machines& machines, Ports ports)
    : queue_{queue},
      scenario_{scenario},
      machines_{machines},
      ports_{std::move(ports)},
      rng_{seed},
      ids_(scenario.services.size()) {
    if (scenario.services.empty()) return;
    for (std::int32_t i = 0; i < scenario.gateways; ++i) {
        Gateway gateway;
        gateway.name = fmt::format("gateway-{}", i);
        gateway.waiting.resize(scenario.services.size());
        gateway.in_flight.resize(scenario.services.size());
        gateway.arrivals.resize(scenario.services.size());
        gateway.pace.resize(scenario.services.size());
        gateway.routes.of.resize(scenario.services.size());
        gateways_.push_back(std::move(gateway));
    }
}

void Gateways::begin(Instant now) {
    began_ = now;
    for (std::size_t service = 0; service < ids_.size(); ++service) plan_request(now, service);
    for (std::size_t gateway = 0; gateway < gateways_.size(); ++gateway) speak_by(now + word_every, gateway);
    const auto& faults = scenario_.faults;
    if (gateways_.empty()) return;
    if (faults.gateway_silent > Duration{})
        queue_.push(now + rng_.exponential(faults.gateway_silent), Happening::gateway_silent);
    if (faults.gateway_restart > Duration{})
        queue_.push(now + rng_.exponential(faults.gateway_restart), Happening::gateway_restarts);
}

void Gateways::calm(Instant now) {
    calm_ = true;
    for (std::size_t gateway = 0; gateway < gateways_.size(); ++gateway) {
        if (gateways_[gateway].silent) heard_again(now, gateway);
    }
}

// --------------------------------------------------------------------------------------------------------- clients

/// Without memory, and so drawn anew where a burst begins or ends.
void Gateways::plan_request(Instant now, std::size_t service) {
    const auto& plan = scenario_.services[service];
    auto rate = plan.rate;
    auto until = never;
    if (plan.burst_every > Duration{}) {
        // Each period ends with its burst: the world has time to come to rest before the first.
        const auto into = (now - began_) % plan.burst_every;
        const auto quiet = plan.burst_every - plan.burst_for;
        if (into >= quiet) rate = plan.burst_rate;
        until = now + (into >= quiet ? plan.burst_every : quiet) - into;
    }
    const auto next = rate > 0 ? now + rng_.exponential(Duration{static_cast<std::int64_t>(1e6 / rate)}) : never;
    if (std::min(next, until) == never) return;
    queue_.push(std::min(next, until), Happening::request, {}, service, next <= until ? 1 : 0);
}

void Gateways::request(Instant now, const Event& event) {
    if (calm_) return;
    if (event.b != 0) arrive(now, event.a);
    plan_request(now, event.a);
}

void Gateways::arrive(Instant now, std::size_t service) {
    const auto which = rng_.below(gateways_.size());
    auto& gateway = gateways_[which];
    ++counts_["asked"];
    auto& arrivals = gateway.arrivals[service];
    arrivals.push_back(now);
    while (arrivals.front() + of_late <= now) arrivals.pop_front();
    if (!ids_[service] || gateway.waiting[service].size() >= most_waiting) {
        ++counts_["refused"];
        return;
    }
    requests_[++newest_] = {which, service, now, {}, {}};
    gateway.waiting[service].push_back(newest_);
    pump_one(now, which, service);
    touch(now, which);
}

void Gateways::withdrawn(Instant now, std::size_t service) {
    ids_[service] = {};
    for (std::size_t which = 0; which < gateways_.size(); ++which) {
        for (const auto id : std::exchange(gateways_[which].waiting[service], {})) over(id, "refused");
        touch(now, which);
    }
}

/// The request has come to this end, and to no other before.
void Gateways::over(std::uint64_t id, const char* how) {
    if (requests_.erase(id) == 0) return ports_.broken(fmt::format("request {} has two ends", id));
    ++counts_[how];
}

void Gateways::request_done(Instant now, const Event& event) {
    const auto found = requests_.find(event.a);
    if (found == requests_.end() || found->second.attempt.value != event.b) return;  // it was cut
    const auto request = found->second;
    --gateways_[request.gateway].in_flight[request.service];
    over(event.a, "answered");
    machines_.stream_over(now, request.attempt);
    touch(now, request.gateway);
    pump(now, request.service);
}

/// The client reads the first of its answer, unless that was cut before.
void Gateways::first_token(Instant now, const Event& event) {
    const auto found = requests_.find(event.a);
    if (found == requests_.end() || found->second.attempt.value != event.b) return;
    const auto& request = found->second;
    auto& gateway = gateways_[request.gateway];
    const auto [known, is_new] = gateway.answered.try_emplace(request.attempt, request.telling);
    if (!is_new && std::exchange(known->second, request.telling) == request.telling) return;
    gateway.untold.push_back({request.attempt, request.telling});
    touch(now, request.gateway);
}

void Gateways::cut(Instant now, AttemptId attempt) {
    std::vector<std::uint64_t> hit;
    for (const auto& [id, request] : requests_) {
        if (request.attempt == attempt) hit.push_back(id);
    }
    for (const auto id : hit) {
        auto& request = requests_[id];
        auto& gateway = gateways_[request.gateway];
        --gateway.in_flight[request.service];
        touch(now, request.gateway);
        const Duration first_token{static_cast<std::int64_t>(1e6 / scenario_.services[request.service].tokens_per_s)};
        if (now - request.begun >= first_token) {
            over(id, "cut");
            continue;
        }
        ++counts_["retried"];  // the client has seen nothing yet
        request.attempt = {};
        gateway.waiting[request.service].push_front(id);
    }
    for (std::size_t service = 0; service < ids_.size() && !hit.empty(); ++service) pump(now, service);
}

// -------------------------------------------------------------------------------------------------------- gateways

/// Least outstanding work among those that this gateway believes to serve.
std::optional<RouteTable::Replica> Gateways::choose(Gateway& gateway, std::size_t service) {
    const auto most = scenario_.services[service].service.max_concurrency;
    const RouteTable::Replica* best = nullptr;
    auto least = most;
    for (const auto& replica : gateway.routes.of[service]) {
        const auto streams = machines_.streams_of(replica.attempt);
        if (streams >= least) continue;
        least = streams;
        best = &replica;
    }
    return best == nullptr ? std::nullopt : std::optional{*best};
}

/// Tokens a second of one of so many streams at a replica.
double Gateways::pace_beside(std::size_t service, std::int32_t streams) const {
    const auto& plan = scenario_.services[service];
    const auto together = plan.replica_tokens_per_s > 0 ? plan.replica_tokens_per_s : plan.tokens_per_s * streams;
    return std::min(plan.tokens_per_s, together / streams);
}

/// It has seen a full replica, and measures more or less what one computes.
void Gateways::note_pace(Gateway& gateway, std::size_t service, AttemptId attempt) {
    const auto places = scenario_.services[service].service.max_concurrency;
    if (machines_.streams_of(attempt) < places) return;
    const auto share = 0.5 + static_cast<double>(rng_.below(1'000)) / 1'000;
    gateway.pace[service] = static_cast<std::int64_t>(pace_beside(service, places) * places * share);
}

void Gateways::pump(Instant now, std::size_t service) {
    for (std::size_t gateway = 0; gateway < gateways_.size(); ++gateway) pump_one(now, gateway, service);
}

void Gateways::pump_one(Instant now, std::size_t which, std::size_t service) {
    auto& gateway = gateways_[which];
    auto& waiting = gateway.waiting[service];
    const auto& plan = scenario_.services[service];
    while (!waiting.empty()) {
        const auto replica = choose(gateway, service);
        if (!replica) return;
        if (!ports_.is_reachable(replica->node) || !machines_.begin_stream(replica->attempt)) {
            // It sleeps, drains or is gone, as its 503 says: not asked again before the next table.
            ++counts_["turned_away"];
            std::erase_if(gateway.routes.of[service],
                          [&](const RouteTable::Replica& one) { return one.attempt == replica->attempt; });
            continue;
        }
        const auto id = waiting.front();
        waiting.pop_front();
        auto& request = requests_.at(id);
        request.begun = now;
        request.attempt = replica->attempt;
        request.telling = replica->telling;
        ++gateway.in_flight[service];
        const auto pace = pace_beside(service, machines_.streams_of(replica->attempt));
        const auto lasts = rng_.exponential(Duration{static_cast<std::int64_t>(1e6 * plan.tokens / pace)});
        note_pace(gateway, service, replica->attempt);
        if (const auto known = gateway.answered.find(replica->attempt);
            known == gateway.answered.end() || known->second != replica->telling) {
            const auto first = std::min(lasts, Duration{static_cast<std::int64_t>(1e6 / pace)});
            queue_.push(now + first, Happening::first_token, {}, id, replica->attempt.value);
        }
        queue_.push(now + lasts, Happening::request_done, {}, id, replica->attempt.value);
        touch(now, which);
    }
}

void Gateways::routes(Instant now, std::size_t which, RouteTable table) {
    auto& gateway = gateways_[which];
    const auto& newest = gateway.routes;
    if (gateway.silent || std::pair{table.term, table.version} <= std::pair{newest.term, newest.version}) return;
    gateway.routes = std::move(table);
    for (std::size_t service = 0; service < ids_.size(); ++service) pump_one(now, which, service);
}

/// When somebody of this service has waited for too long.
Instant Gateways::limit_of(const Gateway& gateway, std::size_t service) const {
    const auto& waiting = gateway.waiting[service];
    if (waiting.empty()) return never;
    const auto slo = scenario_.services[service].service.slo;
    return requests_.at(waiting.front()).arrived + (slo > Duration{} ? slo : patience);
}

std::vector<DemandLevel> Gateways::levels_of(Instant now, const Gateway& gateway) const {
    std::vector<DemandLevel> levels;
    for (std::size_t service = 0; service < ids_.size(); ++service) {
        if (!ids_[service]) continue;
        DemandLevel level{ids_[service], static_cast<std::int64_t>(gateway.waiting[service].size()),
                          gateway.in_flight[service], false};
        const auto most = std::int64_t{scenario_.services[service].service.max_concurrency};
        const auto replicas = std::max<std::int64_t>(1, static_cast<std::int64_t>(gateway.routes.of[service].size()));
        level.over_limit = limit_of(gateway, service) <= now || level.queued > most * replicas;
        const auto& arrivals = gateway.arrivals[service];
        const auto asked = arrivals.end() - std::upper_bound(arrivals.begin(), arrivals.end(), now - of_late);
        level.wanted_tokens_per_s =
            static_cast<std::int64_t>(static_cast<double>(asked) * scenario_.services[service].tokens) /
            of_late.count();
        level.replica_tokens_per_s = gateway.pace[service];
        levels.push_back(level);
    }
    return levels;
}

void Gateways::speak_by(Instant at, std::size_t which) {
    auto& gateway = gateways_[which];
    if (at >= gateway.speaks_at) return;
    gateway.speaks_at = at;
    queue_.push(at, Happening::gateway_speaks, {}, which);
}

/// Its demand may have changed.
void Gateways::touch(Instant now, std::size_t which) {
    speak_by(std::max(now, gateways_[which].told_at + word_every), which);
}

void Gateways::speak(Instant now, const Event& event) {
    auto& gateway = gateways_[event.a];
    if (event.at != gateway.speaks_at) return;
    gateway.speaks_at = never;
    auto levels = levels_of(now, gateway);
    const bool is_news = levels != gateway.told || !gateway.untold.empty();
    if (is_news || now - gateway.told_at >= sign_of_life_every) {
        gateway.told = levels;
        gateway.told_at = now;
        ++gateway.seq;
        if (!gateway.silent) {
            ports_.tell(
                {gateway.name, gateway.boot, gateway.seq, std::move(levels), std::exchange(gateway.untold, {})});
        }
    }
    speak_by(gateway.told_at + sign_of_life_every, event.a);
    for (std::size_t service = 0; service < ids_.size(); ++service) {
        const auto limit = limit_of(gateway, service);
        if (limit > now && limit != never) speak_by(std::max(limit, gateway.told_at + word_every), event.a);
    }
}

// ---------------------------------------------------------------------------------------------------------- faults

void Gateways::fall_silent(Instant now) {
    if (calm_) return;
    const auto which = rng_.below(gateways_.size());
    if (!gateways_[which].silent) {
        ports_.note("gateway_silent");
        gateways_[which].silent = true;
        queue_.push(now + rng_.exponential(scenario_.faults.silent_for), Happening::gateway_heard, {}, which);
    }
    queue_.push(now + rng_.exponential(scenario_.faults.gateway_silent), Happening::gateway_silent);
}

void Gateways::heard_again(Instant now, std::size_t which) {
    if (!gateways_[which].silent) return;
    gateways_[which].silent = false;
    gateways_[which].told_at = {};
    touch(now, which);
    ports_.ask_for_routes(which);
}

/// Another process takes its place: what it had is lost, and replicas see that their clients are gone.
void Gateways::restart(Instant now) {
    if (calm_) return;
    ports_.note("gateway_restarted");
    const auto which = rng_.below(gateways_.size());
    auto& gateway = gateways_[which];
    std::vector<std::uint64_t> lost;
    for (const auto& [id, request] : requests_) {
        if (request.gateway == which) lost.push_back(id);
    }
    for (const auto id : lost) {
        const auto attempt = requests_[id].attempt;
        over(id, "lost_with_gateway");
        if (attempt) machines_.stream_over(now, attempt);
    }
    for (auto& waiting : gateway.waiting) waiting.clear();
    for (auto& in_flight : gateway.in_flight) in_flight = 0;
    for (auto& arrivals : gateway.arrivals) arrivals.clear();
    for (auto& pace : gateway.pace) pace = 0;
    for (auto& replicas : gateway.routes.of) replicas.clear();
    gateway.routes.term = gateway.routes.version = 0;
    ++gateway.boot;
    gateway.seq = 0;
    gateway.answered.clear();
    gateway.untold.clear();
    gateway.told.clear();
    gateway.told_at = {};
    touch(now, which);
    if (!gateway.silent) ports_.ask_for_routes(which);
    queue_.push(now + rng_.exponential(scenario_.faults.gateway_restart), Happening::gateway_restarts);
}

std::optional<std::string> Gateways::broken() const {
    std::uint64_t ended = 0;
    for (const auto* how : {"answered", "cut", "refused", "lost_with_gateway"}) {
        const auto count = counts_.find(how);
        ended += count == counts_.end() ? 0 : count->second;
    }
    const auto asked = counts_.find("asked");
    const auto all = asked == counts_.end() ? 0 : asked->second;
    if (all != ended + requests_.size()) {
        return fmt::format("{} requests were taken, {} have ended and {} have not", all, ended, requests_.size());
    }
    std::size_t held = 0;
    for (const auto& gateway : gateways_) {
        for (std::size_t service = 0; service < ids_.size(); ++service) {
            held += gateway.waiting[service].size() + static_cast<std::size_t>(gateway.in_flight[service]);
        }
    }
    if (held != requests_.size()) return fmt::format("gateways have {} requests of {}", held, requests_.size());
    return std::nullopt;
}

std::string Gateways::one_open() const {
    if (requests_.empty()) return {};
    const auto& [id, request] = *requests_.begin();
    const auto& gateway = gateways_[request.gateway];
    std::string text = fmt::format("request {} of service {} at {}{}, come at {}, ", id, request.service, gateway.name,
                                   gateway.silent ? " (silent)" : "", request.arrived.time_since_epoch().count());
    text += request.attempt ? fmt::format("with attempt {}", request.attempt.value)
                            : fmt::format("waiting with {} others", gateway.waiting[request.service].size() - 1);
    return text;
}

}  // namespace stargate::twin
