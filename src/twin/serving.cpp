#include <fmt/format.h>

#include <utility>

#include "twin/world.hpp"

/// Services of the simulated world: who submits them, what gateways and control plane tell each other, and whether all
/// have what they need when nothing goes wrong any more.
namespace stargate::twin {

namespace {
/// What becomes of a failed replica, at most: told, unanswered, ended, backing off as long as there is.
constexpr int longest_back_off = 1 << 8;
}  // namespace

Gateways::Ports World::ports_of_gateways() {
    Gateways::Ports ports;
    ports.tell = [this](DemandWord word) { tell_demand(std::move(word)); };
    ports.ask_for_routes = [this](std::size_t gateway) { send_routes(gateway); };
    ports.is_reachable = [this](NodeId node) { return links_of_[node.value].up; };
    ports.note = [this](const char* fault) { note(fault); };
    ports.broken = [this](std::string what) { broken(std::move(what)); };
    return ports;
}

/// Those that are not there, or have been cancelled whole.
void World::submit_services() {
    if (!control_plane_ || closing_) return;
    for (std::size_t i = 0; i < scenario_.services.size(); ++i) {
        if (replicas_of_service_[i] > 0) continue;
        const auto& plan = scenario_.services[i];
        Submit submit;
        submit.spec = plan.spec;
        submit.spec.owner = static_cast<std::uint32_t>(scenario_.kinds.size() + i);
        submit.tenant = plan.tenant;
        submit.count = plan.service.max;
        submit.service = plan.service;
        put(std::move(submit), true);
    }
}

Truth World::truth_of_replica(const Submitted& submitted) {
    const auto service = submitted.spec.owner - scenario_.kinds.size();
    Truth truth;
    truth.tenant = submitted.spec.tenant;
    truth.service = static_cast<std::int32_t>(service);
    return truth;
}

/// Somebody's element of a service, whether it lives or not.
JobId World::a_replica() {
    const auto service = people_.below(scenario_.services.size());
    const auto first = gateways_.id_of(service);
    if (!first) return {};
    return JobId{first.value + people_.below(static_cast<std::uint64_t>(scenario_.services[service].service.max))};
}

// ---------------------------------------------------------------------------------------------------------- demand

/// Words of gateways overtake each other and arrive twice.
void World::tell_demand(DemandWord word) {
    const auto& faults = scenario_.faults;
    auto delay = scenario_.pace.message;
    if (!closing_) {
        if (gateway_links_.chance(faults.demand_reordered)) {
            note("demand_reordered");
            delay += gateway_links_.exponential(std::chrono::milliseconds{100});
        }
        if (gateway_links_.chance(faults.demand_doubled)) {
            note("demand_doubled");
            queue_.push(now_ + delay + gateway_links_.exponential(faults.late_by), Happening::demand, {},
                        words_on_their_way_.put(word));
        }
    }
    queue_.push(now_ + delay, Happening::demand, {}, words_on_their_way_.put(std::move(word)));
}

void World::hear_demand(const Event& event) {
    auto word = words_on_their_way_.take(event.a);
    if (!control_plane_) return;
    for (const auto& answered : word.answered) put(answered, false);
    if (!demand_.told(word.gateway, word.boot, word.seq, std::move(word.levels), now_)) return;
    note_demand();
}

void World::note_demand() {
    if (!control_plane_) return;
    std::vector<JobId> services;
    control_plane_->state().table<Service>().for_each([&](const Service& row) { services.push_back(row.first); });
    for (const auto& demand : demand_.changed(services, now_)) put(demand, false);
    const auto silence = demand_.next_silence(now_);
    if (silence == never || silence_at_ > now_) return;
    silence_at_ = silence;
    queue_.push(silence, Happening::demand_silence);
}

/// Fewer serve only where they have room for what is under way, and can compute what is asked for, with room to spare.
void World::check_scaled(const Scaled& scaled) {
    if (scaled.why != ScaleCause::quiet) return;
    const auto asked = demand_.total(scaled.service, now_);
    const auto places = control_plane_->state().at<Service>(scaled.service).spec.max_concurrency;
    const auto requests = asked.queued + asked.in_flight;
    const auto carries = [&](std::int64_t one) { return scaled.awake * one * 4 / 5; };
    const bool computes = asked.replica_tokens_per_s == 0 || requests == 0 ||
                          carries(asked.replica_tokens_per_s) >= asked.wanted_tokens_per_s;
    if (!asked.is_known || (carries(places) >= requests && computes)) return;
    broken(fmt::format("service {} shrinks to {} for {} requests, {} tokens/s wanted and {} of a replica",
                       scaled.service.value, scaled.awake, requests, asked.wanted_tokens_per_s,
                       asked.replica_tokens_per_s));
}

// ---------------------------------------------------------------------------------------------------------- routes

/// Whether this fact makes somebody serve, or serve no more.
void World::note_routes(const Fact& fact) {
    if (scenario_.services.empty()) return;
    routes_changed_ = routes_changed_ || std::holds_alternative<Ready>(fact) ||
                      std::holds_alternative<SleepBegun>(fact) || std::holds_alternative<Warned>(fact) ||
                      std::holds_alternative<Requeued>(fact) || std::holds_alternative<Ended>(fact);
}

void World::send_routes_if_changed() {
    if (!routes_changed_ || !control_plane_) return;
    routes_changed_ = false;
    for (std::size_t gateway = 0; gateway < gateways_.size(); ++gateway) send_routes(gateway);
}

void World::send_routes(std::size_t gateway) {
    if (!control_plane_ || gateways_.is_silent(gateway)) return;
    const auto& state = control_plane_->state();
    RouteTable table;
    table.term = control_plane_->authority().term;
    table.version = ++route_version_;
    table.of.resize(scenario_.services.size());
    for (std::size_t i = 0; i < scenario_.services.size(); ++i) {
        const auto* service = state.find<Service>(gateways_.id_of(i));
        if (service == nullptr) continue;
        for (std::int32_t task = 0; task < service->spec.max; ++task) {
            const auto* job = state.find<Job>(JobId{service->first.value + static_cast<std::uint64_t>(task)});
            const auto* active = job == nullptr ? nullptr : std::get_if<Active>(&job->phase);
            if (active == nullptr) continue;
            const auto& attempt = state.at<Attempt>(active->attempt);
            if (attempt.is_ready && !attempt.ending) {
                table.of[i].push_back({attempt.id, attempt.parts.front().node, attempt.tellings});
            }
        }
    }
    queue_.push(now_ + scenario_.pace.message, Happening::routes, {}, gateway,
                routes_on_their_way_.put(std::move(table)));
}

// ---------------------------------------------------------------------------------------------------------- the end

void World::job_over(JobId job) {
    --open_;
    const auto* truth = machines_.truth_of(job);
    if (truth == nullptr || truth->service < 0) return;
    const auto service = static_cast<std::size_t>(truth->service);
    if (--replicas_of_service_[service] == 0) gateways_.withdrawn(now_, service);
}

Duration World::services_need() const {
    if (scenario_.services.empty()) return {};
    const auto& settings = scenario_.settings;
    Duration slowest{};
    for (const auto& plan : scenario_.services) {
        slowest = std::max(slowest, plan.spec.grace + 10 * (plan.start + plan.wake + plan.sleep));
    }
    return settings.retry_backoff * longest_back_off + 2 * settings.ready_limit + 2 * settings.gang_limit +
           2 * settings.service_quiet + 2 * settings.claim_slack + slowest;
}

/// Once nothing else runs, services get the time that they may need at most. What still waits may need their GPUs.
void World::plan_services_close() {
    if (services_close_planned_ || scenario_.services.empty() || !control_plane_) return;
    const auto& state = control_plane_->state();
    bool others_run = false;
    state.table<Attempt>().for_each([&](const Attempt& attempt) { others_run = others_run || attempt.port == 0; });
    if (others_run) return;
    services_close_planned_ = true;
    queue_.push(now_ + services_need(), Happening::services_close);
}

/// All have what they need, nobody has more than is asked for, and what was lent is back. Then they are cancelled.
void World::close_services() {
    if (!control_plane_) return;
    const auto& state = control_plane_->state();
    // What few replicas are left over may have a long queue to work off: as long as it gets shorter there is an end.
    if (gateways_.open() > 0 && gateways_.open() < std::exchange(open_requests_, gateways_.open())) {
        closing_deadline_ = std::max(closing_deadline_, now_ + longest_wait());
        queue_.push(now_ + services_need(), Happening::services_close);
        return;
    }
    if (const auto open = gateways_.one_open(); !open.empty()) {
        broken("a request has no end though nothing goes wrong: " + open);
    }
    state.table<Service>().for_each([&](const Service& service) {
        std::int32_t left = 0;
        std::int32_t serving = 0;
        for (std::int32_t task = 0; task < service.spec.max; ++task) {
            const auto* job = state.find<Job>(JobId{service.first.value + static_cast<std::uint64_t>(task)});
            if (job == nullptr || std::holds_alternative<Finished>(job->phase)) continue;
            ++left;
            const auto* active = std::get_if<Active>(&job->phase);
            serving += active != nullptr && state.at<Attempt>(active->attempt).is_ready ? 1 : 0;
            put(Cancel{job->id}, true);
        }
        if (serving != std::min(service.spec.min, left)) {
            broken(fmt::format("{} replicas of service {} serve where {} are wanted", serving, service.first.value,
                               std::min(service.spec.min, left)));
        }
    });
}

}  // namespace stargate::twin
