#include "cli/verbs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>

#include "api/json.hpp"
#include "base/json_text.hpp"
#include "base/print_error.hpp"
#include "base/utf8.hpp"
#include "cli/accounting.hpp"
#include "cli/client.hpp"
#include "cli/complaint.hpp"
#include "cli/job_source.hpp"
#include "cli/listings.hpp"
#include "cli/run.hpp"
#include "cli/shell.hpp"
#include "cli/table.hpp"
#include "cli/top.hpp"
#include "cli/watch.hpp"

namespace stargate::cli {

using api::Json;

namespace {

/// What the verbs share. One lives as long as the program; CLI11 writes into it.
struct Asked {
    std::string state = default_state();
    std::string output = "table";
    std::string reference;
    std::string file;
    std::string gpus = "1";
    std::string name, priority, time, sandbox, tenant, quota, classes, members;
    std::string since, until, user, after, size;
    std::vector<std::string> command;
    int count = 1;
    int limit = 1000;
    int weight = 0;  // 0: not said
    std::uint64_t from = 1;
    std::uint64_t attempt = 0;
    bool active = false;
    bool of_jobs = false;
    bool follow = false;
    bool is_operator = false;
    bool is_gateway = false;
};

Output output_of(const std::string& word) {
    if (word == "json") return Output::json;
    if (word == "jsonl") return Output::jsonl;
    if (word == "name") return Output::name;
    if (word == "csv") return Output::csv;
    return word == "wide" ? Output::wide : Output::table;
}

/// Of one object both are the same: it is one line.
bool is_json(Output output) { return output == Output::json || output == Output::jsonl; }

/// One job as it was asked for: the server's own bytes, its name, or as `print` shows it to people.
int print_one(const Asked& asked, const std::string& body, const Json& job, void (*print)(const Json&)) {
    const auto output = output_of(asked.output);
    if (is_json(output)) return std::fwrite(body.data(), 1, body.size(), stdout), 0;
    if (output == Output::name) return fmt::print("{}\n", job["name"].text), 0;
    return print(job), 0;
}

/// Hands a good reply to `show`.
template <class Show>
int tell(const Asked& asked, const Result<HttpReply>& reply, Show show) {
    if (!reply) return fail_with(reply.error());
    if (reply->status >= 300) return explain_failure(reply->status, reply->body, asked.file);
    const auto json = api::parse_json(reply->body);
    if (!json)
        return fail_with({Fault::malformed, "the control plane's reply cannot be read; is it of another version?"});
    return show(reply->body, *json);
}

template <class Show>
int ask(const Asked& asked, std::string_view method, const std::string& target, const std::string& body, Show show) {
    return tell(asked, Client{asked.state}.call(method, target, body), show);
}

int list(Asked& asked, const std::string& target, const std::vector<Column>& columns) {
    const auto output = output_of(asked.output);
    if (output == Output::json) {  // the server's own bytes, not parsed
        const auto reply = Client{asked.state}.call("GET", target);
        if (!reply) return fail_with(reply.error());
        if (reply->status >= 300) return explain_failure(reply->status, reply->body);
        std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
        return 0;
    }
    return ask(asked, "GET", target, {}, [&](const std::string& body, const Json& rows) {
        print_rows(body, rows, columns, output);
        return 0;
    });
}

std::string job_target(const Asked& asked, std::string_view verb = {}) {
    return "/api/v1/jobs/" + escaped(asked.reference) + (verb.empty() ? "" : "/" + std::string{verb});
}

int submit(Asked& asked) {
    const auto source = read_job_source(asked.file);
    if (!source) return fail_with(source.error());
    asked.file = source->name;  // as the control plane's sentences name it
    const auto& text = source->text;
    if (const auto bad = first_bad_utf8(text); bad != text.size()) {
        const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
        print_error("{}:{}: file: not UTF-8; save the file as UTF-8\n", asked.file, line);
        return 2;
    }
    const auto environment = environment_json();
    if (!environment) return fail_with(environment.error());
    std::string body = "{\"yaml\":";
    json_string(body, text);
    body += ",\"file\":";
    json_string(body, asked.file);
    body += ",\"folder\":";
    json_string(body, source->folder);
    body += ",\"environment\":" + *environment + "}";
    return tell(asked, post_once(asked.state, "/api/v1/jobs", body), [&](const std::string& reply, const Json& job) {
        const auto name = job["name"].text;
        if (is_json(output_of(asked.output))) return std::fwrite(reply.data(), 1, reply.size(), stdout), 0;
        if (output_of(asked.output) == Output::name) return fmt::print("{}\n", name), 0;
        if (const auto endpoints = job["endpoints"].whole; endpoints > 0) {
            fmt::print(
                "job {0} `{1}` accepted: requests go to {2}, as long as {3}\n"
                "  stargate show {0}      which of them answer\n"
                "  stargate cancel {0}    no request goes there any more; the servers go on\n",
                job["id"].whole, name, endpoints == 1 ? "its endpoint" : fmt::format("its {} endpoints", endpoints),
                endpoints == 1 ? "it answers" : "they answer");
            return 0;
        }
        const auto count = job["count"].whole;
        fmt::print("job {} `{}` accepted{}\n", job["id"].whole, name,
                   count > 1 ? fmt::format(": {} elements, {}[0] to {}[{}]", count, name, name, count - 1) : "");
        fmt::print(
            "  stargate why {0}       what it waits for\n  stargate logs -f {0}   its output\n"
            "  stargate cancel {0}    end it\n",
            job["id"].whole);
        return 0;
    });
}

int act(Asked& asked, std::string_view verb, std::string_view past, const std::string& body = {}) {
    return ask(asked, "POST", job_target(asked, verb), body, [&](const std::string& reply, const Json&) {
        if (is_json(output_of(asked.output))) return std::fwrite(reply.data(), 1, reply.size(), stdout), 0;
        fmt::print("{} {}\n", asked.reference, past);
        return 0;
    });
}

/// Cancelled jobs that run have their grace: it would be untrue to call them cancelled yet.
int cancel(Asked& asked) {
    return ask(asked, "POST", job_target(asked, "cancel"), {}, [&](const std::string& reply, const Json& done) {
        if (is_json(output_of(asked.output))) return std::fwrite(reply.data(), 1, reply.size(), stdout), 0;
        const auto active = done["active"].whole;
        if (active == 0) {
            fmt::print("{} is cancelled\n", asked.reference);
        } else if (done["jobs"].items.size() <= 1) {
            fmt::print("{} is told to end, and killed if it is still there after its grace\n", asked.reference);
        } else {
            fmt::print("{} is cancelled; {} of {} elements {} after {} grace\n", asked.reference, active,
                       done["jobs"].items.size(),
                       active == 1 ? "is told to end, and killed if it is still there"
                                   : "are told to end, and killed if they are still there",
                       active == 1 ? "its" : "their");
        }
        return 0;
    });
}

Accounting accounting_of(const Asked& asked) {
    return {asked.state, asked.since, asked.until, asked.user, asked.tenant, asked.limit, output_of(asked.output)};
}

int token(Asked& asked) {
    std::ifstream file{asked.state + "/token"};
    std::string text;
    if (!std::getline(file, text) || text.empty()) {
        print_error("stargate: {0}/token {1}\n", asked.state,
                    file.is_open() ? "is empty; remove it, and the next `stargate up` makes a new one"
                                   : "cannot be read; it is its owner's, made when the control plane first starts");
        return 1;
    }
    fmt::print("{}\n", text);
    return 0;
}

int create_token(Asked& asked) {
    std::string body = "{\"name\":";
    json_string(body, asked.name.empty() ? "token" : asked.name);
    body += fmt::format(",\"operator\":{},\"gateway\":{}", asked.is_operator, asked.is_gateway);
    if (!asked.tenant.empty()) {
        body += ",\"tenant\":";
        json_string(body, asked.tenant);
    }
    body += "}";
    return ask(asked, "POST", "/api/v1/tokens", body,
               [](const std::string&, const Json& reply) { return fmt::print("{}\n", reply["token"].text), 0; });
}

/// `a,b` as a list of JSON texts.
std::string json_words(const std::string& words) {
    std::string out = "[";
    for (std::size_t from = 0; from <= words.size();) {
        const auto comma = std::min(words.find(',', from), words.size());
        if (out.size() > 1) out += ",";
        json_string(out, words.substr(from, comma - from));
        from = comma + 1;
    }
    return out + "]";
}

/// Only what was said is sent: the rest stays as it is.
int edit(Asked& asked) {
    std::string body;
    const auto add = [&](const char* member, const std::string& json) {
        body += fmt::format("{}\"{}\":{}", body.empty() ? "{" : ",", member, json);
    };
    for (const auto& [member, text] :
         {std::pair{"priority", asked.priority}, std::pair{"time", asked.time}, std::pair{"gpus", asked.size}}) {
        if (text.empty()) continue;
        std::string quoted;
        json_string(quoted, text);
        add(member, quoted);
    }
    if (!asked.after.empty()) add("after", asked.after == "none" ? "[]" : json_words(asked.after));
    if (body.empty()) {
        print_error("stargate edit: nothing to change; name --priority, --time, --gpus or --after\n");
        return 2;
    }
    return ask(asked, "PATCH", job_target(asked), body + "}", [&](const std::string& reply, const Json& done) {
        if (is_json(output_of(asked.output))) return std::fwrite(reply.data(), 1, reply.size(), stdout), 0;
        const auto count = done["jobs"].items.size();
        fmt::print("{} is changed{}\n", asked.reference,
                   count > 1 ? fmt::format(": all of its {} elements", count) : "");
        return 0;
    });
}

/// A quota as it is sent: a number, or null for `none`.
Result<std::string> quota_json(const std::string& text) {
    if (text == "none") return "null";
    double gpus = 0;
    const auto* end = text.data() + text.size();
    const auto [read_to, bad] = std::from_chars(text.data(), end, gpus);
    if (bad != std::errc{} || read_to != end || !(gpus >= 0 && gpus <= 1e9)) {
        return fail(Fault::malformed,
                    fmt::format("--quota {}: no number of GPUs; give one from 0 on, or `none` for no limit", text));
    }
    return fmt::format("{}", gpus);
}

/// Only what was said is sent: the rest stays as it is.
int set_tenant(Asked& asked) {
    std::string body;
    const auto add = [&](const char* member, const std::string& json) {
        body += fmt::format("{}\"{}\":{}", body.empty() ? "{" : ",", member, json);
    };
    if (!asked.quota.empty()) {
        const auto quota = quota_json(asked.quota);
        if (!quota) return fail_with(quota.error());
        add("quota", *quota);
    }
    if (asked.weight != 0) add("weight", std::to_string(asked.weight));
    if (!asked.classes.empty()) add("priorities", json_words(asked.classes));
    if (!asked.members.empty()) add("members", asked.members == "all" ? "[]" : json_words(asked.members));
    std::string path;
    for (std::size_t from = 0; from <= asked.name.size();) {
        const auto slash = std::min(asked.name.find('/', from), asked.name.size());
        path += "/" + escaped(asked.name.substr(from, slash - from));
        from = slash + 1;
    }
    return ask(asked, "PUT", "/api/v1/tenants" + path, body.empty() ? "{}" : body + "}",
               [&](const std::string&, const Json&) { return fmt::print("tenant {} is set\n", asked.name), 0; });
}

int revoke_token(Asked& asked) {
    return ask(asked, "DELETE", "/api/v1/tokens/" + escaped(asked.reference), {}, [&](const std::string&, const Json&) {
        fmt::print("token {} is revoked: it opens nothing any more\n", asked.reference);
        return 0;
    });
}

/// What a command is asked to have besides GPUs, as members of its request.
std::vector<std::pair<std::string, std::string>> further_members(const Asked& asked, const std::string& name) {
    std::vector<std::pair<std::string, std::string>> members;
    const auto add = [&](const char* member, const std::string& value) {
        if (!value.empty()) members.emplace_back(member, value);
    };
    add("name", name);
    add("priority", asked.priority);
    add("time", asked.time);
    add("sandbox", asked.sandbox);
    add("tenant", asked.tenant);
    return members;
}

int run_command(Asked& asked) {
    RunOptions options;
    options.state = asked.state;
    options.command = asked.command;
    options.gpus = asked.gpus;
    options.count = asked.count;
    options.more = further_members(asked, asked.name);
    return run(options);
}

int open_shell(Asked& asked) {
    const bool asks = !asked.command.empty() || asked.gpus != "1" || !further_members(asked, asked.name).empty();
    if (!asked.reference.empty() && asks) {
        return fail_with({Fault::malformed, "--attach takes up what runs already as it is; leave the rest out"});
    }
    ShellOptions options;
    options.state = asked.state;
    options.attach = asked.reference;
    options.command = asked.command;
    options.gpus = asked.gpus;
    options.more = further_members(asked, asked.name.empty() && asked.command.empty() ? "shell" : asked.name);
    return shell(options);
}

/// The command that follows `--`. Without it a word that is no option of ours begins it; with it one must stand before.
std::vector<std::string> command_after(const CLI::App& verb, const std::vector<std::string>& command) {
    auto words = verb.remaining();
    if (!words.empty() && (!command.empty() || words.front().substr(0, 1) == "-")) {
        throw CLI::ExtrasError{{words.front()}};
    }
    words.insert(words.end(), command.begin(), command.end());
    return words;
}

}  // namespace

std::string default_state() {
    if (const char* named = std::getenv("STARGATE_STATE"); named != nullptr && *named != '\0') return named;
    const char* home = std::getenv("HOME");
    if (::geteuid() == 0 || home == nullptr) return "/var/lib/stargate";
    return std::string{home} + "/.local/state/stargate";
}

void add_state(CLI::App& verb, std::string& state) {
    verb.add_option("--state", state, "the state folder; else STARGATE_STATE")
        ->capture_default_str()
        ->type_name("FOLDER")
        ->check([](const std::string& folder) { return folder.empty() ? "is empty; name a folder" : ""; }, "");
}

void add_verbs(CLI::App& app, std::function<int()>& action, const std::vector<std::string>& command) {
    auto asked = std::make_shared<Asked>();
    const auto verb = [&](const char* name, const char* what, const char* example, const std::function<int()>& does) {
        auto* sub = app.add_subcommand(name, what);
        sub->footer(std::string{"Example: stargate "} + example);
        add_state(*sub, asked->state);
        sub->callback([&action, does, asked, sub] {
            if (sub->get_subcommands().empty()) action = does;
        });
        return sub;
    };
    const auto output_as = [&](CLI::App* sub, const std::vector<std::string>& forms) {
        sub->add_option("-o,--output", asked->output, fmt::format("{}", fmt::join(forms, ", ")))
            ->check(CLI::IsMember(forms));
        return sub;
    };
    const auto output = [&](CLI::App* sub) { return output_as(sub, {"table", "wide", "json", "jsonl", "name"}); };
    const auto on_job = [&](CLI::App* sub) {
        sub->add_option("job", asked->reference, "a job's id or name; of several, the newest unfinished")->required();
        return sub;
    };
    /// Of what was done to a job nothing but the control plane's answer can be told.
    const auto act_on_job = [&](CLI::App* sub) { return output_as(on_job(sub), {"table", "json", "jsonl"}); };
    Asked& a = *asked;

    auto* run_verb = verb("run", "run a command here and now, and wait for it; its standard input is /dev/null",
                          "run -g 2 -- python3 train.py", [&a] { return run_command(a); });
    run_verb->add_option("-g,--gpus", a.gpus, "GPUs: 1, 1..4 (elastic), 0, or 0.5 of one")->capture_default_str();
    check_whole(
        run_verb->add_option("--count", a.count, "run it so many times, as an array; STARGATE_TASK tells which"), 1,
        std::numeric_limits<int>::max());
    const auto asks_for = [&](CLI::App* sub) {
        sub->add_option("--name", a.name, "a name for people");
        sub->add_option("--priority", a.priority, "opportunistic, research, production or serving");
        sub->add_option("-t,--time", a.time, "time limit, as 30m or 2h");
        sub->add_option("--sandbox", a.sandbox, "default, strict or none");
        sub->add_option("--tenant", a.tenant, "who is charged");
    };
    asks_for(run_verb);
    run_verb->prefix_command();  // what follows is the command's own
    run_verb->footer("The command follows --.\nExample: stargate run -g 2 -- python3 train.py");
    run_verb->callback([&action, &a, &command, run_verb, asked] {
        a.command = command_after(*run_verb, command);
        if (a.command.empty()) throw CLI::RequiredError{"a command after --"};
        action = [&a, asked] { return run_command(a); };
    });

    auto* shell_verb =
        verb("shell", "a shell where the GPUs are, at this terminal; ~. at the beginning of a line leaves it running",
             "shell -g 1 --time 2h", [&a] { return open_shell(a); });
    shell_verb->add_option("-g,--gpus", a.gpus, "GPUs: 1, 0, or 0.5 of one")->capture_default_str();
    asks_for(shell_verb);
    shell_verb->add_option("--attach", a.reference, "one that runs already, by its job's id or name");
    shell_verb->prefix_command();
    shell_verb->footer("A command of your own follows --.\nExample: stargate shell -g 1 --time 2h");
    shell_verb->callback([&action, &a, &command, shell_verb, asked] {
        a.command = command_after(*shell_verb, command);
        action = [&a, asked] { return open_shell(a); };
    });

    auto* submit_verb = output(verb("submit", "hand in a job file", "submit train.yaml", [&a] { return submit(a); }));
    submit_verb->add_option("file", a.file, "the job file (docs/job-file.md); - reads it from standard input")
        ->required();

    auto* jobs = output(verb("jobs", "list jobs, newest first", "jobs --active", [&a] {
        return list(a, fmt::format("/api/v1/jobs?limit={}&active={}", a.limit, a.active ? 1 : 0), job_columns());
    }));
    jobs->add_flag("--active", a.active, "without the finished ones");
    check_whole(jobs->add_option("--limit", a.limit, "rows at most"), 1, 100'000);

    verb("top", "the fleet and its jobs, live; q or Ctrl-C leaves it", "top", [&a] { return top(a.state); });
    output(verb("fleet", "list nodes", "fleet -o wide", [&a] { return list(a, "/api/v1/fleet", node_columns()); }));
    output(verb("services", "list services: replicas, demand, lent GPUs", "services",
                [&a] { return list(a, "/api/v1/services", service_columns()); }));
    const auto bounds = [&](CLI::App* sub) {
        sub->add_option("--since", a.since,
                        "ended since then: 7d ago, or a date, as 2026-11-28 or \"2026-11-28 13:00\"");
        sub->add_option("--until", a.until, "ended before then");
        sub->add_option("--user", a.user, "whose jobs: a name or a uid");
        sub->add_option("--tenant", a.tenant, "of this tenant and those below it");
        return sub;
    };
    auto* usage = output_as(
        verb("usage", "what tenants have used: tokens of services, or GPU-hours of jobs", "usage --jobs --since 30d",
             [&a] {
                 if (a.of_jobs) return usage_of_jobs(accounting_of(a));
                 return list(a, "/api/v1/usage", usage_columns());
             }),
        {"table", "wide", "json", "jsonl", "name", "csv"});
    auto* of_jobs = usage->add_flag("--jobs", a.of_jobs, "GPU-hours of jobs that have ended, by tenant and user");
    for (auto* option : bounds(usage)->get_options([](const CLI::Option* each) {
             const auto name = each->get_single_name();
             return name == "since" || name == "until" || name == "user" || name == "tenant";
         })) {
        option->needs(of_jobs);
    }
    auto* history_verb =
        bounds(output_as(verb("history", "jobs that have ended, and what they used; the last one first",
                              "history --since 7d -o csv", [&a] { return history(accounting_of(a)); }),
                         {"table", "wide", "json", "jsonl", "name", "csv"}));
    check_whole(history_verb->add_option("--limit", a.limit, "rows at most"), 1, 100'000);
    auto* tenants = output(verb("tenants", "list tenants: quota, use and weight", "tenants",
                                [&a] { return list(a, "/api/v1/tenants", tenant_columns()); }));
    auto* set = tenants->add_subcommand("set", "make a tenant, or change what you name of it");
    set->footer("What is not said stays as it is.\nExample: stargate tenants set lab/nlp --quota 4 --members ada,ben");
    add_state(*set, a.state);
    set->add_option("name", a.name, "path, as lab/nlp")->required();
    set->add_option("--quota", a.quota, "GPUs held at once, or none");
    check_whole(set->add_option("--weight", a.weight, "of fair share among siblings, 1 at first"), 1, 1'000'000);
    set->add_option("--classes", a.classes, "priority classes it may use, as research,opportunistic");
    set->add_option("--members", a.members, "users who may use it and what is below it, as ada,ben; or all");
    set->callback([&action, &a, asked] { action = [&a, asked] { return set_tenant(a); }; });

    output(on_job(verb("show", "all about one job", "show train", [&a] {
        return ask(a, "GET", job_target(a), {},
                   [&](const std::string& body, const Json& job) { return print_one(a, body, job, print_job); });
    })));
    output(on_job(verb("why", "everything that keeps a job from running, and what to do", "why train", [&a] {
        return ask(a, "GET", job_target(a, "why"), {},
                   [&](const std::string& body, const Json& why) { return print_one(a, body, why, print_why); });
    })));
    auto* logs_verb = on_job(verb("logs", "a job's output", "logs -f train", [&a] {
        return logs({a.state, a.reference, a.follow, a.attempt});
    }));
    logs_verb->add_flag("-f,--follow", a.follow, "until it ends");
    check_whole(logs_verb->add_option("--attempt", a.attempt, "of the attempt of this id instead of the newest"), 1);
    act_on_job(verb("cancel", "end a job, with its grace", "cancel train", [&a] { return cancel(a); }));
    act_on_job(verb("hold", "keep a waiting job waiting, or requests from endpoints", "hold train",
                    [&a] { return act(a, "hold", "is held"); }));
    act_on_job(
        verb("release", "let a held job run", "release train", [&a] { return act(a, "release", "is released"); }));
    auto* edit_verb = act_on_job(verb("edit", "change what a job, or an array as a whole, asks for",
                                      "edit train --priority production --time 4h", [&a] { return edit(a); }));
    edit_verb->add_option("--priority", a.priority, "opportunistic, research, production or serving");
    edit_verb->add_option("--time", a.time, "time limit, as 30m or 2h; of what runs from its start on");
    edit_verb->add_option("--gpus", a.size, "4, or 1..8; of what runs only if it is elastic");
    edit_verb->add_option("--after", a.after, "names of jobs that must succeed first, as prepare,data; or none");
    auto* resize = act_on_job(verb("resize", "ask an elastic job to run at another size", "resize train 2", [&a] {
        return act(a, "resize",
                   a.count == 0 ? "takes as many GPUs as it can have"
                                : fmt::format("is asked to run at {} GPU{}", a.count, a.count == 1 ? "" : "s"),
                   fmt::format("{{\"gpus\":{}}}", a.count));
    }));
    check_whole(resize->add_option("gpus", a.count, "GPUs; 0: as many as can be had")->required(), 0, 10'000'000);

    const auto drain = [&](const char* name, const char* what, const char* past) {
        auto* sub = verb(name, what, name == std::string{"drain"} ? "drain node7" : "undrain node7", [&a, name, past] {
            return ask(a, "POST", "/api/v1/fleet/" + escaped(a.reference) + "/" + name, {},
                       [&](const std::string&, const Json&) { return fmt::print("{} {}\n", a.reference, past), 0; });
        });
        sub->add_option("node", a.reference, "a node's name")->required();
    };
    drain("drain", "start nothing more on a node", "takes no more work; what runs there goes on");
    drain("undrain", "let a node take work again", "takes work again");

    auto* events_verb = verb("events", "every fact, in order", "events -f", [&a] {
        return events({a.state, a.from, a.follow, output_of(a.output)});
    });
    output_as(events_verb, {"table", "json", "jsonl"});
    events_verb->add_flag("-f,--follow", a.follow, "and what comes");
    check_whole(events_verb->add_option("--from", a.from, "the seq to begin with"), 1);

    auto* token_verb =
        verb("token", "print the owner's token for the loopback API", "token", [&a] { return token(a); });
    auto* create = token_verb->add_subcommand("create", "make a new token and print it, once");
    create->footer("Example: stargate token create --name ci");
    add_state(*create, a.state);
    auto* tokens = token_verb->add_subcommand("list", "list all tokens but the owner's");
    tokens->footer("Example: stargate token list");
    add_state(*tokens, a.state);
    output(tokens);
    tokens->callback(
        [&action, &a, asked] { action = [&a, asked] { return list(a, "/api/v1/tokens", token_columns()); }; });
    auto* revoke = token_verb->add_subcommand("revoke", "take a token's force away, at once");
    revoke->footer("Example: stargate token revoke 3f9c0a1b2c4d");
    add_state(*revoke, a.state);
    revoke->add_option("id", a.reference, "as `token list` shows it")->required();
    revoke->callback([&action, &a, asked] { action = [&a, asked] { return revoke_token(a); }; });
    create->add_option("--name", a.name, "what it is for");
    auto* is_operator = create->add_flag("--operator", a.is_operator, "it may do what operators may");
    auto* is_gateway =
        create->add_flag("--gateway", a.is_gateway, "a key for clients of the gateway, and nothing else");
    is_gateway->excludes(is_operator);
    create->add_option("--tenant", a.tenant, "whose services the key opens; default: default")->needs(is_gateway);
    create->callback([&action, &a, asked] { action = [&a, asked] { return create_token(a); }; });
}

}  // namespace stargate::cli
