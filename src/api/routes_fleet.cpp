#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "api/follow.hpp"
#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/query.hpp"
#include "api/routes.hpp"
#include "base/json_text.hpp"
#include "core/serving.hpp"

/// The routes that look at the whole: nodes, tenants, the log, figures.
namespace stargate::api {

namespace {
/// What keeps work off a node, as JSON.
std::string reason_of(const Node& node) {
    if (node.reach != Reach::up) return R"("it does not answer")";
    if (node.draining) return R"("drained by an operator")";
    if (node.foreign_running == 0) return "null";
    const auto gpus = std::popcount(node.foreign);
    const auto kept = fmt::format("{} GPU{}", gpus, gpus == 1 ? "" : "s");
    if (node.foreign_running == 1) {
        return fmt::format(R"("1 attempt runs here that this state does not know; it keeps {} until it ends")", kept);
    }
    return fmt::format(R"("{} attempts run here that this state does not know; they keep {} until they end")",
                       node.foreign_running, kept);
}
}  // namespace

Response Api::fleet(const Request& request) {
    Reply reply;
    auto& out = reply.body;
    JsonList rows{out};
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        state.table<Node>().for_each([&](const Node& node) {
            rows.item() += fmt::format(R"({{"id":{},"name":)", node.id.value);
            json_string(out, node.shape.name);
            const auto free = node.takes_work() ? std::popcount(node.free()) : 0;
            out += fmt::format(
                R"(,"state":"{}","reason":{},"gpu_type":"{}","gpus":{},"gpus_free":{},"gpus_leased":{},"gpus_claimed":{},"gpus_foreign":{},"foreign_running":{},"cpus_foreign":{},"memory_foreign":{})",
                node.reach != Reach::up ? name_of(node.reach)
                : node.draining         ? "draining"
                                        : "up",
                reason_of(node), state.settings().gpu_types[node.shape.gpu_type], node.shape.gpus.count(), free,
                std::popcount(node.leased), std::popcount(node.claimed), std::popcount(node.foreign),
                node.foreign_running, static_cast<double>(node.cpus_foreign.count()) / 1000,
                node.memory_foreign.count());
            out +=
                fmt::format(R"(,"cpus":{},"cpus_leased":{},"memory":{},"memory_leased":{},"rack":{},"pod":{},"jobs":)",
                            static_cast<double>(node.shape.cpus.count()) / 1000,
                            static_cast<double>(node.cpus_leased.count()) / 1000, node.shape.memory.count(),
                            node.memory_leased.count(), node.shape.rack, node.shape.pod);
            JsonList jobs{out};
            for (const auto attempt : state.attempts_on(node.id)) {
                const auto job = state.at<Attempt>(attempt).job;
                if (sight.may_see(state.spec_of(state.at<Job>(job)))) jobs.item() += std::to_string(job.value);
            }
            jobs.close();
            out += "}";
        });
    });
    rows.close();
    out.push_back('\n');
    return reply;
}

namespace {
/// What a tenant may hold in fact: the smallest quota from it up to the root; -1: no limit.
std::int64_t limit_of(const State& state, TenantId tenant) {
    std::int64_t limit = -1;
    for_each_tenant(state, tenant, [&](TenantId id) {
        const auto quota = state.at<TenantRow>(id).tenant.quota;
        if (quota >= 0 && (limit < 0 || quota < limit)) limit = quota;
    });
    return limit;
}

/// Its own members, or those of the nearest tenant above that has any: nobody else may use it. None: everybody may.
const std::vector<Member>& users_of(const State& state, const Tenant& tenant) {
    const auto* above = state.find<TenantRow>(tenant.parent);
    return tenant.members.empty() && above != nullptr ? users_of(state, above->tenant) : tenant.members;
}

std::string quota_json(std::int64_t milli_gpus) {
    return milli_gpus < 0 ? "null" : fmt::format("{}", static_cast<double>(milli_gpus) / 1000);
}

void append_names(std::string& out, const std::vector<Member>& members) {
    JsonList names{out};
    for (const auto& member : members) json_string(names.item(), member.name);
    names.close();
}
}  // namespace

Response Api::tenants(const Request& request) {
    Reply reply;
    auto& out = reply.body;
    JsonList rows{out};
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        state.table<TenantRow>().for_each([&](const TenantRow& row) {
            if (!sight.may_use(row.tenant.id)) return;
            rows.item() += fmt::format(R"({{"id":{},"name":)", row.tenant.id.value);
            json_string(out, row.tenant.name);
            out += fmt::format(R"(,"quota":{},"limit":{},"used":{},"charged_gpu_s":{},"weight":{},"priorities":)",
                               quota_json(row.tenant.quota), quota_json(limit_of(state, row.tenant.id)),
                               static_cast<double>(row.used) / 1000, row.charged / 1000, row.tenant.weight);
            JsonList classes{out};
            for (std::size_t c = 0; c < priority_classes; ++c) {
                const auto priority = static_cast<PriorityClass>(c);
                if ((row.tenant.may_use & bit_of(priority)) != 0) json_string(classes.item(), name_of(priority));
            }
            classes.close();
            out += R"(,"members":)";
            append_names(out, row.tenant.members);
            out += R"(,"users":)";
            append_names(out, users_of(state, row.tenant));
            out += "}";
        });
    });
    rows.close();
    out.push_back('\n');
    return reply;
}

Response Api::events(const Request& request) {
    const auto from = whole_in_query(request.target, "from", 1);
    const auto limit = whole_in_query(request.target, "limit", default_rows);
    const bool server_sent = request.accept.find("text/event-stream") != std::string::npos;
    if (server_sent || request.target.is_set("follow")) {
        return follow_facts(control_, request.caller, from,
                            server_sent ? EventFormat::server_sent : EventFormat::lines);
    }
    if (request.target.value("format") == "jsonl" || request.accept.find("jsonl") != std::string::npos) {
        return follow_facts(control_, request.caller, from, EventFormat::lines, limit);
    }
    constexpr std::uint64_t most_facts = 10'000;  // in one array
    if (limit > most_facts) return not_in_range("limit", request.target.value("limit"), 1, most_facts);
    return whole_or_rest(follow_facts(control_, request.caller, from, EventFormat::list, limit));
}

Response Api::event_types(const Request&) {
    Reply reply;
    JsonList types{reply.body};
    for (const auto name : fact_names) json_string(types.item(), name);
    types.close();
    reply.body.push_back('\n');
    return reply;
}

void Api::whoami(const Request& request, const Finish& finish) {
    const auto caller = request.caller;
    with_account(caller, finish, [=, this](const Result<Account>& account) {
        std::string body = fmt::format(R"({{"uid":{},"operator":{},"runs_as":)", caller.uid, caller.is_operator);
        json_string(body, account ? account->name : "");
        body += R"(,"tenants":)";
        JsonList tenants{body};
        control_.read([&](const State& state, Instant, std::uint64_t) {
            const Sight sight{caller, state};
            state.table<TenantRow>().for_each([&](const TenantRow& row) {
                if (sight.may_use(row.tenant.id)) json_string(tenants.item(), row.tenant.name);
            });
        });
        tenants.close();
        finish(Reply{200, body + "}\n"});
    });
}

Response Api::info(const Request&) {
    const auto figures = control_.figures();
    std::string body = R"({"version":)";
    json_string(body, setting_.version);
    body += R"(,"incarnation":)";
    json_string(body, figures.incarnation);
    body += fmt::format(
        R"(,"term":{},"first_fact":{},"last_fact":{},"pid":{},"foreign_attempts":{},"store_bytes":{},"read_only":)",
        figures.term, figures.first_fact, figures.last_fact, getpid(), figures.foreign_attempts, figures.store_bytes);
    json_string(body, figures.read_only);
    return Reply{200, body + "}\n"};
}

Response Api::metrics(const Request&) {
    Reply reply;
    reply.type = "text/plain; version=0.0.4; charset=utf-8";
    auto& out = reply.body;
    control_.read([&](const State& state, Instant, std::uint64_t) { append_metrics(out, state); });
    const auto figures = control_.figures();
    const auto one = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
        out += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n{0} {3}\n", name, type, help, value);
    };
    one("stargate_facts_total", "counter", "Facts committed, ever.", figures.last_fact);
    one("stargate_term", "gauge", "Leadership in office: rises with every start.", figures.term);
    one("stargate_commits_total", "counter", "Batches committed since the start.", figures.commits);
    one("stargate_commit_seconds_sum", "counter", "Time spent in commits since the start.",
        static_cast<double>(figures.commit_us_sum) / 1e6);
    one("stargate_commit_seconds_max", "gauge", "Longest commit since the start.",
        static_cast<double>(figures.commit_us_max) / 1e6);
    one("stargate_store_bytes", "gauge", "Size of the store, -1 when not known.", figures.store_bytes);
    one("stargate_read_only", "gauge", "1 while the disk of the state is full and no new work is taken.",
        figures.read_only.empty() ? 0 : 1);
    one("stargate_foreign_attempts", "gauge", "Work found that the store does not know.", figures.foreign_attempts);
    one("stargate_http_connections", "gauge", "Connections open now.", figures_.connections);
    one("stargate_http_turned_away_total", "counter", "Connections over the limit.", figures_.turned_away);
    out += "# HELP stargate_http_requests_total Requests answered.\n# TYPE stargate_http_requests_total counter\n";
    for (const auto& [status, count] : figures_.replies) {
        out += fmt::format("stargate_http_requests_total{{status=\"{}\"}} {}\n", status, count);
    }
    out += fmt::format(
        "# HELP stargate_build_info What runs.\n# TYPE stargate_build_info gauge\n"
        "stargate_build_info{{version=\"{}\"}} 1\n",
        setting_.version);
    return reply;
}

void append_metrics(std::string& out, const State& state) {
    std::array<std::int64_t, 8> by_state{};
    by_state[static_cast<std::size_t>(JobState::waiting)] = state.waiting();
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        ++by_state[static_cast<std::size_t>(state_of(state, state.at<Job>(attempt.job)))];
    });
    by_state[static_cast<std::size_t>(JobState::running)] += static_cast<std::int64_t>(routed_services(state).size());
    for (const auto& [at, job] : state.finished()) {
        ++by_state[static_cast<std::size_t>(state_of(state, state.at<Job>(job)))];
    }
    out +=
        "# HELP stargate_jobs Jobs by state; ended ones until they retire to the history.\n# TYPE stargate_jobs "
        "gauge\n";
    for (std::size_t i = 0; i < by_state.size(); ++i) {
        out += fmt::format("stargate_jobs{{state=\"{}\"}} {}\n", name_of(static_cast<JobState>(i)), by_state[i]);
    }
    const auto& types = state.settings().gpu_types;
    std::vector<std::int64_t> total(types.size()), leased(types.size()), nodes(types.size());
    state.table<Node>().for_each([&](const Node& node) {
        total[node.shape.gpu_type] += node.shape.gpus.count();
        leased[node.shape.gpu_type] += std::popcount(node.leased);
        ++nodes[node.shape.gpu_type];
    });
    out +=
        "# HELP stargate_gpus GPUs by type and use; free ones are on nodes that take work.\n# TYPE stargate_gpus "
        "gauge\n";
    for (std::size_t i = 0; i < types.size(); ++i) {
        out += fmt::format(
            "stargate_gpus{{type=\"{0}\",use=\"total\"}} {1}\nstargate_gpus{{type=\"{0}\",use=\"leased\"}} {2}\n"
            "stargate_gpus{{type=\"{0}\",use=\"free\"}} {3}\n",
            types[i], total[i], leased[i], state.free_gpus(GpuTypeBits{1} << i));
    }
    out += "# HELP stargate_nodes Nodes by GPU type.\n# TYPE stargate_nodes gauge\n";
    for (std::size_t i = 0; i < types.size(); ++i) {
        out += fmt::format("stargate_nodes{{type=\"{}\"}} {}\n", types[i], nodes[i]);
    }
    out += "# HELP stargate_jobs_submitted_total Jobs accepted, ever.\n# TYPE stargate_jobs_submitted_total counter\n";
    out += fmt::format("stargate_jobs_submitted_total {}\n", state.counters().jobs);
}

}  // namespace stargate::api
