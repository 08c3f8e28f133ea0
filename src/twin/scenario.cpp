#include "twin/scenario.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/spelling.hpp"
#include "base/yaml.hpp"
#include "twin/section.hpp"

namespace stargate::twin {

namespace {

constexpr Range chance{0, 1};
constexpr Range counted{0, most_number};  // events, facts
constexpr Range one_or_more{1, 1e9};
constexpr Range nodes{1, 1e6};
constexpr Range gpus_of_node{0, 64};

/// Where the type stands among those of the fleet.
std::uint32_t index_of(const Section& in, const std::string& type, const std::vector<std::string>& types) {
    const auto found = std::find(types.begin(), types.end(), type);
    if (found == types.end()) {
        in.refuse("gpu_type", fmt::format("fleet.gpu_types has no `{}`; it has {}", type, fmt::join(types, ", ")));
    }
    return static_cast<std::uint32_t>(found - types.begin());
}

void read_fleet(Section& section, Scenario& scenario) {
    auto& types = scenario.settings.gpu_types;
    section.words("gpu_types", types);
    if (types.empty() || types.size() > max_gpu_types) {
        section.refuse("gpu_types", fmt::format("{} types; write 1 to {}", types.size(), max_gpu_types));
    }
    section.list("groups", [&](Section& in) {
        NodeGroup group;
        std::string type = types.front();
        std::int32_t gpus = 8;
        group.shape.cpus = cpus(64);
        group.shape.memory = gibibytes(512);
        in.read("nodes", group.nodes, nodes);
        in.read("gpus", gpus, gpus_of_node);
        in.read("gpu_type", type);
        in.read("cpus", group.shape.cpus);
        in.read("memory", group.shape.memory);
        in.read("nodes_per_rack", group.nodes_per_rack, nodes);
        in.read("racks_per_pod", group.racks_per_pod, nodes);
        group.shape.gpus = GpuCount{gpus};
        group.shape.gpu_type = index_of(in, type, types);
        scenario.fleet.push_back(group);
    });
}

JobKind read_kind(Section& in, const Settings& settings) {
    JobKind kind;
    auto& spec = kind.spec;
    std::vector<std::string> types;
    in.read("name", kind.name);
    in.read("load", kind.load);
    in.read_range("gpus", spec.min_gpus, spec.max_gpus);
    in.read("share", spec.share, {0, 999});
    if (spec.share > 0) spec.min_gpus = spec.max_gpus = GpuCount{0};
    in.read("priority", spec.priority);
    in.read("cpus", spec.cpus_per_rank);
    in.read("memory", spec.memory_per_rank);
    in.read("require", spec.require);
    in.read("count", kind.count, one_or_more);
    in.read("mean", kind.mean);
    in.read("spread", kind.spread);
    spec.time_limit = kind.mean * 4;
    spec.grace = std::chrono::seconds{5};
    in.read("limit", spec.time_limit);
    in.read("grace", spec.grace);
    in.read("retries", spec.retries, {0, 1000});
    in.read("one_rank_a_node", spec.one_rank_a_node);
    in.read("in_place", spec.resize_in_place);
    in.read("fails", kind.fails, chance);
    in.read("never_starts", kind.never_starts, chance);
    in.read("after", kind.after, chance);
    in.read("held", kind.held, chance);
    in.words("gpu_type", types);
    for (const auto& type : types) spec.gpu_types |= GpuTypeBits{1} << index_of(in, type, settings.gpu_types);
    if (spec.time_limit <= Duration{}) in.refuse("limit", "no time at all; write more than 0s");
    return kind;
}

void read_replicas(Section& in, ServiceSpec& service) {
    in.read("min", service.min, {0, max_replicas});
    service.max = std::max(1, service.min);
    in.read("max", service.max, {1, max_replicas});
    in.read("standby", service.standby, {0, max_replicas});
    if (service.max < service.min) in.refuse("max", "fewer than `min`; write no less than that");
}

ServicePlan read_service(Section& in, const Scenario& scenario) {
    ServicePlan plan;
    auto& spec = plan.spec;
    std::int32_t gpus = 1;
    plan.tenant = scenario.tenants.empty() ? "default" : scenario.tenants.front().name;
    spec.kind = Kind::service;
    spec.priority = PriorityClass::serving;
    spec.require = Level::node;
    spec.grace = std::chrono::seconds{5};
    in.read("name", plan.name);
    in.read("tenant", plan.tenant);
    in.read("gpus", gpus, {1, gpus_of_node.most});
    in.read("cpus", spec.cpus_per_rank);
    in.read("memory", spec.memory_per_rank);
    in.read("grace", spec.grace);
    in.section("replicas", [&](Section& replicas) { read_replicas(replicas, plan.service); });
    in.read("max_concurrency", plan.service.max_concurrency, {1, 100'000});
    in.read("slo", plan.service.slo);
    in.read("rate", plan.rate);
    in.read("burst_rate", plan.burst_rate);
    in.read("burst_every", plan.burst_every);
    in.read("burst_for", plan.burst_for);
    in.read("tokens", plan.tokens, one_or_more);
    in.read("tokens_per_s", plan.tokens_per_s);
    in.read("replica_tokens_per_s", plan.replica_tokens_per_s);
    in.read("start", plan.start);
    in.read("wake", plan.wake);
    in.read("sleep", plan.sleep);
    in.read("cannot_sleep", plan.cannot_sleep, chance);
    spec.name = plan.name;
    spec.min_gpus = spec.max_gpus = GpuCount{gpus};
    if (plan.tokens_per_s <= 0) in.refuse("tokens_per_s", "no pace at all; write more than 0");
    if (plan.burst_for > plan.burst_every) in.refuse("burst_for", "longer than `burst_every`; write no more than that");
    return plan;
}

void read_faults(Section& in, FaultPlan& plan) {
    in.read("node_loss", plan.node_loss);
    in.read("loss_is_crash", plan.loss_is_crash, chance);
    in.read("back_after", plan.back_after);
    in.read("proven_dead", plan.proven_dead, chance);
    in.read("control_plane_death", plan.control_plane_death);
    in.read("control_plane_down", plan.control_plane_down);
    in.read("store_full", plan.store_full);
    in.read("full_for", plan.full_for);
    in.read("store_unknown", plan.store_unknown);
    in.read("report_late", plan.report_late, chance);
    in.read("report_lost", plan.report_lost, chance);
    in.read("report_doubled", plan.report_doubled, chance);
    in.read("late_by", plan.late_by);
    in.read("start_refused", plan.start_refused, chance);
    in.read("report_reordered", plan.report_reordered, chance);
    in.read("command_stale", plan.command_stale, chance);
    in.read("never_back", plan.never_back, chance);
    in.read("node_reshaped", plan.node_reshaped, chance);
    in.read("settings_changed", plan.settings_changed, chance);
    in.read("replica_hangs", plan.replica_hangs, chance);
    in.read("replica_stops", plan.replica_stops, chance);
    in.read("replica_dies", plan.replica_dies, chance);
    in.read("gateway_silent", plan.gateway_silent);
    in.read("silent_for", plan.silent_for);
    in.read("gateway_restart", plan.gateway_restart);
    in.read("demand_doubled", plan.demand_doubled, chance);
    in.read("demand_reordered", plan.demand_reordered, chance);
}

void read_settings(Section& in, Settings& settings) {
    in.read("gang_limit", settings.gang_limit);
    in.read("quiet_period", settings.quiet_period);
    in.read("claim_slack", settings.claim_slack);
    in.read("retry_backoff", settings.retry_backoff);
    in.read("retention", settings.retention);
    in.read("max_finished", settings.max_finished);
    in.read("max_waiting", settings.max_waiting, one_or_more);
    in.read("max_array", settings.max_array, one_or_more);
    in.read("max_victims", settings.max_victims);
    in.read("pass_steps", settings.pass_steps, one_or_more);
    in.read("max_waiting_of_one", settings.max_waiting_of_one, one_or_more);
    in.read("ready_limit", settings.ready_limit);
    in.read("service_quiet", settings.service_quiet);
}

Scenario read_all(const YamlNode& root) {
    Scenario scenario;
    Section top{&root, root.line, ""};
    top.read("duration", scenario.duration);
    top.read("check_every", scenario.check_every, counted);
    top.read("snapshot_every", scenario.snapshot_every, counted);
    top.read("keep_log", scenario.keep_log);
    top.section("fleet", [&](Section& in) { read_fleet(in, scenario); });
    top.list("tenants", [&](Section& in) {
        TenantPlan tenant;
        in.read("name", tenant.name);
        in.read("quota", tenant.quota_gpus, {-1, 1e9});
        in.read("weight", tenant.weight, {1, 1e6});
        in.read("load", tenant.load);
        scenario.tenants.push_back(tenant);
    });
    top.section("workload", [&](Section& in) {
        in.read("arrival_every", scenario.arrival_every);
        in.read("at_start", scenario.at_start);
        in.read("max_jobs", scenario.max_jobs);
        in.list("kinds", [&](Section& one) { scenario.kinds.push_back(read_kind(one, scenario.settings)); });
    });
    top.list("services", [&](Section& in) { scenario.services.push_back(read_service(in, scenario)); });
    top.read("gateways", scenario.gateways, {1, 1000});
    top.section("people", [&](Section& in) {
        in.read("cancel", scenario.people.cancel);
        in.read("hold", scenario.people.hold);
        in.read("release", scenario.people.release);
        in.read("resize", scenario.people.resize);
        in.read("edit", scenario.people.edit);
        in.read("drain", scenario.people.drain);
        in.read("undrain", scenario.people.undrain);
        in.read("quota", scenario.people.quota);
    });
    top.section("faults", [&](Section& in) { read_faults(in, scenario.faults); });
    top.section("pace", [&](Section& in) {
        in.read("round", scenario.pace.round);
        in.read("message", scenario.pace.message);
        in.read("start", scenario.pace.start);
        in.read("acknowledge", scenario.pace.acknowledge);
        in.read("silence", scenario.pace.silence);
        in.read("reconcile", scenario.pace.reconcile);
    });
    top.section("settings", [&](Section& in) { read_settings(in, scenario.settings); });
    top.finish();
    if (scenario.fleet.empty()) {
        throw Bad{root.line, "fleet.groups", "no nodes; write at least one group, as `[{nodes: 4, gpus: 8}]`"};
    }
    if (scenario.kinds.empty() && scenario.services.empty()) {
        throw Bad{root.line, "workload.kinds",
                  "no jobs; write at least one kind, as `[{name: a, gpus: 1, mean: 60s}]`"};
    }
    if (scenario.tenants.empty()) scenario.tenants.push_back({"default", -1, 1, 1});
    return scenario;
}

Scenario read_text(const std::string& text, const std::vector<std::string>& overrides) {
    auto root = parse_yaml(text, "scenario");
    if (!root) throw Bad{root.error().line, root.error().field, root.error().what};
    if (root->kind != YamlNode::Kind::map) {
        throw Bad{root->line, std::string{whole_file},
                  "holds no scenario; write `fleet:` and `workload:` as docs/twin.md shows"};
    }
    if (const auto* kind = root->find("kind")) {
        throw Bad{kind->line, "kind", "stands in job files, which `stargate submit` takes; name a scenario file"};
    }
    for (const auto& one : overrides) override_value(*root, one);
    return read_all(*root);
}

}  // namespace

Result<Scenario> read_scenario(const std::string& text, const std::vector<std::string>& overrides,
                               std::string_view file) {
    try {
        return read_text(text, overrides);
    } catch (const Bad& bad) {
        const auto where = bad.line == 0 ? std::string{"--set"} : fmt::format("{}:{}", file, bad.line);
        return fail(Fault::malformed, presentable(fmt::format("{}: {}: {}", where, bad.path, bad.what)));
    }
}

}  // namespace stargate::twin
