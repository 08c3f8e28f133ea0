#include "steward/steward.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "core/state.hpp"
#include "net/loop.hpp"
#include "steward/endpoints.hpp"
#include "steward/gateway_side.hpp"
#include "steward/replicas.hpp"
#include "steward/watch.hpp"

namespace stargate::steward {

namespace {

constexpr Duration between_ticks = std::chrono::milliseconds{250};
/// The one gateway of this state.
constexpr const char* the_gateway = "local";
constexpr std::size_t longest_name = 128;  // of a tenant, at gateways
/// Replicas run on this machine.
constexpr const char* host = "127.0.0.1";

/// What a gateway is told of State.
struct Routes {
    std::map<std::string, gateway::ServiceEntry> services;
    std::map<std::string, JobId> ids;
    std::vector<AttemptId> live;                               // attempts of replicas
    std::vector<Watched> serving;                              // those of them that have proved that they answer
    std::map<std::uint64_t, Endpoint> endpoints;               // by the ids that gateways know
    std::map<JobId, std::vector<std::uint64_t>> endpoints_of;  // services, in the order of their endpoints
};

/// Gateways know replicas by their attempts. Endpoints have ids far above these, which are good for ever too: a
/// service's list never changes. Below 2^53, so that whoever reads JSON's numbers as floating point reads them.
std::uint64_t endpoint_id(JobId service, std::size_t index) {
    constexpr std::uint64_t first_id = std::uint64_t{1} << 52;
    return first_id + service.value * max_endpoints + index;
}

std::optional<gateway::ReplicaEntry> entry_of(const Attempt& attempt) {
    const bool leaves = attempt.ending || attempt.presence == Presence::falling_asleep;
    if (leaves || attempt.presence == Presence::asleep) return std::nullopt;
    return gateway::ReplicaEntry{attempt.id.value, host, static_cast<std::uint16_t>(attempt.port),
                                 attempt.is_ready ? gateway::ReplicaState::serving : gateway::ReplicaState::starting,
                                 attempt.tellings};
}

void add_replicas(const State& state, const Service& row, gateway::ServiceEntry& entry, Routes& routes) {
    const auto count = state.at<Spec>(row.first).count;
    for (std::int32_t task = 0; task < count; ++task) {
        const auto* job = state.find<Job>(JobId{row.first.value + static_cast<std::uint64_t>(task)});
        const auto* active = job == nullptr ? nullptr : std::get_if<Active>(&job->phase);
        if (active == nullptr) continue;
        const auto& attempt = state.at<Attempt>(active->attempt);
        routes.live.push_back(attempt.id);
        if (attempt.is_ready && !attempt.ending) {
            routes.serving.push_back({attempt.id, attempt.tellings, host, attempt.port});
        }
        if (auto replica = entry_of(attempt)) entry.replicas.push_back(std::move(*replica));
    }
}

/// Whether each answers is not known to State: whoever asks them fills it in.
void add_endpoints(const State& state, const Service& row, gateway::ServiceEntry& entry, Routes& routes) {
    if (!std::holds_alternative<Routed>(state.at<Job>(row.first).phase)) return;  // held
    for (std::size_t i = 0; i < row.spec.endpoints.size(); ++i) {
        const auto& endpoint = row.spec.endpoints[i];
        const auto id = endpoint_id(row.first, i);
        entry.replicas.push_back({id, endpoint.host, endpoint.port, gateway::ReplicaState::starting});
        routes.endpoints.emplace(id, endpoint);
        routes.endpoints_of[row.first].push_back(id);
    }
}

bool has_replicas_left(const State& state, const Service& row) {
    const auto count = state.at<Spec>(row.first).count;
    for (std::int32_t task = 0; task < count; ++task) {
        const auto* job = state.find<Job>(JobId{row.first.value + static_cast<std::uint64_t>(task)});
        if (job != nullptr && !std::holds_alternative<Finished>(job->phase)) return true;
    }
    return false;
}

/// Of several services of one name the newest is routed to.
Routes routes_of(const State& state) {
    Routes routes;
    state.table<Service>().for_each([&](const Service& row) {
        if (!has_replicas_left(state, row)) return;
        const auto& spec = state.at<Spec>(row.first).spec;
        if (state.at<TenantRow>(spec.tenant).tenant.name.size() > longest_name) return;  // no gateway would take it
        gateway::ServiceEntry entry;
        entry.name = spec.name;
        entry.tenant = state.at<TenantRow>(spec.tenant).tenant.name;
        entry.model = row.spec.model.empty() ? spec.name : row.spec.model;
        entry.slo_ms = std::chrono::duration_cast<std::chrono::milliseconds>(row.spec.slo).count();
        entry.max_concurrency = row.spec.max_concurrency;
        row.spec.is_external() ? add_endpoints(state, row, entry, routes) : add_replicas(state, row, entry, routes);
        routes.ids.insert_or_assign(spec.name, row.first);
        routes.services.insert_or_assign(spec.name, std::move(entry));
    });
    return routes;
}

class Impl final : public Steward {
public:
    Impl(const std::string& state, Needs needs)
        : needs_{std::move(needs)},
          replicas_{loop_, [this](Report reply) { needs_.on_reply(std::move(reply)); }, needs_.holder_of_port},
          watch_{loop_,
                 {[this] { state_changed(); },  // of what is served, not of State
                  [this](ReplicaFailed failed) { needs_.on_reply(std::move(failed)); }, needs_.holder_of_port}},
          gateway_{loop_,
                   state + "/gateway.sock",
                   {words_of_incarnation(needs_.authority.incarnation), needs_.authority.term},
                   {[this](std::uint64_t boot, const gateway::Demand& demand) { demanded(boot, demand); },
                    [this](const gateway::Seen& seen) { saw(seen); },
                    [this](const gateway::FirstAnswer& answer) {
                        needs_.on_reply(ReplicaAnswered{AttemptId{answer.replica}, answer.telling});
                    }}},
          endpoints_{loop_, [this] { refresh(); }, {}} {
        loop_.post([this] {
            refresh();
            tick();
        });
        thread_ = std::thread{[this] { loop_.run(); }};
    }
    ~Impl() override {
        loop_.stop();
        thread_.join();
    }

    void tell(const TellReplica& command) override {
        loop_.post([this, command] { carry_out(command); });
    }
    void drain(AttemptId replica, Instant deadline, std::function<void()> then) override {
        loop_.post([this, replica, deadline, then = std::move(then)] {
            constexpr Duration most_kept = std::chrono::seconds{1};
            const auto left = std::max(Duration{}, deadline - needs_.now());
            replicas_.forget(replica);  // whatever else it was being told
            gateway_.withdraw(replica.value, left - std::min(most_kept, left / 10), then);
        });
    }
    void state_changed() override {
        if (is_due_.exchange(true)) return;  // it will be looked at anyway
        loop_.post([this] {
            is_due_ = false;
            refresh();
        });
    }
    std::vector<EndpointSight> endpoints_of(JobId service) const override {
        const std::lock_guard lock{sights_mutex_};
        const auto found = sights_.find(service);
        return found == sights_.end() ? std::vector<EndpointSight>{} : found->second;
    }
    void set_keys(std::vector<Key> keys) override {
        loop_.post([this, keys = std::move(keys)] {
            std::map<std::string, gateway::KeyEntry> entries;
            for (const auto& key : keys) entries[key.id] = {key.id, key.tenant, key.digest};
            gateway_.set_keys(std::move(entries));
        });
    }

private:
    void carry_out(const TellReplica& command) {
        watch_.told(command.attempt, command.telling);
        if (command.what != Telling::sleep) {
            gateway_.give_back(command.attempt.value);
            return replicas_.tell(command, host);
        }
        replicas_.forget(command.attempt);
        gateway_.withdraw(command.attempt.value, command.drain_by - needs_.now(),
                          [this, command] { replicas_.tell(command, host); });
    }

    void refresh() {
        Routes routes;
        needs_.read([&](const State& state) { routes = routes_of(state); });
        ids_ = std::move(routes.ids);
        look_at_endpoints(routes);
        watch_.follow(routes.serving);
        for (auto& [name, service] : routes.services) {
            for (auto& replica : service.replicas) {
                if (!watch_.is_fit(AttemptId{replica.id})) replica.state = gateway::ReplicaState::starting;
            }
        }
        gateway_.set_services(std::move(routes.services));
        // One that State does not know yet was started after this State.
        for (const auto attempt : live_) {
            if (std::find(routes.live.begin(), routes.live.end(), attempt) != routes.live.end()) continue;
            replicas_.forget(attempt);
            watch_.forget(attempt);
            gateway_.give_back(attempt.value);
        }
        live_ = std::move(routes.live);
    }

    /// Those that answered are serving.
    void look_at_endpoints(Routes& routes) {
        endpoints_.follow(routes.endpoints);
        std::map<JobId, std::vector<EndpointSight>> sights;
        for (const auto& [service, ids] : routes.endpoints_of) {
            for (const auto id : ids) sights[service].push_back(endpoints_.sight(id));
        }
        for (auto& [name, service] : routes.services) {
            for (auto& replica : service.replicas) {
                if (!routes.endpoints.contains(replica.id) || !endpoints_.sight(replica.id).is_serving) continue;
                replica.state = gateway::ReplicaState::serving;
            }
        }
        const std::lock_guard lock{sights_mutex_};
        sights_ = std::move(sights);
    }

    void demanded(std::uint64_t boot, const gateway::Demand& demand) {
        GatewayDemand told{the_gateway, boot, demand.seq, {}};
        for (const auto& service : demand.services) {
            const auto id = ids_.find(service.name);
            if (id == ids_.end()) continue;
            told.levels.push_back({id->second, service.queued, service.in_flight, service.over_limit,
                                   service.wanted_tokens_per_s, service.replica_tokens_per_s});
        }
        needs_.on_demand(std::move(told));
    }

    void saw(const gateway::Seen& seen) {
        for (const auto id : seen.answered) watch_.answered(AttemptId{id});
        for (const auto id : seen.asleep) watch_.refused_asleep(AttemptId{id});
    }

    void tick() {
        needs_.on_tick();
        loop_.after(between_ticks, [this] { tick(); });
    }

    Needs needs_;
    net::Loop loop_;
    Replicas replicas_;
    Watch watch_;
    GatewaySide gateway_;
    Endpoints endpoints_;
    std::vector<AttemptId> live_;       // attempts of replicas, when State was looked at last
    std::map<std::string, JobId> ids_;  // of the services, by the names that gateways know
    mutable std::mutex sights_mutex_;
    std::map<JobId, std::vector<EndpointSight>> sights_;  // of the endpoints of services
    std::atomic<bool> is_due_{false};
    std::thread thread_;
};

}  // namespace

std::string words_of_incarnation(const std::array<std::uint8_t, 16>& incarnation) {
    std::string out;
    for (const auto byte : incarnation) {
        out += "0123456789abcdef"[byte >> 4];
        out += "0123456789abcdef"[byte & 15];
    }
    return out;
}

std::unique_ptr<Steward> Steward::start(const std::string& state, Needs needs) {
    return std::make_unique<Impl>(state, std::move(needs));
}

}  // namespace stargate::steward
