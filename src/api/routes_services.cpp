#include <fmt/format.h>

#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/json_text.hpp"

/// Services: what is asked of them, and where their replicas are.
namespace stargate::api {

namespace {

/// How many replicas are where.
struct Places {
    std::int32_t wanted = 0;
    int serving = 0;
    int starting = 0;  // or waking
    int asleep = 0;    // or about to be
    int ending = 0;
    int waiting = 0;        // that are wanted and have no place
    std::int32_t lent = 0;  // GPUs that others have let go of for them
    bool is_over = true;
};

void count(const State& state, const Job& job, Places& places) {
    if (std::holds_alternative<Finished>(job.phase)) return;
    places.is_over = false;
    const auto* active = std::get_if<Active>(&job.phase);
    if (active == nullptr) {
        if (job.wish != Wish::off) ++places.waiting;
        return;
    }
    const auto& attempt = state.at<Attempt>(active->attempt);
    for (const auto& loan : attempt.loans) places.lent += loan.gpus;
    if (attempt.ending) {
        ++places.ending;
    } else if (attempt.is_ready) {
        ++places.serving;
    } else if (attempt.presence == Presence::asleep || attempt.presence == Presence::falling_asleep) {
        ++places.asleep;
    } else {
        ++places.starting;
    }
}

Places places_of(const State& state, const Service& service) {
    Places places;
    places.wanted = service.awake;
    const auto elements = state.at<Spec>(service.first).count;
    for (std::int32_t task = 0; task < elements; ++task) {
        const auto* job = state.find<Job>(JobId{service.first.value + static_cast<std::uint64_t>(task)});
        if (job != nullptr) count(state, *job, places);
    }
    return places;
}

/// Of servers that run elsewhere: all are wanted while requests go to them, and those that answer serve.
Places places_of_endpoints(const State& state, const Service& service, const LookAtEndpoints& look) {
    Places places;
    const auto* job = state.find<Job>(service.first);
    places.is_over = job == nullptr || std::holds_alternative<Finished>(job->phase);
    if (job == nullptr || !std::holds_alternative<Routed>(job->phase)) return places;
    places.wanted = static_cast<std::int32_t>(service.spec.endpoints.size());
    for (const auto& each : look ? look(service.first) : std::vector<EndpointSight>{}) {
        places.serving += each.is_serving ? 1 : 0;
    }
    return places;
}

/// As gateways told last; State has only how many replicas follow from them.
void append_rates(std::string& out, const ServiceDemand& demand) {
    const auto known = [](bool is_known, std::int64_t rate) { return is_known ? std::to_string(rate) : "null"; };
    out += fmt::format(R"("wanted_tokens_per_s":{},"replica_tokens_per_s":{})",
                       known(demand.is_known, demand.wanted_tokens_per_s),
                       known(demand.is_known && demand.replica_tokens_per_s > 0, demand.replica_tokens_per_s));
}

/// Replicas that the demand fills, and whether somebody waits too long. State decides nothing of endpoints, so of these
/// it is as gateways told last.
struct Filled {
    bool is_known = false;
    std::int64_t replicas = 0;
    bool over_limit = false;
};
Filled filled(const Service& service, const ServiceDemand& demand) {
    if (!service.spec.is_external()) return {service.is_known, service.need, service.over_limit};
    const auto places = std::max<std::int64_t>(service.spec.max_concurrency, 1);
    return {demand.is_known, (demand.queued + demand.in_flight + places - 1) / places, demand.over_limit};
}

void append_service(std::string& out, const State& state, const Service& service, const Places& places,
                    const LookAtEndpoints& look, const ServiceDemand& demand) {
    const auto& spec = state.at<Spec>(service.first).spec;
    out += fmt::format(R"({{"id":{},"name":)", service.first.value);
    json_string(out, spec.name);
    out += ",\"tenant\":";
    json_string(out, state.at<TenantRow>(spec.tenant).tenant.name);
    out += ",\"model\":";
    json_string(out, service.spec.model.empty() ? spec.name : service.spec.model);
    const auto load = filled(service, demand);
    const auto endpoints = static_cast<std::int32_t>(service.spec.endpoints.size());
    const auto least = service.spec.is_external() ? endpoints : service.spec.min;
    const auto most = service.spec.is_external() ? endpoints : service.spec.max;
    out += fmt::format(R"(,"min":{},"max":{},"standby":{},"wanted":{},"serving":{},"starting":{},"asleep":{},)", least,
                       most, service.spec.standby, places.wanted, places.serving, places.starting, places.asleep);
    out += fmt::format(R"("ending":{},"waiting":{},"lent_gpus":{},"demand":{},"over_limit":{},)", places.ending,
                       places.waiting, places.lent, load.is_known ? std::to_string(load.replicas) : "null",
                       load.over_limit);
    append_rates(out, demand);
    out += ",\"trouble\":";
    if (service.troubles.empty()) {
        out += "null";
    } else {
        json_string(out, service.troubles.back().detail);
    }
    out += ",\"endpoints\":";
    append_endpoints(out, service, look);
    out += "}";
}

}  // namespace

Response Api::services(const Request& request) {
    Reply reply;
    JsonList rows{reply.body};
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        state.table<Service>().for_each([&](const Service& service) {
            const auto& look = setting_.look_at_endpoints;
            const auto places =
                service.spec.is_external() ? places_of_endpoints(state, service, look) : places_of(state, service);
            if (places.is_over || !sight.may_use(state.at<Spec>(service.first).spec.tenant)) return;
            rows.item();
            const auto demand = setting_.look_at_demand ? setting_.look_at_demand(service.first) : ServiceDemand{};
            append_service(reply.body, state, service, places, look, demand);
        });
    });
    rows.close();
    reply.body.push_back('\n');
    return reply;
}

/// Of a tenant that is not there any more, operators alone see it.
Response Api::usage(const Request& request) {
    Reply reply;
    JsonList rows{reply.body};
    const auto used = setting_.read_usage ? setting_.read_usage() : std::vector<UsageRow>{};
    if (!used) return failure_reply(used.error());
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        for (const auto& row : *used) {
            const auto tenant = state.tenant_named(row.tenant);
            if (tenant ? !sight.may_use(*tenant) : !request.caller.is_operator) continue;
            auto& out = rows.item();
            out += "{\"tenant\":";
            json_string(out, row.tenant);
            out += ",\"service\":";
            json_string(out, row.service);
            out += fmt::format(
                R"(,"requests":{},"prompt_tokens":{},"completion_tokens":{},"interrupted":{},"in_flight":{},"lost":{}}})",
                row.requests, row.prompt_tokens, row.completion_tokens, row.interrupted, row.in_flight, row.lost);
        }
    });
    rows.close();
    reply.body.push_back('\n');
    return reply;
}

}  // namespace stargate::api
