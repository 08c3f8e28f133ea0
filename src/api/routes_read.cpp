#include <fmt/format.h>

#include <algorithm>

#include "api/follow.hpp"
#include "api/history.hpp"
#include "api/holders.hpp"
#include "api/job_list.hpp"
#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/query.hpp"
#include "api/references.hpp"
#include "api/routes.hpp"
#include "api/sentences.hpp"
#include "base/json_text.hpp"
#include "core/explain.hpp"
#include "core/serving.hpp"

/// The routes that look at jobs.
namespace stargate::api {

namespace {

void append_reason(std::string& out, const Sight& sight, const Refusal& why, const JobSpec& spec, JobId job) {
    const auto sentence = sentence_of(sight, why, {&spec, nullptr, job});
    const auto* other = is_about_a_job(why.why) ? sight.state().find<Job>(JobId{why.about}) : nullptr;
    const bool is_hidden = other != nullptr && !sight.may_see(sight.state().spec_of(*other));
    out += fmt::format(R"({{"why":"{}","need":{},"have":{},"about":{},"message":)", name_of(why.why), why.need,
                       why.have, is_hidden ? 0 : why.about);
    json_string(out, sentence.what);
    out += R"(,"remedy":)";
    json_string(out, sentence.action);
    out += "}";
}

/// How it is run, as its owner and operators may see it.
void append_launch(std::string& out, const Launch& launch, std::int32_t task) {
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
    out += R"(,"sweep":{)";
    for (const auto& [name, value] : launch.swept(task)) {
        if (out.back() != '{') out.push_back(',');
        json_string(out, name);
        out.push_back(':');
        json_string(out, value);
    }
    out += "}}";  // the environment may hold secrets: it is for the job alone
}

}  // namespace

Response Api::jobs(const Request& request) {
    JobFilter filter;
    filter.only_active = request.target.is_set("active");
    if (request.target.is_set("mine")) filter.owner = request.caller.uid;
    filter.name = request.target.value("name");
    filter.state = from_name<JobState>(request.target.value("state"));
    const auto limit = whole_in_query(request.target, "limit", default_rows);
    return whole_or_rest(list_jobs(control_, request.caller, std::move(filter), limit));
}

namespace {

/// What of the history is asked for; nothing where its tenant is not there for the caller.
std::optional<HistoryFilter> history_filter(const Control& control, const Request& request) {
    HistoryFilter filter;
    const auto instant = [&](std::string_view name, Instant otherwise) {
        const auto at = whole_number(request.target.value(name));
        return at ? Instant{Duration{static_cast<std::int64_t>(*at)}} : otherwise;
    };
    filter.since = instant("since", filter.since);
    filter.until = instant("until", filter.until);
    if (const auto owner = whole_number(request.target.value("owner"))) {
        filter.owner = static_cast<std::uint32_t>(*owner);
    }
    filter.tenant = request.target.value("tenant");
    bool is_there = filter.tenant.empty();
    control.read([&](const State& state, Instant, std::uint64_t) {
        const auto tenant = state.tenant_named(filter.tenant);
        is_there = is_there || (tenant && Sight{request.caller, state}.may_use(*tenant));
    });
    return is_there ? std::optional{filter} : std::nullopt;
}

Reply no_tenant(const Request& request) {
    return error_reply(404, "not_found", fmt::format("there is no tenant `{}`", request.target.value("tenant")),
                       "list them: stargate tenants");
}

}  // namespace

Response Api::history(const Request& request) {
    auto filter = history_filter(control_, request);
    if (!filter) return no_tenant(request);
    const auto limit = whole_in_query(request.target, "limit", default_rows);
    return whole_or_rest(list_history(control_, request.caller, std::move(*filter), limit));
}

Response Api::usage_of_jobs(const Request& request) {
    auto filter = history_filter(control_, request);
    if (!filter) return no_tenant(request);
    return whole_or_rest(sum_history(control_, request.caller, std::move(*filter)));
}

Response Api::job(const Request& request) {
    const auto& reference = request.target.path[3];
    Reply reply;
    Named named;
    std::optional<JobId> id;
    bool may_act = false;
    bool is_elsewhere = false;  // nothing of it is run here
    std::int32_t task = 0;
    control_.read([&](const State& state, Instant now, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        id = one_of(state, named.jobs);
        if (!id) return;
        const auto& job = state.at<Job>(*id);
        const auto& spec = state.spec_of(job);
        may_act = sight.may_act(spec);
        task = job.task;
        append_job(reply.body, state, job);
        reply.body.back() = ',';  // its brace: more members follow
        reply.body += R"("spec":)";
        json_text(reply.body, spec);
        reply.body += R"(,"reasons":)";
        JsonList reasons{reply.body};
        for (const auto& why : explain(state, now, *id)) append_reason(reasons.item(), sight, why, spec, *id);
        reasons.close();
        is_elsewhere = is_external(state, job);
        if (!is_elsewhere || std::holds_alternative<Finished>(job.phase)) return;
        reply.body += R"(,"endpoints":)";
        append_endpoints(reply.body, state.at<Service>(job.spec), setting_.look_at_endpoints);
    });
    if (!named.rivals.empty()) return ambiguous(reference, named.rivals);
    if (!id) {
        const auto retired = retired_of(control_, request.caller, reference);
        if (!retired) return failure_reply(retired.error());
        if (!*retired) return no_job(reference);
        control_.read(
            [&](const State& state, Instant, std::uint64_t) { append_retired(reply.body, state, **retired); });
        reply.body.push_back('\n');
        return reply;
    }
    reply.body += R"(,"launch":)";
    const auto launch = may_act && !is_elsewhere ? control_.launch_of(*id) : fail(Fault::denied, "");
    if (launch) {
        append_launch(reply.body, *launch, task);
    } else {
        reply.body += "null";
    }
    reply.body += "}\n";
    return reply;
}

namespace {

void append_amounts(std::string& out, const Holder& holder) {
    out += R"("gpus":)";
    append_milli(out, holder.milli_gpus);
    out += R"(,"cpus":)";
    append_milli(out, holder.cpus.count());
    out += fmt::format(R"(,"memory":{})", holder.memory.count());
}

/// A holder that is no job, or none to be named.
void append_nobody(std::string& out, const Holder& holder, std::string_view name) {
    out += R"({"id":null,)";
    append_amounts(out, holder);
    out += R"(,"owner":null,"priority":null,"name":)";
    json_string(out, name);
    out += R"(,"ends_by":null})";
}

std::string foreign_words(const Node& node) {
    return fmt::format("{} attempt{} on node {}, which this state does not know", node.foreign_running,
                       node.foreign_running == 1 ? "" : "s", node.shape.name);
}

/// Who holds what the job lacks: those that the caller may see, the others as one.
void append_holders(std::string& out, const Sight& sight, JobId job, const std::vector<Refusal>& reasons) {
    constexpr std::size_t shown = 10;
    const auto& state = sight.state();
    Holder others;
    bool any_others = false;
    JsonList held{out};
    for (const auto& holder : holders(state, job, reasons, shown)) {
        if (!holder.job) {
            append_nobody(held.item(), holder, foreign_words(state.at<Node>(holder.node)));
            continue;
        }
        const auto& other = state.at<Job>(holder.job);
        const auto& theirs = state.spec_of(other);
        if (!sight.may_see(theirs)) {
            any_others = true;
            others.milli_gpus += holder.milli_gpus;
            others.cpus += holder.cpus;
            others.memory += holder.memory;
            continue;
        }
        held.item() += fmt::format(R"({{"id":{},)", holder.job.value);
        append_amounts(out, holder);
        out += fmt::format(R"(,"owner":{},"priority":"{}","name":)", theirs.owner, name_of(theirs.priority));
        json_string(out, label_of(state, other));
        const auto& attempt = state.at<Attempt>(std::get<Active>(other.phase).attempt);
        out += attempt.limit == never ? R"(,"ends_by":null})"
                                      : fmt::format(R"(,"ends_by":{}}})", attempt.limit.time_since_epoch().count());
    }
    if (any_others) append_nobody(held.item(), others, "another tenant");
    held.close();
}

/// When the job has a claim or a reservation: the instant that it can count on.
void append_start(std::string& out, const State& state, Instant now, JobId id) {
    const auto* reservation = state.find<Reservation>(id);
    const auto* claim = state.find<Claim>(id);
    const auto starts_by = claim != nullptr ? claim->deadline : reservation != nullptr ? reservation->at : Instant{};
    if (starts_by == Instant{}) {
        out += R"(,"starts_by":null)";
    } else {
        out += fmt::format(R"(,"starts_by":{},"starts_in":"{}")", starts_by.time_since_epoch().count(),
                           spoken(starts_by - now));
    }
}

/// `is_full`: the disk of the state, so that nothing starts whatever else is free.
void append_why(std::string& out, const Sight& sight, Instant now, JobId id, bool is_full,
                const LookAtEndpoints& look) {
    const auto& state = sight.state();
    const auto& job = state.at<Job>(id);
    const auto& spec = state.spec_of(job);
    out += fmt::format(R"({{"id":{},"name":)", id.value);
    json_string(out, label_of(state, job));
    out += fmt::format(R"(,"state":"{}","reasons":)", name_of(state_of(state, job)));
    std::vector<Refusal> all;
    if (std::holds_alternative<Waiting>(job.phase)) {
        all = explain(state, now, id);
        const auto recorded = recorded_reason(state, job);
        if (all.empty() && recorded.why != Why::none && !is_full) all.push_back(recorded);
        if (is_full) all.insert(all.begin(), {Why::read_only});
        if (all.empty()) all.push_back({});
    }
    JsonList reasons{out};
    for (const auto& why : all) append_reason(reasons.item(), sight, why, spec, id);
    reasons.close();
    out += R"(,"holders":)";
    append_holders(out, sight, id, all);
    append_start(out, state, now, id);
    out += R"(,"detail":)";
    const auto* finished = std::get_if<Finished>(&job.phase);
    const bool is_routed = std::holds_alternative<Routed>(job.phase);
    json_string(out, is_routed             ? endpoints_in_words(state.at<Service>(job.spec), look)
                     : finished == nullptr ? trouble_of(state, job)
                                           : finished->detail);
    out += "}\n";
}

/// Of a job of the history all that is left to say is how it ended.
void append_why(std::string& out, const RetiredJob& job) {
    const auto* finished = std::get_if<Finished>(&job.job.phase);
    out += fmt::format(R"({{"id":{},"name":)", job.job.id.value);
    json_string(out, label_of(job));
    out += fmt::format(R"(,"state":"{}","reasons":[],"holders":[],"starts_by":null,"detail":)",
                       finished == nullptr ? "failed" : name_of(finished->outcome));
    json_string(out, finished == nullptr ? "" : finished->detail);
    out += "}\n";
}

}  // namespace

Response Api::why(const Request& request) {
    const auto& reference = request.target.path[3];
    const bool is_full = !control_.figures().read_only.empty();
    Reply reply;
    Named named;
    control_.read([&](const State& state, Instant now, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        if (const auto id = one_of(state, named.jobs)) {
            append_why(reply.body, sight, now, *id, is_full, setting_.look_at_endpoints);
        }
    });
    if (!named.rivals.empty()) return ambiguous(reference, named.rivals);
    if (!reply.body.empty()) return reply;
    const auto retired = retired_of(control_, request.caller, reference);
    if (!retired) return failure_reply(retired.error());
    if (!*retired) return no_job(reference);
    append_why(reply.body, **retired);
    return reply;
}

Response Api::logs(const Request& request) {
    const auto& reference = request.target.path[3];
    Named named;
    std::optional<JobId> id;
    bool may_act = false;
    AttemptId last;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        id = one_of(state, named.jobs);
        if (!id) return;
        const auto& job = state.at<Job>(*id);
        may_act = sight.may_act(state.spec_of(job));
        last = job.last_attempt;
    });
    if (!named.rivals.empty()) return ambiguous(reference, named.rivals);
    if (!id) {
        const auto retired = retired_of(control_, request.caller, reference);
        if (!retired) return failure_reply(retired.error());
        if (!*retired) return no_job(reference);
        id = (*retired)->job.id;
        last = (*retired)->job.last_attempt;
        may_act = request.caller.is_operator || (*retired)->spec.owner == request.caller.uid;
    }
    if (!may_act) return forbidden("this job's output is its owner's");
    const AttemptId attempt{whole_in_query(request.target, "attempt", 0)};
    if (attempt) {
        const auto first = control_.read_output(*id, attempt, 0, 1);
        if (!first) return failure_reply(first.error());
        if (first->empty() && attempt != last) {
            return error_reply(404, "not_found",
                               fmt::format("job {} has no output of an attempt {}", reference, attempt.value),
                               fmt::format("its last one is {}; `stargate events` shows all", last.value));
        }
    }
    FollowOptions options;
    options.until_end = request.target.is_set("follow");
    options.framing = request.target.is_set("frames") ? Framing::frames : Framing::plain;
    options.attempt = attempt;
    auto heard = read_heard(request.target.value("resume"), 1);
    if (!heard) {
        auto reply = malformed(heard.error().detail);
        reply.status = 400;  // as all that is wrong with a query
        return reply;
    }
    options.heard = std::move(*heard);
    options.is_typed_at = request.target.is_set("typed");
    // A name may mean another job when the client asks again after a break: it is told which one this is.
    options.accepted = fmt::format(R"({{"id":{},"count":1}})", id->value);
    return follow_jobs(control_, *id, 1, options);
}

/// Takes up the stream of an array that was submitted with `follow=1`, by its first job.
Response Api::follow(const Request& request) {
    const auto& reference = request.target.path[3];
    const auto body = parse_body(request.body);
    if (!body) return bad_body(body.error());
    const auto& resume = (*body)["resume"];
    if (resume.kind != Json::Kind::text && resume.kind != Json::Kind::null) {
        return malformed("resume: no text; give what docs/api.md says of frames");
    }
    const JobId first{whole_number(reference).value_or(0)};
    std::int32_t count = 0;
    std::optional<JobSpec> spec;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        if (const auto* row = state.find<Spec>(first)) {
            spec = row->spec;
            count = row->count;
        }
    });
    if (!spec) {
        const auto retired = control_.find_retired(first);
        if (!retired) return failure_reply(retired.error());
        if (!*retired || (*retired)->job.task != 0) return no_job(reference);
        spec = (*retired)->spec;
        count = std::max(1, (*retired)->count);
    }
    bool may_see = false;
    bool may_act = false;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        may_see = sight.may_see(*spec);
        may_act = sight.may_act(*spec);
    });
    if (!may_see) return no_job(reference);
    if (!may_act) return forbidden("this job's output is its owner's");
    FollowOptions options;
    auto heard = read_heard(resume.text, count);
    if (!heard) return malformed(heard.error().detail);
    options.heard = std::move(*heard);
    return follow_jobs(control_, first, count, options);
}

}  // namespace stargate::api
