#include "twin/scenario.hpp"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <set>

#include "base/names.hpp"

namespace stargate::twin {

namespace {

/// Stops the reading of a scenario. Never leaves this file.
struct Bad {
    std::string what;
};

std::optional<double> leading_number(const std::string& text, std::string& unit) {
    char* end = nullptr;
    const auto value = std::strtod(text.c_str(), &end);
    if (end == text.c_str()) return std::nullopt;
    unit = end;
    return value;
}

/// One mapping of the file: knows which of its keys have been read, so that an unknown one is found.
class Section {
public:
    Section(const YAML::Node& node, std::string path) : node_{node}, path_{std::move(path)} {
        if (node_ && !node_.IsNull() && !node_.IsMap()) throw Bad{path_ + ": a mapping is expected"};
    }
    ~Section() = default;
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

    void read(const char* key, std::int64_t& into) {
        into = scalar(key, into, [](double n, const std::string&) { return static_cast<std::int64_t>(n); });
    }
    void read(const char* key, std::uint64_t& into) {
        into = scalar(key, into, [](double n, const std::string&) { return static_cast<std::uint64_t>(n); });
    }
    void read(const char* key, std::int32_t& into) {
        into = scalar(key, into, [](double n, const std::string&) { return static_cast<std::int32_t>(n); });
    }
    void read(const char* key, double& into) {
        into = scalar(key, into, [](double n, const std::string&) { return n; });
    }
    void read(const char* key, Duration& into) {
        into = scalar(key, into, [&](double n, const std::string& unit) {
            const double us = unit == "us"                              ? 1
                              : unit == "ms"                            ? 1e3
                              : unit == "s" || (unit.empty() && n == 0) ? 1e6
                              : unit == "m"                             ? 6e7
                              : unit == "h"                             ? 3.6e9
                              : unit == "d"                             ? 8.64e10
                                                                        : -1;
            if (us < 0) throw Bad{at(key) + ": a duration as 500ms, 10s, 5m, 2h or 1d is expected"};
            return Duration{static_cast<std::int64_t>(n * us)};
        });
    }
    void read(const char* key, Bytes& into) {
        into = scalar(key, into, [&](double n, const std::string& unit) {
            const double bytes = unit == "GB" ? 1 << 30 : unit == "MB" ? 1 << 20 : unit.empty() ? 1 : -1;
            if (bytes < 0) throw Bad{at(key) + ": a size as 16GB or 512MB is expected"};
            return Bytes{static_cast<std::int64_t>(n * bytes)};
        });
    }
    void read(const char* key, MilliCpus& into) {
        into = scalar(key, into,
                      [](double n, const std::string&) { return MilliCpus{static_cast<std::int64_t>(n * 1000)}; });
    }
    void read(const char* key, bool& into) {
        if (const auto node = take(key)) into = text_of(key, node) == "true";
    }
    void read(const char* key, std::string& into) {
        if (const auto node = take(key)) into = text_of(key, node);
    }
    template <class Enum>
    requires std::is_enum_v<Enum>
    void read(const char* key, Enum& into) {
        const auto node = take(key);
        if (!node) return;
        const auto found = from_name<Enum>(text_of(key, node));
        if (!found) throw Bad{at(key) + ": " + text_of(key, node) + " is not known here"};
        into = *found;
    }
    /// `4`, or `1..8` for an elastic job.
    void read_range(const char* key, GpuCount& least, GpuCount& most) {
        const auto node = take(key);
        if (!node) return;
        const auto text = text_of(key, node);
        const auto dots = text.find("..");
        least = GpuCount{std::atoi(text.c_str())};
        most = dots == std::string::npos ? least : GpuCount{std::atoi(text.c_str() + dots + 2)};
    }
    template <class Read>
    void section(const char* key, Read read_it) {
        const auto node = take(key);
        Section inner{node ? node : YAML::Node{YAML::NodeType::Map}, at(key)};
        read_it(inner);
        inner.finish();
    }
    template <class Read>
    void list(const char* key, Read read_it) {
        const auto node = take(key);
        if (!node) return;
        if (!node.IsSequence()) throw Bad{at(key) + ": a list is expected"};
        for (std::size_t i = 0; i < node.size(); ++i) {
            Section inner{node[i], fmt::format("{}.{}", at(key), i)};
            read_it(inner);
            inner.finish();
        }
    }
    void words(const char* key, std::vector<std::string>& into) {
        const auto node = take(key);
        if (!node) return;
        if (!node.IsSequence()) throw Bad{at(key) + ": a list is expected"};
        into.clear();
        for (const auto& word : node) into.push_back(text_of(key, word));
    }
    void finish() const {
        if (!node_ || !node_.IsMap()) return;
        for (const auto& entry : node_) {
            const auto key = entry.first.as<std::string>();
            if (!known_.contains(key)) throw Bad{at(key.c_str()) + ": not a word of a scenario"};
        }
    }
    [[nodiscard]] std::string at(const char* key) const { return path_.empty() ? key : path_ + "." + key; }

private:
    YAML::Node take(const char* key) {
        known_.insert(key);
        if (!node_ || !node_.IsMap()) return YAML::Node{YAML::NodeType::Undefined};
        return static_cast<const YAML::Node&>(node_)[key];
    }
    [[nodiscard]] std::string text_of(const char* key, const YAML::Node& node) const {
        if (!node.IsScalar()) throw Bad{at(key) + ": a single value is expected"};
        return node.Scalar();
    }
    template <class T, class Make>
    T scalar(const char* key, T otherwise, Make make) {
        const auto node = take(key);
        if (!node) return otherwise;
        std::string unit;
        const auto number = leading_number(text_of(key, node), unit);
        if (!number || !(*number == *number)) throw Bad{at(key) + ": a number is expected"};
        return make(*number, unit);
    }
    YAML::Node node_;
    std::string path_;
    std::set<std::string> known_;
};

void read_fleet(Section& section, Scenario& scenario) {
    section.words("gpu_types", scenario.settings.gpu_types);
    section.list("groups", [&](Section& in) {
        NodeGroup group;
        std::string type = scenario.settings.gpu_types.front();
        std::int32_t gpus = 8;
        group.shape.cpus = cpus(64);
        group.shape.memory = gibibytes(512);
        in.read("nodes", group.nodes);
        in.read("gpus", gpus);
        in.read("gpu_type", type);
        in.read("cpus", group.shape.cpus);
        in.read("memory", group.shape.memory);
        in.read("nodes_per_rack", group.nodes_per_rack);
        in.read("racks_per_pod", group.racks_per_pod);
        const auto& types = scenario.settings.gpu_types;
        const auto found = std::find(types.begin(), types.end(), type);
        if (found == types.end()) throw Bad{in.at("gpu_type") + ": not in fleet.gpu_types"};
        if (gpus < 0 || gpus > 64 || group.nodes < 1 || group.nodes_per_rack < 1 || group.racks_per_pod < 1) {
            throw Bad{in.at("nodes") + ": a group has nodes of 0 to 64 GPUs, in racks and pods"};
        }
        group.shape.gpus = GpuCount{gpus};
        group.shape.gpu_type = static_cast<std::uint32_t>(found - types.begin());
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
    in.read("share", spec.share);
    if (spec.share > 0) spec.min_gpus = spec.max_gpus = GpuCount{0};
    in.read("priority", spec.priority);
    in.read("cpus", spec.cpus_per_rank);
    in.read("memory", spec.memory_per_rank);
    in.read("require", spec.require);
    in.read("count", kind.count);
    in.read("mean", kind.mean);
    in.read("spread", kind.spread);
    spec.time_limit = kind.mean * 4;
    spec.grace = std::chrono::seconds{5};
    in.read("limit", spec.time_limit);
    in.read("grace", spec.grace);
    in.read("retries", spec.retries);
    in.read("one_rank_a_node", spec.one_rank_a_node);
    in.read("in_place", spec.resize_in_place);
    in.read("fails", kind.fails);
    in.read("never_starts", kind.never_starts);
    in.read("after", kind.after);
    in.read("held", kind.held);
    in.words("gpu_type", types);
    for (const auto& type : types) {
        const auto found = std::find(settings.gpu_types.begin(), settings.gpu_types.end(), type);
        if (found == settings.gpu_types.end()) throw Bad{in.at("gpu_type") + ": not in fleet.gpu_types"};
        spec.gpu_types |= 1U << (found - settings.gpu_types.begin());
    }
    if (spec.time_limit <= Duration{}) throw Bad{in.at("limit") + ": more than 0 is expected"};
    return kind;
}

void read_faults(Section& in, FaultPlan& plan) {
    in.read("node_loss", plan.node_loss);
    in.read("loss_is_crash", plan.loss_is_crash);
    in.read("back_after", plan.back_after);
    in.read("proven_dead", plan.proven_dead);
    in.read("control_plane_death", plan.control_plane_death);
    in.read("control_plane_down", plan.control_plane_down);
    in.read("store_full", plan.store_full);
    in.read("full_for", plan.full_for);
    in.read("store_unknown", plan.store_unknown);
    in.read("report_late", plan.report_late);
    in.read("report_lost", plan.report_lost);
    in.read("report_doubled", plan.report_doubled);
    in.read("late_by", plan.late_by);
    in.read("start_refused", plan.start_refused);
    in.read("report_reordered", plan.report_reordered);
    in.read("command_stale", plan.command_stale);
    in.read("never_back", plan.never_back);
    in.read("node_reshaped", plan.node_reshaped);
    in.read("settings_changed", plan.settings_changed);
}

void read_settings(Section& in, Settings& settings) {
    in.read("gang_limit", settings.gang_limit);
    in.read("quiet_period", settings.quiet_period);
    in.read("claim_slack", settings.claim_slack);
    in.read("retry_backoff", settings.retry_backoff);
    in.read("retention", settings.retention);
    in.read("max_finished", settings.max_finished);
    in.read("max_waiting", settings.max_waiting);
    in.read("max_array", settings.max_array);
    in.read("max_victims", settings.max_victims);
    in.read("pass_steps", settings.pass_steps);
    in.read("max_waiting_of_one", settings.max_waiting_of_one);
}

Scenario read_all(const YAML::Node& root) {
    Scenario scenario;
    Section top{root, ""};
    top.read("duration", scenario.duration);
    top.read("check_every", scenario.check_every);
    top.read("snapshot_every", scenario.snapshot_every);
    top.read("keep_log", scenario.keep_log);
    top.section("fleet", [&](Section& in) { read_fleet(in, scenario); });
    top.list("tenants", [&](Section& in) {
        TenantPlan tenant;
        in.read("name", tenant.name);
        in.read("quota", tenant.quota_gpus);
        in.read("weight", tenant.weight);
        in.read("load", tenant.load);
        scenario.tenants.push_back(tenant);
    });
    top.section("workload", [&](Section& in) {
        in.read("arrival_every", scenario.arrival_every);
        in.read("at_start", scenario.at_start);
        in.read("max_jobs", scenario.max_jobs);
        in.list("kinds", [&](Section& one) { scenario.kinds.push_back(read_kind(one, scenario.settings)); });
    });
    top.section("people", [&](Section& in) {
        in.read("cancel", scenario.people.cancel);
        in.read("hold", scenario.people.hold);
        in.read("release", scenario.people.release);
        in.read("resize", scenario.people.resize);
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
    if (scenario.fleet.empty()) throw Bad{"fleet.groups: at least one group of nodes is expected"};
    if (scenario.kinds.empty()) throw Bad{"workload.kinds: at least one kind of job is expected"};
    if (scenario.tenants.empty()) scenario.tenants.push_back({"default", -1, 1, 1});
    return scenario;
}

/// Sets the value at `path` (words and list numbers between dots) to what follows the `=`.
void override_one(const YAML::Node& root, const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos) throw Bad{text + ": path=value is expected"};
    std::vector<std::string> words;
    for (std::size_t from = 0; from <= equals;) {
        const auto dot = std::min(text.find('.', from), equals);
        words.push_back(text.substr(from, dot - from));
        from = dot + 1;
    }
    std::vector<YAML::Node> nodes{root};  // assigning to a Node changes what it refers to, so each step has its own
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
        auto& here = nodes.back();
        if (here.IsSequence()) {
            const auto index = static_cast<std::size_t>(std::atoi(words[i].c_str()));
            if (index >= here.size()) throw Bad{text + ": the list has no element " + words[i]};
            nodes.push_back(here[index]);
        } else {
            nodes.push_back(here[words[i]]);
        }
    }
    nodes.back()[words.back()] = YAML::Load(text.substr(equals + 1));
}

}  // namespace

Result<Scenario> read_scenario(const std::string& text, const std::vector<std::string>& overrides) {
    try {
        YAML::Node root = YAML::Load(text);
        if (!root.IsMap()) return fail(Fault::malformed, "a scenario is a mapping");
        for (const auto& one : overrides) override_one(root, one);
        return read_all(root);
    } catch (const Bad& bad) { return fail(Fault::malformed, bad.what); } catch (const YAML::Exception& error) {
        return fail(Fault::malformed, error.what());
    }
}

}  // namespace stargate::twin
