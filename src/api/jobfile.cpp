#include "api/jobfile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "api/endpoints.hpp"
#include "api/mount_rules.hpp"
#include "api/words.hpp"
#include "base/names.hpp"
#include "base/spelling.hpp"
#include "base/yaml.hpp"

namespace stargate::api {

namespace {

/// Reads the fields of one file into a job. Keeps the first error and skips everything after it.
class JobReader {
public:
    explicit JobReader(const JobFileSetting& setting) : setting_{setting} {
        auto& spec = job_.submit.spec;
        spec.time_limit = default_time_limit;
        spec.grace = default_grace;
        spec.owner = setting.owner;
        job_.submit.tenant = default_tenant;
        job_.launch.account = setting.account;
        job_.launch.folder = setting.folder;
    }

    Result<ParsedJob> read(const YamlNode& root) {
        if (root.kind != YamlNode::Kind::map) {
            reject(root.line, whole_file, "holds no fields; write `kind: batch`, `name: ...` and `run: ...`");
            return result();
        }
        read_kind(root);
        // `dir` first: other paths are relative to it.
        if (const auto* dir = root.find("dir")) job_.launch.folder = path(*dir, "dir", setting_.folder);
        for (const auto& [key, value] : root.members) {
            read_field(key, value);
            job_.lines[key.text] = key.line;
        }
        job_.file = presentable(setting_.file);
        finish_sweep(root);
        finish_service(root);
        require(root, "name", !job_.submit.spec.name.empty());
        require_servers(root);
        if (!job_.launch.argv.empty() && !job_.launch.shell.empty()) {
            reject(root.line, "run", "stands beside `command`; write one of them");
        }
        if (!job_.launch.mounts.empty() && job_.launch.sandbox == Sandbox::none) {
            reject(job_.lines["mounts"], "mounts",
                   "are made by the sandbox, and `sandbox: none` has none; leave one of them out");
        }
        return result();
    }

private:
    using Handler = void (JobReader::*)(const YamlNode&);
    struct Field {
        std::string_view name;
        Handler read;
    };
    static const std::vector<Field>& fields();

    void reject(int line, std::string_view field, const std::string& what) {
        if (failed_) return;
        failed_ = true;
        error_ = presentable(fmt::format("{}:{}: {}: {}", setting_.file, line, field, what));
    }
    Result<ParsedJob> result() {
        if (failed_) return fail(Fault::malformed, error_);
        return std::move(job_);
    }
    /// Something to run, or, of a service, servers that run already.
    void require_servers(const YamlNode& root) {
        if (!job_.launch.argv.empty() || !job_.launch.shell.empty()) return;
        if (!job_.submit.service) return require(root, "run", false);
        if (job_.submit.service->is_external()) return;
        reject(root.line, "run",
               "is missing; write `run: ...` with a server that listens on $PORT, or, for servers that run already, "
               "`endpoints: [http://HOST:PORT]`");
    }
    void require(const YamlNode& root, std::string_view field, bool is_there) {
        if (!is_there) reject(root.line, field, fmt::format("is missing; every job has one, write `{}: ...`", field));
    }

    void read_kind(const YamlNode& root) {
        const auto* kind = root.find("kind");
        if (kind == nullptr) {
            return reject(root.line, "kind", "is missing; write `kind: training` or `kind: batch`");
        }
        const auto word = text(*kind, "kind");
        if (const auto known = from_name<Kind>(word)) {
            job_.submit.spec.kind = *known;
            if (*known == Kind::service) begin_service();
        } else {
            reject(kind->line, "kind",
                   fmt::format("`{}` is no kind of work{}; write training, batch, shell or service", word,
                               did_you_mean(word, {"training", "batch", "shell", "service"})));
        }
    }
    /// What is otherwise for a service than for work that ends.
    void begin_service() {
        job_.submit.service.emplace();
        spec().priority = PriorityClass::serving;
        spec().time_limit = longest_time_limit;  // shown nowhere: replicas have none
        spec().require = Level::node;
        spec().one_rank_a_node = job_.launch.one_rank_a_node = true;  // a server is one process, on all of its GPUs
        spec().grace = default_drain;
    }
    void finish_service(const YamlNode& root) {
        constexpr std::array<std::string_view, 6> of_services{"replicas", "slo",   "max_concurrency",
                                                              "drain",    "model", "endpoints"};
        constexpr std::array<std::string_view, 9> of_others{"time",  "count",  "after",   "topology",  "sweep",
                                                            "ranks", "resize", "retries", "checkpoint"};
        const bool is_service = job_.submit.service.has_value();
        for (const auto& [key, value] : root.members) {
            const auto is_key = [&key = key](std::string_view field) { return field == key.text; };
            if (!is_service && std::any_of(of_services.begin(), of_services.end(), is_key)) {
                return reject(key.line, key.text, "is of services; write `kind: service`, or leave it out");
            }
            if (is_service && std::any_of(of_others.begin(), of_others.end(), is_key)) {
                return reject(key.line, key.text, "is of work that ends, and a service does not; leave it out");
            }
        }
        if (!is_service) return;
        if (job_.submit.service->is_external()) return finish_external(root);
        if (spec().is_elastic() || spec().share > 0) {
            return reject(job_.lines["gpus"], "gpus", "a replica has whole GPUs, always as many; write `gpus: 1`");
        }
        if (job_.launch.sandbox == Sandbox::strict) {
            return reject(job_.lines["sandbox"], "sandbox",
                          "`strict` has no network, and a replica is asked over it; leave it out");
        }
        const auto& service = *job_.submit.service;
        if (service.max < std::max(1, service.min)) {
            return reject(job_.lines["replicas"], "replicas", "`max` is smaller than `min`; write `{min: 1, max: 3}`");
        }
        job_.submit.count = service.max;
    }
    /// Its servers run already: nothing is said of how they are started, or of what they hold.
    void finish_external(const YamlNode& root) {
        constexpr std::array<std::string_view, 8> allowed{
            "kind", "name", "tenant", "model", "slo", "max_concurrency", "held", "endpoints"};
        for (const auto& [key, value] : root.members) {
            const auto is_key = [&key = key](std::string_view field) { return field == key.text; };
            if (std::any_of(allowed.begin(), allowed.end(), is_key)) continue;
            return reject(key.line, key.text,
                          "is of replicas that Stargate starts, and `endpoints` are servers that run already; leave "
                          "one of the two out");
        }
        spec().min_gpus = spec().max_gpus = GpuCount{0};
        job_.submit.count = 1;
    }
    void read_field(const YamlNode::Key& key, const YamlNode& value) {
        const auto& known = fields();
        const auto field = std::find_if(known.begin(), known.end(), [&](const Field& f) { return f.name == key.text; });
        if (field != known.end()) return (this->*field->read)(value);
        std::vector<std::string_view> names;
        for (const auto& f : known) names.push_back(f.name);
        unknown_key(key, "", names);
    }
    void unknown_key(const YamlNode::Key& key, std::string_view under, const std::vector<std::string_view>& names) {
        const auto hint = did_you_mean(key.text, names);
        const auto field = under.empty() ? key.text : fmt::format("{}.{}", under, key.text);
        reject(key.line, field, fmt::format("no such field{}; docs/job-file.md lists them all", hint));
    }

    /// A scalar's text; an error when there is none.
    std::string text(const YamlNode& node, std::string_view field) {
        if (node.kind == YamlNode::Kind::scalar && !node.text.empty()) return node.text;
        const auto* what = node.kind == YamlNode::Kind::sequence ? "a list"
                           : node.kind == YamlNode::Kind::map    ? "a group of fields"
                                                                 : "nothing";
        reject(node.line, field, fmt::format("{} stands where one value belongs; write `{}: VALUE`", what, field));
        return {};
    }
    template <class T>
    T word(const YamlNode& node, std::string_view field, Result<T> (*read_word)(std::string_view)) {
        const auto value = text(node, field);
        if (failed_) return {};
        auto got = read_word(value);
        if (!got) {
            reject(node.line, field, got.error().detail);
            return {};
        }
        return *got;
    }
    std::int32_t number(const YamlNode& node, std::string_view field, std::int32_t least, std::int32_t most) {
        const auto value = text(node, field);
        if (failed_) return least;
        std::int32_t got = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), got);
        if (error != std::errc{} || end != value.data() + value.size() || got < least || got > most) {
            reject(node.line, field, fmt::format("`{}` is no number from {} to {}; write one", value, least, most));
            return least;
        }
        return got;
    }
    bool yes_or_no(const YamlNode& node, std::string_view field) {
        const auto value = text(node, field);
        if (value == "true" || value == "false") return value == "true";
        reject(node.line, field, fmt::format("`{}` is neither true nor false; write one of them", value));
        return false;
    }
    std::string choice(const YamlNode& node, std::string_view field, const std::vector<std::string_view>& words) {
        auto value = text(node, field);
        if (std::find(words.begin(), words.end(), value) == words.end()) {
            reject(node.line, field,
                   fmt::format("`{}` is not known{}; write {} or {}", value, did_you_mean(value, words),
                               fmt::join(words.begin(), words.end() - 1, ", "), words.back()));
        }
        return value;
    }
    Duration time(const YamlNode& node, std::string_view field, Duration least, Duration most) {
        const auto value = word<Duration>(node, field, read_duration);
        if (!failed_ && (value < least || value > most)) {
            reject(node.line, field,
                   fmt::format("`{}` is out of range; write {}", node.text,
                               least > Duration{} ? "1s to 366d" : "0s to 1h"));
        }
        return value;
    }
    /// A list of words, or a single one.
    std::vector<std::string> words(const YamlNode& node, std::string_view field) {
        if (node.kind != YamlNode::Kind::sequence) return {text(node, field)};
        std::vector<std::string> all;
        for (const auto& item : node.items) all.push_back(text(item, field));
        return all;
    }
    /// Absolute, from `base` when it is not so already; `~` is the home of the account that the job runs as.
    std::string path(const YamlNode& node, std::string_view field, const std::string& base) {
        return absolute(text(node, field), node.line, field, base);
    }
    std::string absolute(std::string value, int line, std::string_view field, const std::string& base) {
        if (failed_) return {};
        if (value == "~" || value.substr(0, 2) == "~/") value.replace(0, 1, setting_.account.home);
        if (value.empty() || value[0] != '/') value = value == "." ? base : base + "/" + value;
        if (value.size() > 4000) reject(line, field, "a path of more than 4000 letters; write a shorter one");
        return value;
    }
    template <class Read>
    void each_member(const YamlNode& node, std::string_view field, const std::vector<std::string_view>& names,
                     Read read_member) {
        if (node.kind != YamlNode::Kind::map) {
            return reject(node.line, field,
                          fmt::format("a group of fields belongs here; write `{}: {{{}: ...}}`", field,
                                      names.empty() ? "NAME" : names.front()));
        }
        for (const auto& [key, value] : node.members) {
            if (!names.empty() && std::find(names.begin(), names.end(), key.text) == names.end()) {
                return unknown_key(key, field, names);
            }
            read_member(key, value);
        }
    }
    Level level(const YamlNode& node, std::string_view field) {
        std::vector<std::string_view> words;
        boost::mp11::mp_for_each<boost::describe::describe_enumerators<Level>>(
            [&](auto known) { words.emplace_back(known.name); });
        return from_name<Level>(choice(node, field, words)).value_or(Level::fleet);
    }

    void skip(const YamlNode&) {}
    void name(const YamlNode& node) {
        const auto value = text(node, "name");
        if (failed_) return;
        if (const auto fits = check_job_name(value); !fits) return reject(node.line, "name", fits.error().detail);
        spec().name = value;
    }
    void tenant(const YamlNode& node) {
        const auto value = text(node, "tenant");
        if (!failed_ && value.size() > 200) return reject(node.line, "tenant", "too long; write as `lab/nlp`");
        job_.submit.tenant = value;
    }
    void priority(const YamlNode& node) { spec().priority = word<PriorityClass>(node, "priority", read_priority); }
    void gpus(const YamlNode& node) {
        const auto value = text(node, "gpus");
        if (failed_) return;
        if (const auto fits = read_gpus(value, spec()); !fits) reject(node.line, "gpus", fits.error().detail);
    }
    void gpu_type(const YamlNode& node) {
        const auto asked = words(node, "gpu_type");  // any of these
        if (failed_) return;
        const auto& types = setting_.gpu_types;
        for (const auto& type : asked) {
            const auto at = std::find(types.begin(), types.end(), type);
            if (at != types.end()) spec().gpu_types |= GpuTypeBits{1} << (at - types.begin());
        }
        if (!asked.empty() && spec().gpu_types == 0) {
            reject(node.line, "gpu_type",
                   fmt::format("this fleet has no `{}`; it has {}", fmt::join(asked, "`, `"), fmt::join(types, ", ")));
        }
    }
    void cpus(const YamlNode& node) { spec().cpus_per_rank = word<MilliCpus>(node, "cpus", read_cpus); }
    void memory(const YamlNode& node) { spec().memory_per_rank = word<Bytes>(node, "memory", read_bytes); }
    void time_limit(const YamlNode& node) {
        spec().time_limit = time(node, "time", std::chrono::seconds{1}, longest_time_limit);
    }
    void topology(const YamlNode& node) {
        each_member(node, "topology", {"require", "prefer"}, [&](const YamlNode::Key& key, const YamlNode& value) {
            const auto wanted = level(value, "topology." + key.text);
            // The core always packs as closely as it can, which is what `prefer` asks for.
            if (key.text == "require") spec().require = wanted;
        });
    }
    void count(const YamlNode& node) { job_.submit.count = number(node, "count", 1, setting_.max_array); }
    void after(const YamlNode& node) {
        const auto names = words(node, "after");
        if (failed_) return;
        auto after = read_after(names);
        if (!after) return reject(node.line, "after", after.error().detail);
        job_.submit.after = std::move(*after);
    }
    void mounts(const YamlNode& node) {
        for (const auto& entry : words(node, "mounts")) {
            if (failed_) return;
            read_mount(node.line, entry);
        }
    }
    void read_mount(int line, const std::string& entry) {
        Mount mount;
        const auto colon = entry.find(':');
        auto target = colon == std::string::npos ? std::string{} : entry.substr(colon + 1);
        if (const auto flag = target.find(':'); flag != std::string::npos) {
            mount.read_only = target.substr(flag) == ":ro";
            if (!mount.read_only && target.substr(flag) != ":rw") target.clear();
            target = target.substr(0, std::min(flag, target.size()));
        }
        if (target.empty() || target[0] != '/' || (target + "/").find("/../") != std::string::npos) {
            return reject(line, "mounts",
                          fmt::format("`{}` is no mount; write `SOURCE:/TARGET` or `SOURCE:/TARGET:ro`", entry));
        }
        const auto place = read_mount_target(target, setting_.state);
        if (!place) return reject(line, "mounts", place.error().detail);
        mount.source = absolute(entry.substr(0, colon), line, "mounts", job_.launch.folder);
        mount.target = *place;
        const auto fits = check_mount_source(mount.source, setting_.state);
        if (!fits) return reject(line, "mounts", fits.error().detail);
        job_.launch.mounts.push_back(mount);
    }
    void env(const YamlNode& node) {
        each_member(node, "env", {}, [&](const YamlNode::Key& key, const YamlNode& value) {
            if (const auto fits = check_variable_name(key.text); !fits) {
                return reject(key.line, "env." + key.text, fits.error().detail);
            }
            if (value.kind == YamlNode::Kind::sequence || value.kind == YamlNode::Kind::map) {
                return reject(value.line, "env." + key.text, "a variable is one text; write it in quotes");
            }
            job_.launch.env.emplace_back(key.text, value.text);
        });
    }
    /// `{LR: [0.1, 0.01], SEED: [1, 2, 3]}`: six elements.
    void sweep(const YamlNode& node) {
        each_member(node, "sweep", {}, [&](const YamlNode::Key& key, const YamlNode& value) {
            const auto field = "sweep." + key.text;
            if (const auto fits = check_variable_name(key.text); !fits) {
                return reject(key.line, field, fits.error().detail);
            }
            const bool is_list = value.kind == YamlNode::Kind::sequence && !value.items.empty();
            const bool is_plain = std::all_of(value.items.begin(), value.items.end(),
                                              [](const YamlNode& item) { return item.kind == YamlNode::Kind::scalar; });
            if (!is_list || !is_plain) {
                return reject(value.line, field, fmt::format("no list of values; write `{}: [0.1, 0.01]`", key.text));
            }
            auto& variable = job_.launch.sweep.emplace_back();
            variable.name = key.text;
            for (const auto& item : value.items) variable.values.push_back(item.text);
        });
        if (job_.launch.sweep.empty()) reject(node.line, "sweep", "holds no variable; write `{LR: [0.1, 0.01]}`");
    }
    /// As many elements as there are combinations.
    void finish_sweep(const YamlNode& root) {
        if (root.find("sweep") == nullptr) return;
        const auto line = job_.lines["sweep"];
        if (root.find("count") != nullptr) {
            return reject(line, "sweep", "says how many elements there are, and so does `count`; leave that out");
        }
        std::int64_t count = 1;
        for (const auto& variable : job_.launch.sweep) {
            const bool is_twice = std::any_of(job_.launch.env.begin(), job_.launch.env.end(),
                                              [&](const auto& set) { return set.first == variable.name; });
            if (is_twice) return reject(line, "sweep." + variable.name, "stands in `env` too; leave it out of one");
            count *= static_cast<std::int64_t>(variable.values.size());
            if (count > setting_.max_array) {
                return reject(line, "sweep",
                              fmt::format("has more than {} combinations; write fewer values, or several files",
                                          setting_.max_array));
            }
        }
        job_.submit.count = static_cast<std::int32_t>(count);
    }
    void checkpoint(const YamlNode& node) {
        each_member(node, "checkpoint", {"dir", "grace"}, [&](const YamlNode::Key& key, const YamlNode& value) {
            if (key.text == "dir") {
                job_.launch.checkpoint_folder = path(value, "checkpoint.dir", job_.launch.folder);
            } else {
                spec().grace = time(value, "checkpoint.grace", Duration{}, longest_grace);
            }
        });
    }
    /// `3`, or `{min: 1, max: 8, standby: 2}`.
    void replicas(const YamlNode& node) {
        ServiceSpec scrap;
        auto& service = job_.submit.service ? *job_.submit.service : scrap;
        if (node.kind == YamlNode::Kind::scalar) {
            service.min = service.max = number(node, "replicas", 1, max_replicas);
            return;
        }
        bool has_max = false;
        each_member(node, "replicas", {"min", "max", "standby"}, [&](const YamlNode::Key& key, const YamlNode& value) {
            const auto count = number(value, "replicas." + key.text, key.text == "max" ? 1 : 0, max_replicas);
            (key.text == "min" ? service.min : key.text == "max" ? service.max : service.standby) = count;
            has_max = has_max || key.text == "max";
        });
        if (!has_max) service.max = std::max(service.min, 1) + service.standby;
    }
    /// How long a request may wait for its first token: `500ms`, or `{ttft_p95: 500ms}`.
    void slo(const YamlNode& node) {
        ServiceSpec scrap;
        auto& service = job_.submit.service ? *job_.submit.service : scrap;
        if (node.kind == YamlNode::Kind::scalar) {
            service.slo = time(node, "slo", Duration{}, longest_grace);
            return;
        }
        each_member(node, "slo", {"ttft_p95"}, [&](const YamlNode::Key&, const YamlNode& value) {
            service.slo = time(value, "slo.ttft_p95", Duration{}, longest_grace);
        });
    }
    void drain(const YamlNode& node) { spec().grace = time(node, "drain", Duration{}, longest_grace); }
    void max_concurrency(const YamlNode& node) {
        const auto most = number(node, "max_concurrency", 1, 100'000);
        if (job_.submit.service) job_.submit.service->max_concurrency = most;
    }
    void model(const YamlNode& node) {
        const auto value = text(node, "model");
        if (!failed_ && value.size() > 200) return reject(node.line, "model", "too long; write at most 200 letters");
        if (job_.submit.service) job_.submit.service->model = value;
    }
    void endpoints(const YamlNode& node) {
        ServiceSpec scrap;
        auto& all = (job_.submit.service ? *job_.submit.service : scrap).endpoints;
        const bool is_list = node.kind == YamlNode::Kind::sequence;
        for (const auto* each : is_list ? pointers_to(node.items) : std::vector{&node}) {
            const auto value = text(*each, "endpoints");
            if (failed_) return;
            const auto endpoint = read_endpoint(value);
            if (!endpoint) return reject(each->line, "endpoints", endpoint.error().detail);
            if (std::find(all.begin(), all.end(), *endpoint) != all.end()) {
                return reject(each->line, "endpoints",
                              fmt::format("{} is there twice; write each server once", url_of(*endpoint)));
            }
            all.push_back(*endpoint);
        }
        if (all.empty()) reject(node.line, "endpoints", "an empty list; write `[http://HOST:PORT]`");
        if (all.size() > max_endpoints) {
            reject(node.line, "endpoints",
                   fmt::format("{} servers, and {} is the most; put a balancer before some of them", all.size(),
                               max_endpoints));
        }
    }
    static std::vector<const YamlNode*> pointers_to(const std::vector<YamlNode>& items) {
        std::vector<const YamlNode*> all;
        for (const auto& item : items) all.push_back(&item);
        return all;
    }
    void retries(const YamlNode& node) { spec().retries = number(node, "retries", 0, 1000); }
    void run(const YamlNode& node) {
        if (node.kind == YamlNode::Kind::sequence) return argv(node, "run");
        job_.launch.shell = text(node, "run");
    }
    void argv(const YamlNode& node, std::string_view field) {
        for (const auto& item : node.items) {
            if (item.kind != YamlNode::Kind::scalar) {
                return reject(item.line, field, "a command is a list of words; write `[python3, train.py]`");
            }
            job_.launch.argv.push_back(item.text);
        }
        if (node.items.empty() || job_.launch.argv.front().empty()) {
            reject(node.line, field, "an empty command; write what to run");
        }
    }
    /// `run` as a list, under the name that says so.
    void command(const YamlNode& node) {
        if (node.kind == YamlNode::Kind::sequence) return argv(node, "command");
        reject(node.line, "command",
               "a command is a list of words; write `[python3, train.py]`, or `run:` for a shell");
    }
    void ranks(const YamlNode& node) {
        spec().one_rank_a_node = choice(node, "ranks", {"per_gpu", "per_node"}) == "per_node";
        job_.launch.one_rank_a_node = spec().one_rank_a_node;
    }
    void resize(const YamlNode& node) {
        spec().resize_in_place = choice(node, "resize", {"restart", "in_place"}) == "in_place";
        job_.launch.resize_in_place = spec().resize_in_place;
    }
    void sandbox(const YamlNode& node) { job_.launch.sandbox = word<Sandbox>(node, "sandbox", read_sandbox); }
    void held(const YamlNode& node) { job_.submit.held = yes_or_no(node, "held"); }
    void output_limit(const YamlNode& node) {
        job_.launch.output_limit = word<Bytes>(node, "output_limit", read_bytes);
    }
    void image(const YamlNode& node) {
        reject(node.line, "image",
               "containers are not run by this version yet; leave it out and use `mounts` and `env`");
    }

    JobSpec& spec() { return job_.submit.spec; }

    const JobFileSetting& setting_;
    ParsedJob job_;
    bool failed_ = false;
    std::string error_;
};

const std::vector<JobReader::Field>& JobReader::fields() {
    static const std::vector<Field> all{
        {"kind", &JobReader::skip},              // read before all others
        {"name", &JobReader::name},              //
        {"tenant", &JobReader::tenant},          //
        {"priority", &JobReader::priority},      //
        {"gpus", &JobReader::gpus},              //
        {"gpu_type", &JobReader::gpu_type},      //
        {"cpus", &JobReader::cpus},              //
        {"memory", &JobReader::memory},          //
        {"time", &JobReader::time_limit},        //
        {"topology", &JobReader::topology},      //
        {"count", &JobReader::count},            //
        {"after", &JobReader::after},            //
        {"dir", &JobReader::skip},               // read before other paths
        {"mounts", &JobReader::mounts},          //
        {"env", &JobReader::env},                //
        {"sweep", &JobReader::sweep},            //
        {"checkpoint", &JobReader::checkpoint},  //
        {"retries", &JobReader::retries},        //
        {"replicas", &JobReader::replicas},      //
        {"slo", &JobReader::slo},                //
        {"max_concurrency", &JobReader::max_concurrency},
        {"model", &JobReader::model},  //
        {"drain", &JobReader::drain},
        {"endpoints", &JobReader::endpoints},  //
        {"run", &JobReader::run},              //
        {"command", &JobReader::command},      //
        {"ranks", &JobReader::ranks},          //
        {"resize", &JobReader::resize},        //
        {"sandbox", &JobReader::sandbox},      //
        {"held", &JobReader::held},            //
        {"output_limit", &JobReader::output_limit},
        {"image", &JobReader::image},
    };
    return all;
}

}  // namespace

std::string ParsedJob::where(std::string_view field) const {
    if (file.empty() || field.empty()) return {};
    // `run` may be written `command`; what the file does not say at all is found wrong with it as a whole.
    if (field == "run" && lines.count("run") == 0 && lines.count("command") != 0) field = "command";
    const auto line = lines.find(std::string{field});
    return fmt::format("{}:{}: {}: ", file, line == lines.end() ? 1 : line->second, field);
}

Result<ParsedJob> parse_job_file(std::string_view text, const JobFileSetting& setting) {
    const auto root = parse_yaml(text, "job");
    if (!root) {
        const auto& [line, field, what] = root.error();
        return fail(Fault::malformed, presentable(fmt::format("{}:{}: {}: {}", setting.file, line, field, what)));
    }
    return JobReader{setting}.read(*root);
}

}  // namespace stargate::api
