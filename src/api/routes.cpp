#include "api/routes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "api/account.hpp"
#include "api/json.hpp"
#include "api/query.hpp"
#include "api/references.hpp"
#include "api/request_body.hpp"
#include "api/sentences.hpp"
#include "api/words.hpp"
#include "base/spelling.hpp"

namespace stargate::api {

Reply no_job(std::string_view reference) {
    const bool is_id = std::all_of(reference.begin(), reference.end(), [](char c) { return c >= '0' && c <= '9'; });
    return error_reply(
        404, "not_found", fmt::format("there is no job `{}`", reference),
        is_id ? "list them: stargate jobs" : "list them: stargate jobs; one that ended long ago is found by its id");
}

Reply forbidden(std::string_view what) { return error_reply(403, "denied", what, "ask its owner or an operator"); }

Reply for_operators(std::string_view what) {
    return error_reply(403, "denied", fmt::format("{} by operators", what), "ask an operator");
}

Reply malformed(std::string_view detail) {
    const auto remedy = detail.rfind("; ");
    if (remedy == std::string_view::npos)
        return error_reply(422, "malformed", detail, "docs/api.md tells what belongs here");
    return error_reply(422, "malformed", detail.substr(0, remedy), detail.substr(remedy + 2));
}

Reply bad_body(const Error& error) {
    auto reply = malformed(error.detail);
    if (error.fault == Fault::conflict) reply.status = 400;  // two readers could take two requests for it
    return reply;
}

Reply ambiguous(std::string_view reference, const std::vector<JobId>& rivals) {
    std::string ids;
    for (const auto job : rivals) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", job.value);
    return error_reply(409, "ambiguous", fmt::format("several people have a job {}: {}", reference, ids),
                       "name the one you mean by its id");
}

Reply took_too_long() {
    return error_reply(503, "timed_out", "the account database or the job's folder does not answer",
                       "look at its file system, then send it again");
}

Reply failure_reply(const Error& error) {
    const std::string_view text{error.detail};
    const auto remedy = text.find("; ");  // as store::no_room() has one
    switch (error.fault) {
        case Fault::full:
            return error_reply(507, "store_full", text.substr(0, remedy),
                               remedy == text.npos ? "free disk space, then send it again" : text.substr(remedy + 2));
        case Fault::not_found:
            return error_reply(404, "not_found", error.detail, "list what is there: stargate jobs");
        case Fault::conflict:
            return error_reply(409, "conflict", error.detail, "look at it: stargate show JOB");
        case Fault::malformed:
            return error_reply(422, "malformed", error.detail, "docs/api.md tells what belongs here");
        case Fault::denied:
            return error_reply(403, "denied", error.detail, "ask an operator");
        case Fault::timed_out:
        case Fault::unavailable:
        case Fault::unknown_outcome:
            break;
    }
    return error_reply(503, "unavailable", error.detail, "send it again in a moment, under the same idempotency key");
}

Response made(const Api::Outcome& outcome) {
    if (const auto* ready = std::get_if<Reply>(&outcome)) return *ready;
    return std::get<std::function<Response()>>(outcome)();
}

namespace {

std::string join(const std::vector<std::string>& path, std::size_t from) {
    std::string text;
    for (std::size_t i = from; i < path.size(); ++i) text += (i > from ? "/" : "") + path[i];
    return text;
}

}  // namespace

namespace {

/// How many of these jobs hold something still: what was cancelled has its grace.
std::size_t count_active(const Control& control, const std::vector<JobId>& jobs) {
    std::size_t active = 0;
    control.read([&](const State& state, Instant, std::uint64_t) {
        for (const auto id : jobs) {
            const auto* job = state.find<Job>(id);
            if (job != nullptr && std::holds_alternative<Active>(job->phase)) ++active;
        }
    });
    return active;
}

Reply done_reply(std::vector<JobId> jobs, std::size_t active) {
    std::sort(jobs.begin(), jobs.end());
    Reply reply{200, R"({"jobs":)"};
    JsonList ids{reply.body};
    for (const auto id : jobs) ids.item() += std::to_string(id.value);
    ids.close();
    reply.body += fmt::format(",\"active\":{}}}\n", active);
    return reply;
}

/// It was to be held or released, and waits no more.
Reply waits_no_more(const std::string& reference, const std::string& verb) {
    if (verb == "release") {
        return error_reply(409, "wrong_state", fmt::format("{} runs already", reference), "it needs no release");
    }
    return error_reply(409, "wrong_state", fmt::format("{} runs, and only a job that waits can be held", reference),
                       fmt::format("end it: stargate cancel {}", reference));
}

/// It was to be cancelled, and how many replicas there are is the service's to say.
Reply is_one_of_service(const std::string& reference, const std::string& service) {
    return error_reply(409, "conflict", fmt::format("{} is one replica of the service {}", reference, service),
                       fmt::format("end the whole service: stargate cancel {}; submit it again with other `replicas` "
                                   "to have fewer",
                                   service));
}

/// It was to be resized, and does not run at a size of its own choice.
Reply cannot_resize(const State& state, const std::string& reference, JobId of) {
    const auto* job = state.find<Job>(of);
    if (job != nullptr && std::holds_alternative<Waiting>(job->phase)) {
        return error_reply(409, "wrong_state",
                           fmt::format("{} waits, and only a job that runs can be resized", reference),
                           fmt::format("look at what it waits for: stargate why {}", reference));
    }
    const auto* active = job == nullptr ? nullptr : std::get_if<Active>(&job->phase);
    const auto* attempt = active == nullptr ? nullptr : state.find<Attempt>(active->attempt);
    if (attempt != nullptr && attempt->ending && !attempt->ending->next.empty()) {
        return error_reply(409, "wrong_state", fmt::format("{} is being resized already", reference),
                           fmt::format("wait until it runs at its new size: stargate show {}", reference));
    }
    return error_reply(409, "wrong_state", fmt::format("{} is on its way out", reference),
                       fmt::format("look at it: stargate show {}", reference));
}

/// From the body, or from `?gpus=`.
Result<std::int32_t> wanted_size(const Request& request) {
    const auto body = parse_body(request.body);
    if (!body) return tl::unexpected<Error>(body.error());
    constexpr const char* remedy = "give how many GPUs, 0 for as many as can be had";
    const auto& given = (*body)["gpus"];
    const auto in_query = whole_number(request.target.value("gpus"));
    if (given.kind == Json::Kind::null && !in_query) {
        return fail(Fault::malformed, fmt::format("gpus: is missing; {}", remedy));
    }
    const bool is_whole = given.kind == Json::Kind::number && given.number == static_cast<double>(given.whole);
    const auto wanted = given.kind == Json::Kind::null ? static_cast<std::int64_t>(*in_query)
                        : is_whole                     ? given.whole
                                                       : -1;
    if (wanted < 0 || wanted > 10'000'000) {
        return fail(Fault::malformed, fmt::format("gpus: no whole number from 0 to 10000000; {}", remedy));
    }
    return static_cast<std::int32_t>(wanted);
}

}  // namespace

void Api::act_on_jobs(const Request& request, const Finish& finish) {
    const auto& verb = request.target.path[4];
    std::int32_t gpus = 0;
    if (verb == "resize") {
        const auto wanted = wanted_size(request);
        if (!wanted) return finish(bad_body(wanted.error()));
        gpus = *wanted;
    }

    const auto& reference = request.target.path[3];
    std::vector<JobId> jobs;
    Named named;
    bool is_denied = false;
    std::string of_service;  // where one of its replicas is meant
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        for (const auto id : named.jobs) {
            const auto& job = state.at<Job>(id);
            if (!sight.may_act(state.spec_of(job))) is_denied = true;
            const auto& spec = state.spec_of(job);
            const bool is_array = state.at<Spec>(job.spec).count > 1;
            if (is_array && spec.kind == Kind::service && reference != spec.name) of_service = spec.name;
            if (!std::holds_alternative<Finished>(job.phase)) jobs.push_back(id);
        }
        // Those that wait come first, so that what a cancelled element lets go of does not go to the next one.
        std::stable_partition(jobs.begin(), jobs.end(),
                              [&](JobId id) { return std::holds_alternative<Waiting>(state.at<Job>(id).phase); });
    });
    if (!named.rivals.empty()) return finish(ambiguous(reference, named.rivals));
    if (named.jobs.empty()) {
        const auto retired = retired_of(control_, request.caller, reference);
        if (!retired || !*retired) return finish(no_job(reference));
    }
    if (is_denied) return finish(forbidden("this job belongs to somebody else"));
    if (verb == "cancel" && !of_service.empty()) return finish(is_one_of_service(reference, of_service));
    if (jobs.empty()) {
        return finish(error_reply(409, "wrong_state", fmt::format("{} has ended already", reference),
                                  "look at it: stargate show " + reference));
    }
    std::vector<Input> inputs;
    for (const auto job : jobs) {
        if (verb == "cancel") inputs.emplace_back(Cancel{job});
        if (verb == "hold") inputs.emplace_back(Hold{job, true});
        if (verb == "release") inputs.emplace_back(Hold{job, false});
        if (verb == "resize") inputs.emplace_back(Resize{job, gpus});
    }
    const auto caller = request.caller;
    control_.ask(caller.uid, std::move(inputs), [=, this](const Result<std::vector<Answer>>& answers) {
        finish([=, this]() -> Response {
            if (!answers) return failure_reply(answers.error());
            std::vector<JobId> done;
            const Answer* refused = nullptr;
            JobId of;
            for (std::size_t i = 0; i < answers->size(); ++i) {
                if ((*answers)[i].accepted()) {
                    done.push_back(jobs[i]);
                } else if (refused == nullptr) {
                    refused = &(*answers)[i];
                    of = jobs[i];
                }
            }
            // Elements that end meanwhile do not spoil what was done to the others.
            if (!done.empty() || refused == nullptr) {
                return done_reply(std::move(done), count_active(control_, jobs));
            }
            const bool is_hold = verb == "hold" || verb == "release";
            if (refused->why.why == Why::wrong_state && is_hold) return waits_no_more(reference, verb);
            Reply reply;
            control_.read([&](const State& state, Instant, std::uint64_t) {
                if (refused->why.why == Why::wrong_state && verb == "resize") {
                    reply = cannot_resize(state, reference, of);
                    return;
                }
                const auto* job = state.find<Job>(of);
                reply = refusal_reply({caller, state}, refused->why,
                                      {job == nullptr ? nullptr : &state.spec_of(*job), nullptr, of});
            });
            return reply;
        });
    });
}

namespace {

/// An array is changed as a whole.
Reply is_one_of_array(const std::string& reference, const Spec& array) {
    return error_reply(409, "conflict",
                       fmt::format("{} is one of {} elements of {}, which are changed together", reference, array.count,
                                   array.spec.name),
                       fmt::format("change all of them: stargate edit {}[]", array.first.value));
}

/// Why an edit was refused, in the words of what it asked for.
Reply cannot_edit(const Sight& sight, const std::string& reference, JobId of, const Edit& edit, const Refusal& why) {
    const auto& state = sight.state();
    const auto* job = state.find<Job>(of);
    if (why.why == Why::wrong_state && edit.after && job != nullptr && !std::holds_alternative<Finished>(job->phase)) {
        return error_reply(
            409, "wrong_state",
            fmt::format("{} has been started, and only what waits can be told to come after others", reference),
            fmt::format("leave `after` out, or cancel it and submit it again: stargate cancel {}", reference));
    }
    auto spec = job == nullptr ? JobSpec{} : state.spec_of(*job);
    Submit asked;
    if (edit.after) asked.after = *edit.after;
    if (edit.priority) spec.priority = *edit.priority;
    if (edit.gpus) std::tie(spec.min_gpus, spec.max_gpus) = std::tie(edit.gpus->least, edit.gpus->most);
    return refusal_reply(sight, why, {&spec, &asked, {}});
}

}  // namespace

void Api::edit(const Request& request, const Finish& finish) {
    auto edit = parse_edit(request.body);
    if (!edit) return finish(bad_body(edit.error()));
    const auto& reference = request.target.path[3];
    Named named;
    bool is_denied = false;
    bool is_over = true;
    std::optional<Reply> is_part;
    std::size_t active = 0;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        if (named.jobs.empty()) return;
        const auto& array = state.at<Spec>(state.at<Job>(named.jobs.front()).spec);
        const bool is_whole = reference == array.spec.name || reference == fmt::format("{}[]", array.first.value);
        if (!is_whole && array.count > 1) is_part = is_one_of_array(reference, array);
        is_denied = !sight.may_act(array.spec);
        for (const auto id : named.jobs) {
            const auto& phase = state.at<Job>(id).phase;
            is_over = is_over && std::holds_alternative<Finished>(phase);
            if (std::holds_alternative<Active>(phase)) ++active;
        }
    });
    if (!named.rivals.empty()) return finish(ambiguous(reference, named.rivals));
    if (named.jobs.empty()) {
        const auto retired = retired_of(control_, request.caller, reference);
        if (!retired || !*retired) return finish(no_job(reference));
    }
    if (is_denied) return finish(forbidden("this job belongs to somebody else"));
    if (is_over) {
        return finish(error_reply(409, "wrong_state", fmt::format("{} has ended already", reference),
                                  "look at it: stargate show " + reference));
    }
    if (is_part) return finish(*is_part);
    edit->job = named.jobs.front();
    const auto caller = request.caller;
    control_.ask(caller.uid, {*edit}, [=, this](const Result<std::vector<Answer>>& answers) {
        finish([=, this]() -> Response {
            if (!answers) return failure_reply(answers.error());
            if (answers->front().accepted()) return done_reply(named.jobs, active);
            Reply reply;
            control_.read([&](const State& state, Instant, std::uint64_t) {
                reply = cannot_edit({caller, state}, reference, named.jobs.front(), *edit, answers->front().why);
            });
            return reply;
        });
    });
}

namespace {
/// Asks one thing and answers `{"ok":true}`, or why not.
void ask_one(Control& control, const Caller& caller, Input input, const Api::Finish& finish) {
    control.ask(caller.uid, {std::move(input)}, [&control, caller, finish](Result<std::vector<Answer>> answers) {
        finish([&control, caller, answers]() -> Response {
            if (!answers) return failure_reply(answers.error());
            if (answers->empty() || answers->front().accepted()) return Reply{200, "{\"ok\":true}\n"};
            Reply reply;
            control.read([&](const State& state, Instant, std::uint64_t) {
                reply = refusal_reply({caller, state}, answers->front().why, {});
            });
            return reply;
        });
    });
}
}  // namespace

void Api::drain(const Request& request, const Finish& finish) {
    if (!request.caller.is_operator) return finish(for_operators("nodes are drained"));
    NodeId node;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        node = state.node_named(request.target.path[3]);
        if (const auto id = whole_number(request.target.path[3]); !node && id && state.find<Node>(NodeId{*id})) {
            node = NodeId{*id};
        }
    });
    if (!node) {
        return finish(error_reply(404, "not_found", fmt::format("there is no node `{}`", request.target.path[3]),
                                  "list them: stargate fleet"));
    }
    ask_one(control_, request.caller, Drain{node, request.target.path[4] == "drain"}, finish);
}

namespace {

/// A tenant's path: words with `/` between.
bool is_tenant_path(const std::vector<std::string>& path, std::size_t from) {
    return std::all_of(path.begin() + static_cast<std::ptrdiff_t>(from), path.end(), [](const std::string& word) {
        return !word.empty() && word.size() <= 63 && std::all_of(word.begin(), word.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                   c == '.';
        });
    });
}

Result<void> read_quota(const Json& quota, SetTenant& set) {
    if (quota.kind == Json::Kind::null) return {};  // no limit, as SetTenant begins
    if (quota.kind != Json::Kind::number || !(quota.number >= 0 && quota.number <= 1e9)) {
        return fail(Fault::malformed, "quota: no number of GPUs; give one from 0 on, or null for no limit");
    }
    set.quota = std::llround(quota.number * 1000);
    return {};
}

Result<void> read_weight(const Json& weight, SetTenant& set) {
    if (weight.kind != Json::Kind::number || weight.whole < 1 || weight.whole > 1'000'000) {
        return fail(Fault::malformed, "weight: out of range; give a whole number from 1 to 1000000");
    }
    set.weight = static_cast<std::int32_t>(weight.whole);
    return {};
}

Result<void> read_classes(const Json& classes, SetTenant& set) {
    if (classes.kind != Json::Kind::list) return fail(Fault::malformed, "priorities: no list; give [\"research\"]");
    set.may_use = 0;
    for (const auto& item : classes.items) {
        const auto known = from_name<PriorityClass>(item.text);
        if (!known || *known == PriorityClass::system) {
            return fail(Fault::malformed,
                        fmt::format("priorities: no class `{}`; give opportunistic, research, production or serving",
                                    item.word()));
        }
        set.may_use |= bit_of(*known);
    }
    return {};
}

/// The names only: their numbers are looked up by whoever may wait.
Result<void> read_members(const Json& members, SetTenant& set) {
    constexpr std::size_t most = 1'000;  // looked through for each job of a listing
    if (members.kind != Json::Kind::list || members.items.size() > most) {
        return fail(Fault::malformed, "members: no list of at most 1,000 names; give [\"ada\", \"ben\"]");
    }
    for (const auto& item : members.items) {
        if (item.kind != Json::Kind::text || item.text.empty()) {
            return fail(Fault::malformed, "members: no user's name; give [\"ada\", \"ben\"]");
        }
        set.members.push_back({0, item.text});
    }
    return {};
}

Result<SetTenant> read_tenant(const std::string& text) {
    SetTenant set;
    const auto body = parse_body(text);
    if (!body) return tl::unexpected<Error>(body.error());
    set.keeps_quota = set.keeps_weight = set.keeps_classes = set.keeps_members = true;
    for (const auto& [name, value] : body->members) {
        Result<void> read;
        if (name == "quota") {
            set.keeps_quota = false;
            read = read_quota(value, set);
        } else if (name == "weight") {
            set.keeps_weight = false;
            read = read_weight(value, set);
        } else if (name == "priorities") {
            set.keeps_classes = false;
            read = read_classes(value, set);
        } else if (name == "members") {
            set.keeps_members = false;
            read = read_members(value, set);
        } else {
            read =
                fail(Fault::malformed, fmt::format("{}: no such member{}; docs/api.md lists them", name,
                                                   did_you_mean(name, {"quota", "weight", "priorities", "members"})));
        }
        if (!read) return tl::unexpected<Error>(read.error());
    }
    return set;
}

}  // namespace

void Api::set_tenant(const Request& request, const Finish& finish) {
    if (!request.caller.is_operator) return finish(for_operators("tenants are set"));
    if (!is_tenant_path(request.target.path, 3)) {
        return finish(malformed("name: not a tenant's path; write words with `/` between, as lab/nlp"));
    }
    auto set = read_tenant(request.body);
    if (!set) return finish(bad_body(set.error()));
    set->name = join(request.target.path, 3);
    const auto caller = request.caller;
    if (set->members.empty()) return ask_one(control_, caller, *set, finish);
    lookups_.run(
        caller.uid,
        [this, set = *set, caller, finish]() mutable -> Lookups::Outcome {
            for (auto& member : set.members) {
                const auto account = account_named(member.name);
                if (!account) {
                    return [finish, refusal = malformed("members: " + account.error().detail)] { finish(refusal); };
                }
                member.uid = account->uid;
            }
            return [this, set, caller, finish] { ask_one(control_, caller, set, finish); };
        },
        [finish] { finish(took_too_long()); });
}

}  // namespace stargate::api
