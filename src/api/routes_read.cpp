#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "api/follow.hpp"
#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "api/sentences.hpp"
#include "base/json_text.hpp"
#include "core/explain.hpp"

/// The routes that only look, and the few that answer without the writer.
namespace stargate::api {

namespace {

constexpr std::size_t default_rows = 1'000;
constexpr std::size_t most_rows = 100'000;  // some 50 MB of JSON: more than any table, less than memory

std::size_t row_limit(const Request& request, std::size_t most) {
    std::size_t limit = default_rows;
    const auto text = request.target.value("limit");
    std::from_chars(text.data(), text.data() + text.size(), limit);
    return std::clamp<std::size_t>(limit, 1, most);
}

Reply no_job(const std::string& reference) {
    return error_reply(404, "not_found", fmt::format("there is no job {}", reference), "list them: stargate jobs");
}

/// A list of JSON values under construction.
class Array {
public:
    explicit Array(std::string& out) : out_{out} { out_.push_back('['); }
    std::string& item() {
        if (!first_) out_.push_back(',');
        first_ = false;
        return out_;
    }
    void close() { out_.push_back(']'); }

private:
    std::string& out_;
    bool first_ = true;
};

std::optional<std::uint64_t> as_id(std::string_view text) {
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return id;
}

void append_reason(std::string& out, const State& state, const Refusal& why, const JobSpec& spec) {
    const auto sentence = sentence_of(state, why, &spec);
    out += fmt::format(R"({{"why":"{}","need":{},"have":{},"about":{},"message":)", name_of(why.why), why.need,
                       why.have, why.about);
    json_string(out, sentence.what);
    out += R"(,"remedy":)";
    json_string(out, sentence.action);
    out += "}";
}

void append_launch(std::string& out, const Launch& launch) {
    out += R"({"argv":)";
    json_text(out, launch.argv);
    out += R"(,"shell":)";
    json_string(out, launch.shell);
    out += R"(,"folder":)";
    json_string(out, launch.folder);
    out += R"(,"account":)";
    json_string(out, launch.account.name);
    out += fmt::format(R"(,"sandbox":"{}","output_limit":{},"mounts":)",
                       launch.sandbox == Sandbox::standard ? "default" : name_of(launch.sandbox),
                       launch.output_limit.count());
    json_text(out, launch.mounts);
    out += R"(,"checkpoint_folder":)";
    json_string(out, launch.checkpoint_folder);
    out += "}";  // the environment may hold secrets: it is for the job alone
}

}  // namespace

Response Api::jobs(const Request& request) {
    const auto limit = row_limit(request, most_rows);
    const bool only_active = request.target.is_set("active");
    const auto name = request.target.value("name");
    const auto wanted = from_name<JobState>(request.target.value("state"));
    if (!wanted && !request.target.value("state").empty()) {
        return error_reply(422, "malformed", "state: no such state", "docs/api.md lists them");
    }
    Reply reply;
    reply.body.reserve(limit * 480);
    Array rows{reply.body};
    std::size_t count = 0;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const auto take = [&](const Job& job) {
            if (only_active && std::holds_alternative<Finished>(job.phase)) return true;
            if (wanted && state_of(state, job) != *wanted) return true;
            const auto& spec = state.spec_of(job);
            if (!name.empty() && spec.name != name && label_of(state, job) != name) return true;
            if (!may_see(request.caller, state, spec.tenant)) return true;
            append_job(rows.item(), state, job);
            return ++count < limit;
        };
        state.table<Job>().for_each_newest(take);
    });
    if (count < limit && !only_active) {
        const auto retired = control_.retired(limit - count);
        if (!retired) return error_reply(503, "unavailable", retired.error().detail, "try again in a moment");
        control_.read([&](const State& state, Instant, std::uint64_t) {
            for (const auto& job : *retired) {
                if (!name.empty() && job.spec.name != name) continue;
                if (!may_see(request.caller, state, job.spec.tenant)) continue;
                const auto* finished = std::get_if<Finished>(&job.job.phase);
                if (wanted && (finished == nullptr || name_of(finished->outcome) != name_of(*wanted))) continue;
                append_retired(rows.item(), state, job);
            }
        });
    }
    rows.close();
    reply.body.push_back('\n');
    return reply;
}

Response Api::job(const Request& request) {
    const auto& reference = request.target.path[3];
    Reply reply;
    JobId id;
    control_.read([&](const State& state, Instant now, std::uint64_t) {
        const auto found = job_of(state, reference);
        if (!found || !may_see(request.caller, state, state.spec_of(state.at<Job>(*found)).tenant)) return;
        id = *found;
        const auto& job = state.at<Job>(id);
        append_job(reply.body, state, job);
        reply.body.back() = ',';  // its brace: more members follow
        reply.body += R"("spec":)";
        json_text(reply.body, state.spec_of(job));
        reply.body += R"(,"reasons":)";
        Array reasons{reply.body};
        for (const auto& why : explain(state, now, id)) append_reason(reasons.item(), state, why, state.spec_of(job));
        reasons.close();
    });
    if (!id) {
        const auto number = as_id(reference);
        const auto retired = number ? control_.find_retired(JobId{*number}) : std::optional<RetiredJob>{};
        if (!retired || !*retired) return no_job(reference);
        control_.read(
            [&](const State& state, Instant, std::uint64_t) { append_retired(reply.body, state, **retired); });
        reply.body.push_back('\n');
        return reply;
    }
    reply.body += R"(,"launch":)";
    if (const auto launch = control_.launch_of(id)) {
        append_launch(reply.body, *launch);
    } else {
        reply.body += "null";
    }
    reply.body += "}\n";
    return reply;
}

Response Api::why(const Request& request) {
    const auto& reference = request.target.path[3];
    Reply reply;
    auto& out = reply.body;
    control_.read([&](const State& state, Instant now, std::uint64_t) {
        const auto id = job_of(state, reference);
        if (!id) return;
        const auto& job = state.at<Job>(*id);
        const auto& spec = state.spec_of(job);
        if (!may_see(request.caller, state, spec.tenant)) return;
        out += fmt::format(R"({{"id":{},"name":)", id->value);
        json_string(out, label_of(state, job));
        out += fmt::format(R"(,"state":"{}","reasons":)", name_of(state_of(state, job)));
        Array reasons{out};
        if (std::holds_alternative<Waiting>(job.phase)) {
            auto all = explain(state, now, *id);
            const auto recorded = recorded_reason(state, job);
            if (all.empty() && recorded.why != Why::none) all.push_back(recorded);
            if (all.empty()) all.push_back({});
            for (const auto& why : all) append_reason(reasons.item(), state, why, spec);
        }
        reasons.close();
        out += R"(,"holders":)";
        Array held{out};
        if (std::holds_alternative<Waiting>(job.phase)) {
            constexpr std::size_t shown = 10;
            for (const auto& holder : holders(state, spec.gpu_types, shown)) {
                const auto& other = state.at<Job>(holder.job);
                const auto& theirs = state.spec_of(other);
                if (!may_see(request.caller, state, theirs.tenant)) continue;
                held.item() += fmt::format(R"({{"id":{},"gpus":{},"owner":{},"priority":"{}","name":)",
                                           holder.job.value, holder.gpus, theirs.owner, name_of(theirs.priority));
                json_string(out, label_of(state, other));
                const auto& attempt = state.at<Attempt>(std::get<Active>(other.phase).attempt);
                out += fmt::format(R"(,"ends_by":{}}})", attempt.limit.time_since_epoch().count());
            }
        }
        held.close();
        const auto* reservation = state.find<Reservation>(*id);
        const auto* claim = state.find<Claim>(*id);
        const auto starts_by = claim != nullptr         ? claim->deadline
                               : reservation != nullptr ? reservation->at
                                                        : Instant{};
        if (starts_by == Instant{}) {
            out += R"(,"starts_by":null)";
        } else {
            out += fmt::format(R"(,"starts_by":{},"starts_in":"{}")", starts_by.time_since_epoch().count(),
                               spoken(starts_by - now));
        }
        out += R"(,"detail":)";
        const auto* finished = std::get_if<Finished>(&job.phase);
        json_string(out, finished == nullptr ? "" : finished->detail);
        out += "}\n";
    });
    if (out.empty()) return no_job(reference);
    return reply;
}

Response Api::logs(const Request& request) {
    const auto& reference = request.target.path[3];
    std::optional<JobId> id;
    std::uint32_t owner = 0;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        id = job_of(state, reference);
        if (!id) return;
        const auto& spec = state.spec_of(state.at<Job>(*id));
        owner = spec.owner;
        if (!may_see(request.caller, state, spec.tenant)) id.reset();
    });
    if (const auto number = as_id(reference); !id && number) {
        const auto retired = control_.find_retired(JobId{*number});
        if (retired && *retired) {
            id = JobId{*number};
            owner = (*retired)->spec.owner;
        }
    }
    if (!id) return no_job(reference);
    if (!may_act(request.caller, owner)) {
        return error_reply(403, "denied", "this job's output is its owner's", "ask its owner or an operator");
    }
    FollowOptions options;
    options.until_end = request.target.is_set("follow");
    options.framing = request.target.is_set("frames") ? Framing::frames : Framing::plain;
    options.attempt = AttemptId{as_id(request.target.value("attempt")).value_or(0)};
    options.resume = request.target.value("resume");
    return follow_jobs(control_, *id, 1, options);
}

namespace {
/// What keeps work off a node, as JSON.
std::string reason_of(const Node& node) {
    if (node.reach != Reach::up) return R"("it does not answer")";
    if (node.draining) return R"("drained by an operator")";
    if (node.foreign_running == 0) return "null";
    return fmt::format(R"("{} attempts run here that this state does not know; they keep {} GPUs until they end")",
                       node.foreign_running, std::popcount(node.foreign), node.foreign_running);
}
}  // namespace

Response Api::fleet(const Request&) {
    Reply reply;
    auto& out = reply.body;
    Array rows{out};
    control_.read([&](const State& state, Instant, std::uint64_t) {
        state.table<Node>().for_each([&](const Node& node) {
            rows.item() += fmt::format(R"({{"id":{},"name":)", node.id.value);
            json_string(out, node.shape.name);
            const auto free = node.takes_work() ? std::popcount(node.free()) : 0;
            out += fmt::format(
                R"(,"state":"{}","reason":{},"gpu_type":"{}","gpus":{},"gpus_free":{},"gpus_leased":{},"gpus_claimed":{},"gpus_foreign":{},"foreign_running":{})",
                node.reach != Reach::up ? name_of(node.reach)
                : node.draining         ? "draining"
                                        : "up",
                reason_of(node), state.settings().gpu_types[node.shape.gpu_type], node.shape.gpus.count(), free,
                std::popcount(node.leased), std::popcount(node.claimed), std::popcount(node.foreign),
                node.foreign_running);
            out +=
                fmt::format(R"(,"cpus":{},"cpus_leased":{},"memory":{},"memory_leased":{},"rack":{},"pod":{},"jobs":)",
                            static_cast<double>(node.shape.cpus.count()) / 1000,
                            static_cast<double>(node.cpus_leased.count()) / 1000, node.shape.memory.count(),
                            node.memory_leased.count(), node.shape.rack, node.shape.pod);
            Array jobs{out};
            for (const auto attempt : state.attempts_on(node.id)) {
                jobs.item() += std::to_string(state.at<Attempt>(attempt).job.value);
            }
            jobs.close();
            out += "}";
        });
    });
    rows.close();
    out.push_back('\n');
    return reply;
}

Response Api::tenants(const Request& request) {
    Reply reply;
    auto& out = reply.body;
    Array rows{out};
    control_.read([&](const State& state, Instant, std::uint64_t) {
        state.table<TenantRow>().for_each([&](const TenantRow& row) {
            if (!may_see(request.caller, state, row.tenant.id)) return;
            rows.item() += fmt::format(R"({{"id":{},"name":)", row.tenant.id.value);
            json_string(out, row.tenant.name);
            out += fmt::format(
                R"(,"quota":{},"used":{},"charged_gpu_s":{},"weight":{},"priorities":)",
                row.tenant.quota < 0 ? "null" : fmt::format("{}", static_cast<double>(row.tenant.quota) / 1000),
                static_cast<double>(row.used) / 1000, row.charged / 1000, row.tenant.weight);
            Array classes{out};
            for (std::size_t c = 0; c < priority_classes; ++c) {
                const auto priority = static_cast<PriorityClass>(c);
                if ((row.tenant.may_use & bit_of(priority)) != 0) json_string(classes.item(), name_of(priority));
            }
            classes.close();
            out += "}";
        });
    });
    rows.close();
    out.push_back('\n');
    return reply;
}

Response Api::events(const Request& request) {
    const auto from = as_id(request.target.value("from", "1"));
    if (!from) return error_reply(422, "malformed", "from: no whole number", "give the seq to begin with");
    const bool server_sent = request.accept.find("text/event-stream") != std::string::npos;
    if (server_sent || request.target.is_set("follow")) {
        return follow_facts(control_, *from, server_sent ? EventFormat::server_sent : EventFormat::lines);
    }
    const bool lines = request.target.value("format") == "jsonl" || request.accept.find("jsonl") != std::string::npos;
    constexpr std::size_t most_facts = 10'000;  // in one reply; the next one goes on after the last seq
    Reply reply;
    auto& out = reply.body;
    bool first = true;
    if (!lines) out += "[";
    const auto read = control_.read_facts(*from, row_limit(request, most_facts), [&](const LoggedFact& fact) {
        if (!first && !lines) out += ",";
        first = false;
        append_fact(out, fact);
        if (lines) out += "\n";
    });
    if (!read) return error_reply(503, "unavailable", read.error().detail, "try again in a moment");
    out += lines ? "" : "]\n";
    if (lines) reply.type = "application/jsonl";
    return reply;
}

Response Api::event_types(const Request&) {
    Reply reply;
    Array types{reply.body};
    for (const auto name : fact_names) json_string(types.item(), name);
    types.close();
    reply.body.push_back('\n');
    return reply;
}

Response Api::whoami(const Request& request) {
    const auto account = account_for(request.caller);
    std::string body = fmt::format(R"({{"uid":{},"operator":{},"tenant":"default","runs_as":)", request.caller.uid,
                                   request.caller.is_operator);
    json_string(body, account ? account->name : "");
    return Reply{200, body + "}\n"};
}

Response Api::info(const Request&) {
    const auto figures = control_.figures();
    std::string body = R"({"version":)";
    json_string(body, setting_.version);
    body += R"(,"incarnation":)";
    json_string(body, figures.incarnation);
    body += fmt::format(R"(,"term":{},"last_fact":{},"pid":{},"foreign_attempts":{},"store_bytes":{},"read_only":)",
                        figures.term, figures.last_fact, getpid(), figures.foreign_attempts, figures.store_bytes);
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
    one("stargate_read_only", "gauge", "1 while the store cannot be written.", figures.read_only.empty() ? 0 : 1);
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

Response Api::make_token(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "tokens are made by operators", "ask an operator");
    }
    const auto body = parse_json(request.body.empty() ? "{}" : request.body);
    if (!body) return error_reply(422, "malformed", body.error().detail, "send {\"name\": NAME}");
    const auto name = (*body)["name"].text.empty() ? std::string{"token"} : (*body)["name"].text;
    const bool fits =
        name.size() <= 63 && std::none_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c == 0x7F; });
    if (!fits) return error_reply(422, "malformed", "name: not one short word", "send {\"name\": NAME}");
    auto uid = request.caller.uid;
    if (const auto* given = body->find("uid"); given != nullptr) {
        if (given->kind != Json::Kind::number || given->whole < 0 || given->whole > 0xFFFFFFFEL) {
            return error_reply(422, "malformed", "uid: no user's number", "leave it out, or give one");
        }
        uid = static_cast<std::uint32_t>(given->whole);
    }
    const auto token = tokens_.make(name, uid, (*body)["operator"].boolean);
    if (!token) return error_reply(507, "store_full", token.error().detail, "free disk space, then try again");
    return Reply{201, fmt::format("{{\"token\":\"{}\"}}\n", *token)};
}

Response Api::shut_down(const Request& request) {
    if (!request.caller.is_operator) {
        return error_reply(403, "denied", "the control plane is taken down by operators", "ask an operator");
    }
    const auto body = parse_json(request.body.empty() ? "{}" : request.body);
    const bool ends = body && (*body)["jobs"].boolean;
    control_.shut_down(ends ? RunningWork::ends : RunningWork::goes_on);
    return Reply{202, fmt::format("{{\"pid\":{}}}\n", getpid())};
}

void append_metrics(std::string& out, const State& state) {
    std::array<std::int64_t, 8> by_state{};
    by_state[static_cast<std::size_t>(JobState::waiting)] = state.waiting();
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        ++by_state[static_cast<std::size_t>(state_of(state, state.at<Job>(attempt.job)))];
    });
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
