#include "api/request_body.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/json.hpp"
#include "api/words.hpp"
#include "base/spelling.hpp"
#include "base/utf8.hpp"

namespace stargate::api {

namespace {

auto refuse(std::string_view field, std::string_view what) {
    return fail(Fault::malformed, fmt::format("{}: {}", field, what));
}

const std::vector<std::string_view> known_members{
    "yaml",   "file", "folder",  "environment", "argv", "name",  "gpus", "gpu_type", "count", "priority", "time",
    "memory", "cpus", "sandbox", "tenant",      "env",  "after", "held", "kind",     "ranks", "grace",    "terminal"};

/// Names of jobs to come after: a list, or one.
Result<std::vector<std::string>> names_in(const Json& after) {
    std::vector<std::string> names;
    for (const auto& item : after.kind == Json::Kind::list ? after.items : std::vector<Json>{after}) {
        if (item.kind != Json::Kind::text) return fail(Fault::malformed, "no name of a job; give [\"prepare\"]");
        names.push_back(item.text);
    }
    return read_after(names);
}

constexpr std::string_view time_out_of_range = "out of range; write 1s to 366d";
bool is_time_limit(Duration time) { return time >= std::chrono::seconds{1} && time <= longest_time_limit; }

/// A command given as JSON members. Keeps the first error.
class CommandReader {
public:
    CommandReader(const Json& body, const JobFileSetting& setting) : body_{body} {
        spec().owner = setting.owner;
        spec().time_limit = default_time_limit;
        spec().grace = default_grace;
        job_.launch.account = setting.account;
        job_.launch.folder = setting.folder;
        job_.submit.tenant = default_tenant;
    }

    Result<ParsedJob> read(const JobFileSetting& setting) {
        argv();
        name();
        word("gpus", [&](const std::string& text) { return read_gpus(text, spec()); });
        word("priority", [&](const std::string& text) { return put(spec().priority, read_priority(text)); });
        word("time", [&](const std::string& text) { return put(spec().time_limit, read_duration(text)); });
        word("grace", [&](const std::string& text) { return put(spec().grace, read_duration(text)); });
        word("memory", [&](const std::string& text) { return put(spec().memory_per_rank, read_bytes(text)); });
        word("cpus", [&](const std::string& text) { return put(spec().cpus_per_rank, read_cpus(text)); });
        word("sandbox", [&](const std::string& text) { return put(job_.launch.sandbox, read_sandbox(text)); });
        word("tenant", [&](const std::string& text) { return job_.submit.tenant = text, Result<void>{}; });
        word("kind", [&](const std::string& text) { return kind(text); });
        word("ranks", [&](const std::string& text) { return ranks(text); });
        word("count", [&](const std::string&) { return count(setting.max_array); });
        word("gpu_type", [&](const std::string& text) { return gpu_type(text, setting); });
        job_.submit.held = flag("held");
        terminal();
        env();
        after();
        if (!is_time_limit(spec().time_limit)) note("time", refuse_text(std::string{time_out_of_range}));
        if (spec().grace > longest_grace) note("grace", refuse_text("out of range; write 0s to 1h"));
        if (failed_) return tl::unexpected<Error>(error_);
        return std::move(job_);
    }

private:
    JobSpec& spec() { return job_.submit.spec; }
    static Result<void> refuse_text(std::string what) { return fail(Fault::malformed, std::move(what)); }
    template <class T>
    static Result<void> put(T& place, const Result<T>& value) {
        if (!value) return tl::unexpected<Error>(value.error());
        place = *value;
        return {};
    }
    void note(std::string_view field, const Result<void>& outcome) {
        if (outcome || failed_) return;
        failed_ = true;
        error_ = Error{Fault::malformed, fmt::format("{}: {}", field, outcome.error().detail)};
    }
    template <class Read>
    void word(std::string_view field, Read read_word) {
        const auto* value = body_.find(field);
        if (value == nullptr || value->kind == Json::Kind::null) return;
        if (value->kind != Json::Kind::text && value->kind != Json::Kind::number) {
            return note(field, refuse_text("one value belongs here; write a text or a number"));
        }
        note(field, read_word(value->word()));
    }
    void argv() {
        const auto* argv = body_.find("argv");
        if (argv == nullptr || argv->kind == Json::Kind::null) {
            return note("argv", refuse_text("is missing; give the command as a list of words"));
        }
        if (argv->kind != Json::Kind::list || argv->items.empty()) {
            return note("argv", refuse_text("no list of words; give [\"echo\", \"hello\"]"));
        }
        for (const auto& item : argv->items) {
            if (item.kind != Json::Kind::text || item.text.find('\0') != std::string::npos) {
                return note("argv", refuse_text("a command is a list of texts without NUL"));
            }
            job_.launch.argv.push_back(item.text);
        }
        if (job_.launch.argv.front().empty()) note("argv", refuse_text("an empty command; write what to run"));
    }
    void name() {
        word("name", [&](const std::string& text) { return spec().name = text, check_job_name(text); });
        if (spec().name.empty() && !job_.launch.argv.empty()) spec().name = name_of_command(job_.launch.argv.front());
    }
    bool flag(std::string_view field) {
        const auto* value = body_.find(field);
        if (value == nullptr || value->kind == Json::Kind::null) return false;
        if (value->kind != Json::Kind::boolean) note(field, refuse_text("neither true nor false; give one of them"));
        return value->boolean;
    }
    void terminal() {
        if (!flag("terminal")) return;
        if (spec().min_gpus != spec().max_gpus) {
            note("gpus", refuse_text("who types at a terminal has always as many; write `2`"));
        }
        for (const auto* field : {"count", "ranks"}) {
            if (body_.find(field) != nullptr) note(field, refuse_text("stands beside `terminal`, where one rank is"));
        }
        spec().retries = 0;  // nobody sits before the next one
        job_.launch.terminal = true;
        spec().one_rank_a_node = job_.launch.one_rank_a_node = true;
        if (body_.find("kind") == nullptr) spec().kind = Kind::shell;
    }
    /// The program's own name, made fit to be a job's.
    static std::string name_of_command(const std::string& program) {
        auto name = program.substr(program.find_last_of('/') + 1).substr(0, 63);
        for (char& c : name) {
            if (!check_job_name(std::string{'a', c})) c = '-';
        }
        return check_job_name(name) ? name : "run";
    }
    Result<void> kind(const std::string& text) {
        const auto known = from_name<Kind>(text);
        if (!known) return refuse_text(fmt::format("`{}` is no kind of work; write training, batch or shell", text));
        if (*known == Kind::service) return refuse_text("a service needs a job file; stargate submit FILE");
        spec().kind = *known;
        return {};
    }
    Result<void> ranks(const std::string& text) {
        if (text != "per_gpu" && text != "per_node") return refuse_text("write per_gpu or per_node");
        spec().one_rank_a_node = job_.launch.one_rank_a_node = text == "per_node";
        return {};
    }
    Result<void> count(std::int32_t most) {
        const auto& value = body_["count"];
        if (value.kind != Json::Kind::number || value.whole < 1 || value.whole > most) {
            return refuse_text(fmt::format("`{}` is no number from 1 to {}; write one", value.word(), most));
        }
        job_.submit.count = static_cast<std::int32_t>(value.whole);
        return {};
    }
    Result<void> gpu_type(const std::string& text, const JobFileSetting& setting) {
        const auto& types = setting.gpu_types;
        const auto at = std::find(types.begin(), types.end(), text);
        if (at == types.end()) {
            return refuse_text(fmt::format("this fleet has no `{}`; it has {}", text, fmt::join(types, ", ")));
        }
        spec().gpu_types = GpuTypeBits{1} << (at - types.begin());
        return {};
    }
    void env() {
        const auto* env = body_.find("env");
        if (env == nullptr || env->kind == Json::Kind::null) return;
        if (env->kind != Json::Kind::object) return note("env", refuse_text("no object; give {\"NAME\": \"value\"}"));
        for (const auto& [variable, value] : env->members) {
            note("env." + variable, check_variable_name(variable));
            if (value.kind != Json::Kind::text && value.kind != Json::Kind::number &&
                value.kind != Json::Kind::boolean) {
                note("env." + variable, refuse_text("a variable is one text; write it in quotes"));
            }
            if (value.text.find('\0') != std::string::npos)
                note("env." + variable, refuse_text("holds a NUL; remove it"));
            job_.launch.env.emplace_back(variable, value.word());
        }
    }
    void after() {
        const auto* after = body_.find("after");
        if (after != nullptr && after->kind != Json::Kind::null)
            note("after", put(job_.submit.after, names_in(*after)));
    }

    const Json& body_;
    ParsedJob job_;
    bool failed_ = false;
    Error error_;
};

/// What belongs to either form of a submit: texts, and an environment of texts. A job file says everything else itself.
Result<void> check_kinds(const Json& body) {
    const bool is_file = body.find("yaml") != nullptr;
    for (const auto& [name, value] : body.members) {
        const bool is_text = name == "yaml" || name == "file" || name == "folder";
        if (is_text && value.kind != Json::Kind::text) return refuse(name, "no text; write it in quotes");
        if (is_file && !is_text && name != "environment") {
            return refuse(name, "stands beside `yaml`; write it into the job file");
        }
    }
    const auto& environment = body["environment"];
    if (environment.kind == Json::Kind::null) return {};
    const auto is_text = [](const Json::Member& member) { return member.value.kind == Json::Kind::text; };
    if (environment.kind != Json::Kind::object ||
        !std::all_of(environment.members.begin(), environment.members.end(), is_text)) {
        return refuse("environment", "no object of texts; give {\"NAME\": \"value\"}");
    }
    return {};
}

/// The submitter's environment below what the job asks for.
void put_environment(const Json& environment, Launch& launch) {
    std::vector<std::pair<std::string, std::string>> whole;
    for (const auto& [name, value] : environment.members) {
        const bool fits = !name.empty() && name.find('=') == std::string::npos &&
                          name.find('\0') == std::string::npos && value.text.find('\0') == std::string::npos &&
                          name.substr(0, 9) != "STARGATE_";
        if (fits) whole.emplace_back(name, value.text);
    }
    whole.insert(whole.end(), launch.env.begin(), launch.env.end());
    launch.env = std::move(whole);
    launch.keep_environment = true;
}

/// One member of an edit.
Result<void> read_change(const Json::Member& member, Edit& edit) {
    const auto& [name, value] = member;
    const auto put = [](auto& place, auto read) -> Result<void> {
        if (!read) return tl::unexpected<Error>(read.error());
        place = std::move(*read);
        return {};
    };
    if (name == "after") return put(edit.after, names_in(value));
    if (value.kind != Json::Kind::text && value.kind != Json::Kind::number) {
        return fail(Fault::malformed, "one value belongs here; write a text or a number");
    }
    if (name == "priority") return put(edit.priority, read_priority(value.word()));
    if (name == "time") {
        const auto read = put(edit.time_limit, read_duration(value.word()));
        if (read && !is_time_limit(*edit.time_limit)) return fail(Fault::malformed, std::string{time_out_of_range});
        return read;
    }
    JobSpec spec;
    if (const auto read = read_gpus(value.word(), spec); !read) return read;
    if (spec.share > 0) return fail(Fault::malformed, "a part of a GPU is chosen at submit; write whole GPUs: 1, 1..4");
    edit.gpus = GpuRange{spec.min_gpus, spec.max_gpus};
    return {};
}

}  // namespace

Result<Edit> parse_edit(std::string_view body) {
    const std::vector<std::string_view> known{"priority", "time", "gpus", "after"};
    if (!is_utf8(body)) return refuse("body", "not UTF-8; send UTF-8");
    const auto json = parse_body(body);
    if (!json) return tl::unexpected<Error>(json.error());
    if (json->members.empty()) return refuse("body", "changes nothing; give priority, time, gpus or after");
    Edit edit;
    for (const auto& member : json->members) {
        if (std::find(known.begin(), known.end(), member.name) == known.end()) {
            return refuse(member.name, fmt::format("no such member{}; give priority, time, gpus or after",
                                                   did_you_mean(member.name, known)));
        }
        if (const auto read = read_change(member, edit); !read) return refuse(member.name, read.error().detail);
    }
    return edit;
}

Result<ParsedJob> parse_submit(std::string_view body, JobFileSetting setting, bool keep_environment) {
    if (!is_utf8(body)) return refuse("body", "not UTF-8; send UTF-8");
    const auto json = parse_body(body);
    if (!json) return tl::unexpected<Error>(json.error());
    for (const auto& member : json->members) {
        if (std::find(known_members.begin(), known_members.end(), member.name) == known_members.end()) {
            return refuse(member.name, fmt::format("no such member{}; docs/api.md lists them",
                                                   did_you_mean(member.name, known_members)));
        }
    }
    const auto kinds = check_kinds(*json);
    if (!kinds) return tl::unexpected<Error>(kinds.error());
    setting.folder = (*json)["folder"].text;
    if (setting.folder.empty() || setting.folder[0] != '/' || setting.folder.find('\0') != std::string::npos) {
        const auto* what = setting.folder.empty() ? "is missing" : "is no absolute path";
        return refuse("folder", fmt::format("{}; give the absolute folder where the job starts", what));
    }
    if (const auto* file = json->find("file"); file != nullptr && !file->text.empty()) setting.file = file->text;
    const auto* yaml = json->find("yaml");
    auto job = yaml != nullptr ? parse_job_file(yaml->text, setting) : CommandReader{*json, setting}.read(setting);
    const auto& environment = (*json)["environment"];
    if (job && keep_environment && environment.kind == Json::Kind::object) put_environment(environment, job->launch);
    return job;
}

}  // namespace stargate::api
