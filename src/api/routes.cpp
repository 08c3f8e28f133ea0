#include "api/routes.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "api/account.hpp"
#include "api/follow.hpp"
#include "api/job_rows.hpp"
#include "api/json.hpp"
#include "api/request_body.hpp"
#include "api/sentences.hpp"
#include "base/json_text.hpp"

namespace stargate::api {

namespace {

Reply not_found(std::string_view what) {
    return error_reply(404, "not_found", fmt::format("there is no {}", what), "list what is there: stargate jobs");
}
Reply forbidden(std::string_view what) { return error_reply(403, "denied", what, "ask its owner or an operator"); }
Reply malformed(std::string_view detail) {
    const auto remedy = detail.rfind("; ");
    if (remedy == std::string_view::npos)
        return error_reply(422, "malformed", detail, "docs/api.md tells what belongs here");
    return error_reply(422, "malformed", detail.substr(0, remedy), detail.substr(remedy + 2));
}

/// A failure of the control plane itself as a reply.
Reply failure_reply(const Error& error) {
    switch (error.fault) {
        case Fault::full:
            return error_reply(507, "store_full", error.detail, "free disk space, then send it again");
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

/// Answers at once.
void finish_with(const Api::Finish& finish, Reply reply) {
    finish([reply = std::move(reply)]() -> Response { return reply; });
}

template <class Number>
std::optional<Number> whole(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string join(const std::vector<std::string>& path, std::size_t from) {
    std::string text;
    for (std::size_t i = from; i < path.size(); ++i) text += (i > from ? "/" : "") + path[i];
    return text;
}

}  // namespace

bool may_see(const Caller&, const State&, TenantId) { return true; }
bool may_act(const Caller& caller, std::uint32_t owner) { return caller.is_operator || caller.uid == owner; }

void Api::handle(const Request& request, const Finish& finish) {
    const auto& path = request.target.path;
    const auto is = [&](std::string_view method, std::size_t length) {
        return request.method == method && path.size() == length;
    };
    const auto read = [&](Reading reading) {
        finish([outcome = std::make_shared<Response>((this->*reading)(request))] { return std::move(*outcome); });
    };
    if (path.size() == 1 && path[0] == "metrics" && request.method == "GET") return read(&Api::metrics);
    if (path.size() < 3 || path[0] != "api" || path[1] != "v1") {
        return finish_with(finish,
                           error_reply(404, "not_found", "there is no such route", "docs/api.md lists them all"));
    }
    const auto& what = path[2];
    if (what == "jobs") {
        if (is("GET", 3)) return read(&Api::jobs);
        if (is("POST", 3)) return submit(request, finish);
        if (is("GET", 4)) return read(&Api::job);
        if (is("GET", 5) && path[4] == "why") return read(&Api::why);
        if (is("GET", 5) && path[4] == "logs") return read(&Api::logs);
        if (is("POST", 5)) return act_on_jobs(request, finish);
    } else if (what == "fleet") {
        if (is("GET", 3)) return read(&Api::fleet);
        if (is("POST", 5) && (path[4] == "drain" || path[4] == "undrain")) return drain(request, finish);
    } else if (what == "tenants") {
        if (is("GET", 3)) return read(&Api::tenants);
        if (request.method == "PUT" && path.size() >= 4) return set_tenant(request, finish);
    } else if (what == "events") {
        if (is("GET", 3)) return read(&Api::events);
        if (is("GET", 4) && path[3] == "types") return read(&Api::event_types);
    } else if (what == "whoami" && is("GET", 3)) {
        return read(&Api::whoami);
    } else if (what == "info" && is("GET", 3)) {
        return read(&Api::info);
    } else if (what == "tokens" && is("POST", 3)) {
        return read(&Api::make_token);
    } else if (what == "shutdown" && is("POST", 3)) {
        return read(&Api::shut_down);
    }
    finish_with(finish, error_reply(404, "not_found", "there is no such route", "docs/api.md lists them all"));
}

Result<Account> Api::account_for(const Caller& caller) {
    const auto own = geteuid();
    if (caller.uid == 0) {
        if (own == 0 && setting_.job_user) return *setting_.job_user;
        return fail(Fault::denied,
                    "jobs never run as root; start the control plane with --job-user, or submit as a user");
    }
    if (own != 0 && caller.uid != own) {
        return fail(Fault::denied,
                    fmt::format("this control plane runs as uid {} and cannot run work as uid {}; start your own, or "
                                "have one started by root",
                                own, caller.uid));
    }
    const auto now = std::chrono::steady_clock::now();
    const auto known = accounts_.find(caller.uid);
    if (known != accounts_.end() && now < known->second.until) return known->second.account;
    auto account = account_of(caller.uid);
    if (account) accounts_[caller.uid] = {*account, now + std::chrono::seconds{60}};
    return account;
}

void Api::submit(const Request& request, const Finish& finish) {
    const auto account = account_for(request.caller);
    if (!account) return finish_with(finish, malformed(account.error().detail));
    JobFileSetting setting;
    setting.account = *account;
    setting.owner = request.caller.uid;
    control_.read([&](const State& state, Instant, std::uint64_t) { setting.gpu_types = state.settings().gpu_types; });
    auto job = parse_submit(request.body, setting, account->uid == request.caller.uid);
    if (!job) return finish_with(finish, malformed(job.error().detail));
    if (job->launch.sandbox == Sandbox::none && !request.caller.is_operator && !setting_.anyone_without_sandbox) {
        return finish_with(finish, forbidden("`sandbox: none` is for operators here; leave it out"));
    }
    if (const auto fits = can_start(job->launch); !fits) return finish_with(finish, malformed(fits.error().detail));
    if (request.idempotency_key.size() > 200) {
        return finish_with(finish, malformed("Idempotency-Key: longer than 200 bytes; send a shorter one"));
    }

    NewJob added;
    added.input = std::move(job->submit);
    added.launch = std::move(job->launch);
    added.key = request.idempotency_key;
    // Two users of one tenant must not meet in a key.
    if (!added.key.empty()) added.body = fmt::format("{}\n{}", request.caller.uid, request.body);
    const auto spec = std::make_shared<JobSpec>(added.input.spec);
    const auto count = added.input.count;
    const bool follows = request.target.is_set("follow");
    const std::string resume{request.target.value("resume")};
    control_.submit(std::move(added), [=, this](Result<Answer> answer) {
        finish([=, this]() -> Response {
            if (!answer) return failure_reply(answer.error());
            if (!answer->accepted()) {
                Reply refused;
                control_.read([&](const State& state, Instant, std::uint64_t) {
                    refused = refusal_reply(state, answer->why, spec.get());
                });
                return refused;
            }
            auto accepted = fmt::format(R"({{"id":{},"count":{},"name":)", answer->job.value, count);
            json_string(accepted, spec->name);
            accepted += "}";
            if (!follows) return Reply{201, accepted + "\n"};
            FollowOptions options;
            options.accepted = accepted;
            options.resume = resume;
            return follow_jobs(control_, answer->job, count, options);
        });
    });
}

void Api::act_on_jobs(const Request& request, const Finish& finish) {
    const auto& verb = request.target.path[4];
    std::int32_t gpus = 0;
    if (verb == "resize") {
        const auto body = parse_json(request.body.empty() ? "{}" : request.body);
        const auto given = body ? (*body)["gpus"] : Json{};
        const auto wanted = given.kind == Json::Kind::number ? std::optional{given.whole}
                                                             : whole<std::int64_t>(request.target.value("gpus"));
        if (!wanted || *wanted < 0 || *wanted > 10'000'000) {
            return finish_with(
                finish,
                malformed("gpus: is missing or no whole number; give how many GPUs, 0 for as many as can be had"));
        }
        gpus = static_cast<std::int32_t>(*wanted);
    } else if (verb != "cancel" && verb != "hold" && verb != "release") {
        return finish_with(finish,
                           error_reply(404, "not_found", "there is no such route", "docs/api.md lists them all"));
    }

    std::vector<JobId> jobs;
    bool is_known = false;
    bool is_denied = false;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        for (const auto id : jobs_of(state, request.target.path[3])) {
            const auto& job = state.at<Job>(id);
            const auto& spec = state.spec_of(job);
            if (!may_see(request.caller, state, spec.tenant)) continue;
            is_known = true;
            if (!may_act(request.caller, spec.owner)) is_denied = true;
            if (!std::holds_alternative<Finished>(job.phase)) jobs.push_back(id);
        }
    });
    if (!is_known) return finish_with(finish, not_found("job " + request.target.path[3]));
    if (is_denied) return finish_with(finish, forbidden("this job belongs to somebody else"));
    if (jobs.empty()) {
        return finish_with(finish,
                           error_reply(409, "wrong_state", fmt::format("{} has ended already", request.target.path[3]),
                                       "look at it: stargate show JOB"));
    }
    std::vector<Input> inputs;
    for (const auto job : jobs) {
        if (verb == "cancel") inputs.emplace_back(Cancel{job});
        if (verb == "hold") inputs.emplace_back(Hold{job, true});
        if (verb == "release") inputs.emplace_back(Hold{job, false});
        if (verb == "resize") inputs.emplace_back(Resize{job, gpus});
    }
    control_.ask(std::move(inputs), [=, this](Result<std::vector<Answer>> answers) {
        finish([=, this]() -> Response {
            if (!answers) return failure_reply(answers.error());
            std::string done;
            const Answer* refused = nullptr;
            for (std::size_t i = 0; i < answers->size(); ++i) {
                if ((*answers)[i].accepted()) {
                    done += fmt::format("{}{}", done.empty() ? "" : ",", jobs[i].value);
                } else if (refused == nullptr) {
                    refused = &(*answers)[i];
                }
            }
            // Elements that end meanwhile do not spoil what was done to the others.
            if (!done.empty() || refused == nullptr) return Reply{200, "{\"jobs\":[" + done + "]}\n"};
            Reply reply;
            control_.read([&](const State& state, Instant, std::uint64_t) {
                reply = refusal_reply(state, refused->why, nullptr);
            });
            return reply;
        });
    });
}

namespace {
/// Asks one thing and answers `{"ok":true}`, or why not.
void ask_one(Control& control, Input input, const Api::Finish& finish) {
    control.ask({std::move(input)}, [&control, finish](Result<std::vector<Answer>> answers) {
        finish([&control, answers]() -> Response {
            if (!answers) return failure_reply(answers.error());
            if (answers->empty() || answers->front().accepted()) return Reply{200, "{\"ok\":true}\n"};
            Reply reply;
            control.read([&](const State& state, Instant, std::uint64_t) {
                reply = refusal_reply(state, answers->front().why, nullptr);
            });
            return reply;
        });
    });
}
}  // namespace

void Api::drain(const Request& request, const Finish& finish) {
    if (!request.caller.is_operator) return finish_with(finish, forbidden("nodes are drained by operators"));
    NodeId node;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        node = state.node_named(request.target.path[3]);
        if (const auto id = whole<std::uint64_t>(request.target.path[3]);
            !node && id && state.find<Node>(NodeId{*id})) {
            node = NodeId{*id};
        }
    });
    if (!node) return finish_with(finish, not_found("node " + request.target.path[3]));
    ask_one(control_, Drain{node, request.target.path[4] == "drain"}, finish);
}

void Api::set_tenant(const Request& request, const Finish& finish) {
    if (!request.caller.is_operator) return finish_with(finish, forbidden("tenants are set by operators"));
    SetTenant set;
    set.name = join(request.target.path, 3);
    for (const auto& word : request.target.path) {
        if (&word < &request.target.path[3]) continue;
        const bool fits = !word.empty() && word.size() <= 63 && std::all_of(word.begin(), word.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                   c == '.';
        });
        if (!fits)
            return finish_with(finish,
                               malformed("name: not a tenant's path; write words with `/` between, as lab/nlp"));
    }
    const auto body = parse_json(request.body.empty() ? "{}" : request.body);
    if (!body) return finish_with(finish, malformed(body.error().detail));
    if (const auto& quota = (*body)["quota"]; quota.kind == Json::Kind::number) {
        if (!(quota.number >= 0 && quota.number <= 1e9)) {
            return finish_with(finish, malformed("quota: out of range; give GPUs from 0 on, or null for no limit"));
        }
        set.quota = static_cast<std::int64_t>(quota.number * 1000 + 0.5);
    }
    if (const auto* weight = body->find("weight"); weight != nullptr) {
        if (weight->whole < 1 || weight->whole > 1'000'000) {
            return finish_with(finish, malformed("weight: out of range; give a whole number from 1 to 1000000"));
        }
        set.weight = static_cast<std::int32_t>(weight->whole);
    }
    if (const auto* classes = body->find("priorities"); classes != nullptr) {
        set.may_use = 0;
        for (const auto& item : classes->items) {
            const auto known = from_name<PriorityClass>(item.text);
            if (!known || *known == PriorityClass::system) {
                return finish_with(
                    finish,
                    malformed("priorities: no such class; give opportunistic, research, production or serving"));
            }
            set.may_use |= bit_of(*known);
        }
    }
    ask_one(control_, set, finish);
}

}  // namespace stargate::api
