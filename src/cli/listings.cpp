#include "cli/listings.hpp"

#include <fmt/format.h>
#include <pwd.h>

#include <array>
#include <ctime>
#include <map>
#include <set>

#include "base/spelling.hpp"

namespace stargate::cli {

using api::Json;

namespace {

template <class... Args>
void print_line(fmt::format_string<Args...> text, Args&&... args) {
    fmt::print("{}\n", without_controls(fmt::format(text, std::forward<Args>(args)...)));
}

std::int64_t now() {
    timespec at{};
    clock_gettime(CLOCK_REALTIME, &at);
    return std::int64_t{at.tv_sec} * 1'000'000 + at.tv_nsec / 1000;
}

/// How long it has run, or its last attempt did run; waiting: how long it has waited.
std::string time_of(const Json& row) {
    const auto& started = row["started_at"];
    const auto& ended = row["ended_at"];
    const bool has_started = started.kind == Json::Kind::number;
    if (ended.kind == Json::Kind::number) return has_started ? spoken_duration(ended.whole - started.whole) : "-";
    return spoken_duration(now() - (has_started ? started.whole : row["submitted_at"].whole));
}

std::string reason_of(const Json& row) {
    if (!row["reason"].text.empty()) return row["reason"].text;
    return row["detail"].text.empty() ? "-" : row["detail"].text;
}

}  // namespace

std::string clock_of(std::int64_t microseconds) {
    const auto seconds = static_cast<time_t>(microseconds / 1'000'000);
    tm local{};
    localtime_r(&seconds, &local);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
    return text.data();
}

std::vector<Column> job_columns() {
    return {
        {"ID", [](const Json& row) { return row["id"].word(); }, true},
        {"NAME", [](const Json& row) { return row["name"].word(); }},
        {"TENANT", [](const Json& row) { return row["tenant"].word(); }, false, true},
        {"CLASS", [](const Json& row) { return row["priority"].word(); }},
        {"STATE", [](const Json& row) { return row["state"].word(); }},
        {"TIME", time_of, true},
        {"GPUS", [](const Json& row) { return row["gpus"].word(); }, true},
        {"ATTEMPT", [](const Json& row) { return row["attempt"].word(); }, true, true},
        {"GEN", [](const Json& row) { return row["generation"].word(); }, true, true},
        {"EXIT",
         [](const Json& row) { return row["exit_status"].kind == Json::Kind::null ? "-" : row["exit_status"].word(); },
         true},
        {"NODES", [](const Json& row) { return row["nodes"].items.empty() ? "-" : row["nodes"].word(); }, false, true},
        {"REASON", reason_of},
    };
}

std::vector<Column> node_columns() {
    return {
        {"NODE", [](const Json& row) { return row["name"].word(); }},
        {"STATE", [](const Json& row) { return row["state"].word(); }},
        {"TYPE", [](const Json& row) { return row["gpu_type"].word(); }},
        {"GPUS", [](const Json& row) { return row["gpus"].word(); }, true},
        {"FREE", [](const Json& row) { return row["gpus_free"].word(); }, true},
        {"FOREIGN", [](const Json& row) { return row["gpus_foreign"].word(); }, true, true},
        {"CPUS", [](const Json& row) { return row["cpus"].word(); }, true},
        {"MEMORY", [](const Json& row) { return spoken_bytes(row["memory"].whole); }, true},
        {"RACK", [](const Json& row) { return row["rack"].word(); }, true, true},
        {"JOBS", [](const Json& row) { return std::to_string(row["jobs"].items.size()); }, true},
        {"REASON", [](const Json& row) { return row["reason"].text.empty() ? "-" : row["reason"].text; }},
    };
}

std::vector<Column> tenant_columns() {
    return {
        {"TENANT", [](const Json& row) { return row["name"].word(); }},
        {"QUOTA", [](const Json& row) { return row["limit"].kind == Json::Kind::null ? "none" : row["limit"].word(); },
         true},
        {"USED", [](const Json& row) { return row["used"].word(); }, true},
        {"WEIGHT", [](const Json& row) { return row["weight"].word(); }, true},
        {"GPU-HOURS", [](const Json& row) { return fmt::format("{:.2f}", row["charged_gpu_s"].number / 3600); }, true},
        {"MEMBERS", [](const Json& row) { return row["users"].items.empty() ? "all" : row["users"].word(); }},
        {"CLASSES", [](const Json& row) { return row["priorities"].word(); }, false, true},
    };
}

std::vector<Column> token_columns() {
    return {
        {"ID", [](const Json& row) { return row["id"].word(); }},
        {"NAME", [](const Json& row) { return row["name"].word(); }},
        {"UID", [](const Json& row) { return row["uid"].word(); }, true},
        {"OPERATOR", [](const Json& row) { return std::string{row["operator"].boolean ? "yes" : "no"}; }},
        {"GATEWAY OF", [](const Json& row) { return row["gateway"].boolean ? row["tenant"].word() : "-"; }},
    };
}

std::vector<Column> usage_columns() {
    return {
        {"TENANT", [](const Json& row) { return row["tenant"].word(); }},
        {"SERVICE", [](const Json& row) { return row["service"].word(); }},
        {"REQUESTS", [](const Json& row) { return row["requests"].word(); }, true},
        {"PROMPT TOKENS", [](const Json& row) { return row["prompt_tokens"].word(); }, true},
        {"COMPLETION TOKENS", [](const Json& row) { return row["completion_tokens"].word(); }, true},
        {"INTERRUPTED", [](const Json& row) { return row["interrupted"].word(); }, true},
        {"LOST", [](const Json& row) { return row["lost"].word(); }, true},
    };
}

namespace {
/// `http://a:8000 serves`, `http://b:8000: Connection refused`.
std::string endpoint_of(const Json& endpoint) {
    if (endpoint["serving"].boolean) return endpoint["url"].text + " serves";
    return endpoint["url"].text + ": " + endpoint["detail"].text;
}

std::string endpoints_of(const Json& row) {
    std::string words;
    for (const auto& endpoint : row["endpoints"].items) words += (words.empty() ? "" : ", ") + endpoint_of(endpoint);
    return words.empty() ? "-" : words;
}

std::string or_unknown(const Json& value) { return value.kind == Json::Kind::null ? "?" : value.word(); }
}  // namespace

std::vector<Column> service_columns() {
    return {
        {"SERVICE", [](const Json& row) { return row["name"].word(); }},
        {"TENANT", [](const Json& row) { return row["tenant"].word(); }},
        {"WANTED", [](const Json& row) { return row["wanted"].word(); }, true},
        {"SERVING", [](const Json& row) { return row["serving"].word(); }, true},
        {"STARTING", [](const Json& row) { return row["starting"].word(); }, true},
        {"ASLEEP", [](const Json& row) { return row["asleep"].word(); }, true},
        {"MIN..MAX", [](const Json& row) { return row["min"].word() + ".." + row["max"].word(); }, true},
        {"DEMAND", [](const Json& row) { return or_unknown(row["demand"]); }, true},
        {"TOKENS/S", [](const Json& row) { return or_unknown(row["wanted_tokens_per_s"]); }, true, true},
        {"A REPLICA'S", [](const Json& row) { return or_unknown(row["replica_tokens_per_s"]); }, true, true},
        {"LENT GPUS", [](const Json& row) { return row["lent_gpus"].word(); }, true},
        {"TROUBLE", [](const Json& row) { return row["trouble"].text.empty() ? "-" : row["trouble"].text; }},
        {"ENDPOINTS", endpoints_of, false, true},
    };
}

namespace {
/// `2 GPUs, 0.5 CPUs, 1.0 GiB`: what a holder has of that which somebody waits for.
std::string amounts_of(const Json& holder) {
    std::string words;
    const auto add = [&](const std::string& amount) { words += (words.empty() ? "" : ", ") + amount; };
    for (const auto& [member, noun] : {std::pair{"gpus", "GPU"}, std::pair{"cpus", "CPU"}}) {
        const auto& count = holder[member];
        if (count.number > 0) add(fmt::format("{} {}{}", count.word(), noun, count.number == 1 ? "" : "s"));
    }
    if (holder["memory"].whole > 0) add(spoken_bytes(holder["memory"].whole));
    return words;
}
}  // namespace

void print_why(const Json& why) {
    const auto& state = why["state"].text;
    const auto after = [](const char* mark, const std::string& text) { return text.empty() ? text : mark + text; };
    const auto* verb = state == "succeeded" || state == "failed" ? "has" : "is";
    print_line("{} (job {}) {} {}{}", why["name"].text, why["id"].whole, verb, state, after(": ", why["detail"].text));
    if (state != "waiting") return;
    int number = 0;
    for (const auto& reason : why["reasons"].items) {
        print_line("  {}. {}{}", ++number, reason["message"].text, after("; ", reason["remedy"].text));
    }
    if (!why["holders"].items.empty()) print_line("  what it waits for is held by:");
    for (const auto& holder : why["holders"].items) {
        if (holder["id"].kind == Json::Kind::null) {
            print_line("    {}: {}", holder["name"].text, amounts_of(holder));
            continue;
        }
        print_line("    job {} {}: {}, {}, to end by {}", holder["id"].whole, holder["name"].text, amounts_of(holder),
                   holder["priority"].text, clock_of(holder["ends_by"].whole));
    }
    if (!why["starts_in"].text.empty())
        print_line("  it starts in {} at the latest, by the others' time limits", why["starts_in"].text);
}

std::string owner_of(const Json& job) {
    static std::map<std::int64_t, std::string> known;  // a long listing asks for the same few
    const auto [name, is_new] = known.try_emplace(job["owner"].whole);
    if (is_new) {
        const auto* entry = ::getpwuid(static_cast<uid_t>(job["owner"].whole));
        name->second = entry == nullptr ? "uid " + job["owner"].word() : entry->pw_name;
    }
    return name->second;
}

void print_job(const Json& job) {
    const auto line = [](std::string_view name, const std::string& value) {
        if (!value.empty()) print_line("{:<12} {}", name, value);
    };
    const auto when = [](const Json& at) { return at.kind == Json::Kind::number ? clock_of(at.whole) : std::string{}; };
    line("job", job["id"].word());
    line("name", job["name"].word());
    line("state", job["state"].word());
    line("reason", job["reason"].word());
    line("detail", job["detail"].word());
    line("kind", job["kind"].word());
    line("tenant", job["tenant"].word());
    line("owner", owner_of(job));
    line("class", job["priority"].word());
    const auto least = job["gpus_min"].word();
    const auto most = job["gpus_max"].word();
    line("gpus", job["gpus"].word() + (least == most ? "" : fmt::format(" (elastic: {}..{})", least, most)));
    line("nodes", job["nodes"].word());
    if (job["attempt"].whole > 0) {
        line("attempt", fmt::format("id {}, generation {}", job["attempt"].word(), job["generation"].word()));
    }
    line("failures", job["failures"].whole == 0 ? "" : job["failures"].word());
    line("recovered", job["recovered"].whole == 0 ? "" : job["recovered"].word());
    line("preempted", job["preempted"].whole == 0 ? "" : job["preempted"].word());
    if (job["charged_gpu_s"].number > 0)
        line("used", fmt::format("{:.2f} GPU-hours", job["charged_gpu_s"].number / 3600));
    if (job["lost_gpu_s"].number > 0) line("lost", fmt::format("{:.2f} GPU-hours", job["lost_gpu_s"].number / 3600));
    line("step", job["step"].whole < 0 ? "" : job["step"].word());
    line("exit status", job["exit_status"].word());
    const bool is_service = job["kind"].text == "service";  // which has none
    line("time limit", is_service ? "" : spoken_duration(job["time_limit_s"].whole * 1'000'000));
    line("submitted", when(job["submitted_at"]));
    line("started", when(job["started_at"]));
    line("ended", when(job["ended_at"]));
    const auto& launch = job["launch"];
    line("command", launch["argv"].items.empty() ? launch["shell"].word() : to_text(launch["argv"]));
    line("folder", launch["folder"].word());
    std::string swept;
    for (const auto& [name, value] : launch["sweep"].members) {
        swept += fmt::format("{}{}={}", swept.empty() ? "" : " ", name, value.text);
    }
    line("sweep", swept);
    line("runs as", launch["account"].word());
    line("sandbox", launch["sandbox"].word());
    for (const auto& endpoint : job["endpoints"].items) line("endpoint", endpoint_of(endpoint));
    for (const auto& reason : job["reasons"].items) {
        line("waits for", reason["message"].text + (reason["remedy"].text.empty() ? "" : "; " + reason["remedy"].text));
    }
}

void print_event_line(const Json& event) {
    static const std::set<std::string> instants{"planned_at", "limit", "gang_deadline", "settled",
                                                "not_before", "fresh", "started"};
    std::string rest;
    for (const auto& [name, value] : event.members) {
        if (name == "seq" || name == "at" || name == "type" || name == "cause" || name == "cause_seq") continue;
        const bool deep = value.kind == Json::Kind::object || value.kind == Json::Kind::list;
        const bool is_instant = value.kind == Json::Kind::number && value.whole > 0 && instants.contains(name);
        rest += fmt::format("{}{}={}", rest.empty() ? "" : " ", name,
                            deep                             ? to_text(value)
                            : is_instant                     ? '"' + clock_of(value.whole) + '"'
                            : value.kind == Json::Kind::null ? "-"
                                                             : value.word());
    }
    const auto at = event["at"].whole;
    print_line("{:>6}  {}.{:03}  {:<14} {:<14} {}", event["seq"].whole, clock_of(at), at / 1000 % 1000,
               event["type"].text, event["cause"].text, rest);
}

}  // namespace stargate::cli
