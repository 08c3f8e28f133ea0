#include <fmt/format.h>
#include <unistd.h>

#include "api/account.hpp"
#include "api/follow.hpp"
#include "api/request_body.hpp"
#include "api/routes.hpp"
#include "api/sentences.hpp"
#include "base/json_text.hpp"

/// A submit on its way: whose account, what job, may it, could it start, and in with it.
namespace stargate::api {

namespace {

constexpr std::chrono::seconds account_life{60};
/// Many jobs of one folder and program come in a row, and each look costs a dozen system calls.
constexpr std::chrono::seconds startable_life{1};
constexpr std::size_t most_startable = 1'000;

/// What is_startable looks at, as a key.
std::string start_of(const ParsedJob& job) {
    const auto& launch = job.launch;
    std::string_view path;
    for (const auto& [name, value] : launch.env) {
        if (name == "PATH") path = value;
    }
    auto key = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", launch.account.uid, launch.folder, launch.sandbox == Sandbox::none,
                           launch.argv.empty() ? "" : launch.argv.front(), path, job.submit.after.empty());
    for (const auto& mount : launch.mounts) key += "\n" + mount.source + "\n" + mount.target;
    return key;
}

/// What a job mounts may be made by those that it comes after, so only a job that comes after none is asked for it.
Result<void> is_startable(const ParsedJob& job, const std::string& state) {
    auto fits = can_start(job.launch, state);
    return fits && job.submit.after.empty() ? can_mount(job.launch, state) : fits;
}

/// `dir: what; remedy` with the line where the file says so; of a command, which has no file, with its own words.
std::string with_line(const ParsedJob& job, const std::string& detail) {
    const auto colon = detail.find(": ");
    const auto field = detail.substr(0, colon);
    auto where = job.where(field);
    if (where.empty() && field == "run") where = "command: ";
    if (where.empty() && field == "dir") where = "folder: ";
    return where.empty() ? detail : where + detail.substr(colon + 2);
}

/// What the client hears of the job that it has now.
std::string acceptance(const Submit& submit, JobId job) {
    auto text = fmt::format(R"({{"id":{},"count":{},"name":)", job.value, submit.count);
    json_string(text, submit.spec.name);
    if (submit.service && submit.service->is_external()) {
        text += fmt::format(R"(,"endpoints":{})", submit.service->endpoints.size());
    }
    return text + "}";
}

Reply accepted(const Submit& submit, JobId job) { return {201, acceptance(submit, job) + "\n"}; }

}  // namespace

struct Api::Submission {
    Request request;
    Finish finish;
    ParsedJob job;
    std::string keyed;  // what an idempotency key stands for; empty: there is no key
};

void Api::with_account(const Caller& caller, const Finish& finish,
                       const std::function<void(const Result<Account>&)>& then) {
    const auto own = geteuid();
    if (caller.uid == 0) {
        if (own == 0 && setting_.job_user) return then(*setting_.job_user);
        return then(fail(Fault::denied,
                         "jobs never run as root; start the control plane with --job-user, or submit as a user"));
    }
    if (own != 0 && caller.uid != own) {
        return then(
            fail(Fault::denied, fmt::format("this control plane runs as uid {} and cannot run work as uid {}; start "
                                            "your own, or have one started by root",
                                            own, caller.uid)));
    }
    std::optional<Account> known;
    {
        const std::scoped_lock lock{known_mutex_};
        const auto found = accounts_.find(caller.uid);
        if (found != accounts_.end() && std::chrono::steady_clock::now() < found->second.until)
            known = found->second.value;
    }
    if (known) return then(*known);
    lookups_.run(
        caller.uid,
        [this, uid = caller.uid, then]() -> Lookups::Outcome {
            const auto account = account_of(uid);
            return [this, uid, then, account] {
                if (account) {
                    const std::scoped_lock lock{known_mutex_};
                    accounts_[uid] = {*account, std::chrono::steady_clock::now() + account_life};
                }
                then(account);
            };
        },
        [finish] { finish(took_too_long()); });
}

void Api::submit(const Request& request, const Finish& finish) {
    const auto pending = std::make_shared<Submission>();
    pending->request = request;
    pending->finish = finish;
    with_account(request.caller, finish, [this, pending](const Result<Account>& account) {
        if (!account) return pending->finish(malformed(account.error().detail));
        read_job(pending, *account);
    });
}

void Api::read_job(const Pending& pending, const Account& account) {
    control_.get_ready();
    const auto& request = pending->request;
    JobFileSetting setting;
    setting.account = account;
    setting.owner = request.caller.uid;
    setting.state = setting_.state;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        setting.gpu_types = state.settings().gpu_types;
        setting.max_array = static_cast<std::int32_t>(state.settings().max_array);
    });
    auto job = parse_submit(request.body, setting, account.uid == request.caller.uid);
    if (!job) return pending->finish(bad_body(job.error()));
    pending->job = std::move(*job);
    const auto& key = request.idempotency_key;
    if (key.size() > 200) {
        return pending->finish(malformed("Idempotency-Key: longer than 200 bytes; send a shorter one"));
    }
    // Who asks is a part of what is asked: a key of a tenant stands for one request of one of its users.
    if (!key.empty()) pending->keyed = fmt::format("{}\n{}", request.caller.uid, request.body);
    bool may_use = true;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const auto tenant = state.tenant_named(pending->job.submit.tenant);
        may_use = !tenant || Sight{request.caller, state}.may_use(*tenant);
    });
    if (!may_use) {
        return refuse(pending, error_reply(403, "not_a_member",
                                           fmt::format("{}you are no member of tenant {}", pending->job.where("tenant"),
                                                       pending->job.submit.tenant),
                                           "list yours: stargate tenants, or ask an operator"));
    }
    const bool may_go_without = request.caller.is_operator || setting_.anyone_without_sandbox;
    if (pending->job.launch.sandbox == Sandbox::none && !may_go_without) {
        return refuse(
            pending, error_reply(403, "denied", pending->job.where("sandbox") + "`sandbox: none` is for operators here",
                                 "leave it out, or have the control plane started with --allow-sandbox-none"));
    }
    check_start(pending);
}

/// Whether the folder, the program and what is mounted are there, which may ask a file server.
void Api::check_start(const Pending& pending) {
    const auto& service = pending->job.submit.service;
    if (service && service->is_external()) return hand_in(pending);  // nothing of it starts
    const auto key = digest_of(start_of(pending->job));
    bool known = false;
    {
        const std::scoped_lock lock{known_mutex_};
        const auto found = startable_.find(key);
        known = found != startable_.end() && std::chrono::steady_clock::now() < found->second.until;
    }
    if (known) return hand_in(pending);
    lookups_.run(
        pending->request.caller.uid,
        [this, pending, key, job = pending->job]() -> Lookups::Outcome {
            const auto fits = is_startable(job, setting_.state);
            return [this, pending, key, fits] {
                if (!fits) return refuse(pending, malformed(with_line(pending->job, fits.error().detail)));
                {
                    const std::scoped_lock lock{known_mutex_};
                    if (startable_.size() >= most_startable) startable_.clear();
                    startable_[key] = {true, std::chrono::steady_clock::now() + startable_life};
                }
                hand_in(pending);
            };
        },
        [this, pending] { refuse(pending, took_too_long()); });
}

/// Says no, unless this very request was accepted before: what it needs may have gone since, its job goes on.
void Api::refuse(const Pending& pending, Reply reply) {
    if (!pending->keyed.empty()) {
        const auto known =
            control_.find_key(pending->job.submit.tenant, pending->request.idempotency_key, pending->keyed);
        if (known && *known && (*known)->accepted()) {
            return pending->finish([this, pending, answer = **known] { return answered(pending, answer); });
        }
    }
    pending->finish(std::move(reply));
}

void Api::hand_in(const Pending& pending) {
    NewJob added;
    added.input = pending->job.submit;
    added.launch = std::move(pending->job.launch);
    added.launch.name = added.input.spec.name;
    added.launch.grace = added.input.spec.grace;
    added.key = pending->request.idempotency_key;
    added.body = pending->keyed;
    control_.submit(std::move(added), [this, pending](const Result<Answer>& answer) {
        if (!answer) return pending->finish(failure_reply(answer.error()));
        // Who submits waits for this line alone, so it does not go round by the server's thread.
        if (answer->accepted() && !pending->request.target.is_set("follow")) {
            return pending->finish(accepted(pending->job.submit, answer->job));
        }
        pending->finish([this, pending, answer] { return answered(pending, *answer); });
    });
}

Response Api::answered(const Pending& pending, const Answer& answer) {
    const auto& submit = pending->job.submit;
    if (!answer.accepted()) {
        Reply refused;
        control_.read([&](const State& state, Instant, std::uint64_t) {
            refused = refusal_reply({pending->request.caller, state}, answer.why, {&submit.spec, &submit, {}},
                                    pending->job.where(field_of(answer.why.why)));
        });
        return refused;
    }
    if (!pending->request.target.is_set("follow")) return accepted(submit, answer.job);
    FollowOptions options;
    options.accepted = acceptance(submit, answer.job);
    return follow_jobs(control_, answer.job, submit.count, options);
}

}  // namespace stargate::api
