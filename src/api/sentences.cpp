#include "api/sentences.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/job_rows.hpp"
#include "base/names.hpp"
#include "core/policy/place.hpp"

namespace stargate::api {

namespace {

/// `train (job 7)`, or the bare id of one that left State.
std::string job_words(const Sight& sight, std::uint64_t id) {
    const auto& state = sight.state();
    const auto* job = state.find<Job>(JobId{id});
    if (job == nullptr) return fmt::format("job {}", id);
    if (!sight.may_see(state.spec_of(*job))) return "a job of another tenant";
    return fmt::format("{} (job {})", label_of(state, *job), id);
}

/// What to do about waiting for that job.
std::string look_at(const Sight& sight, std::uint64_t id) {
    const auto* job = sight.state().find<Job>(JobId{id});
    if (job != nullptr && !sight.may_see(sight.state().spec_of(*job))) return "wait";
    return fmt::format("look at that job: stargate why {}", id);
}

/// The argument of a verb that is to be used on it.
std::string reference_to(JobId job) { return job ? std::to_string(job.value) : "JOB"; }

std::string tenant_words(const State& state, std::uint64_t id) {
    const auto* row = state.find<TenantRow>(TenantId{id});
    return row == nullptr ? std::string{"its tenant"} : "tenant " + row->tenant.name;
}

/// The classes that a tenant may use, each with a comma behind.
std::string classes_of(const State& state, TenantId id) {
    std::string words;
    const auto* row = state.find<TenantRow>(id);
    for (std::size_t c = 0; row != nullptr && c < priority_classes; ++c) {
        const auto priority = static_cast<PriorityClass>(c);
        const bool may = (row->tenant.may_use & bit_of(priority)) != 0;
        if (may && priority != PriorityClass::system) words += fmt::format("{}, ", name_of(priority));
    }
    return words;
}

std::string node_words(const State& state, std::uint64_t id) {
    const auto* node = state.find<Node>(NodeId{id});
    return node == nullptr ? std::string{"any node"} : "node " + node->shape.name;
}

/// `1 GPU`, `0.5 GPUs`, `2 host CPUs`.
std::string count_words(double count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}
std::string gpu_words(std::int64_t count) { return count_words(static_cast<double>(count), "GPU"); }
std::string cpu_words(std::int64_t milli) { return count_words(static_cast<double>(milli) / 1000, "host CPU"); }
std::string milli_words(std::int64_t milli) { return count_words(static_cast<double>(milli) / 1000, "GPU"); }
std::string memory_words(std::int64_t bytes) {
    return fmt::format("{:.1f} GiB of host memory", static_cast<double>(bytes) / static_cast<double>(1LL << 30));
}

std::string type_words(const State& state, const JobSpec* spec) {
    if (spec == nullptr || spec->gpu_types == 0) return {};
    std::string words;
    const auto& names = state.settings().gpu_types;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if ((spec->gpu_types >> i & 1U) != 0) words += (words.empty() ? " of type " : " or ") + names[i];
    }
    return words;
}

/// What the job asks for of GPUs: `2 GPUs of type h100`, `0.5 GPUs`.
std::string needed_gpus(const State& state, const Refusal& why, const JobSpec* spec) {
    const bool is_share = spec != nullptr && spec->share > 0;
    return (is_share ? milli_words(spec->share) : gpu_words(why.need)) + type_words(state, spec);
}

Sentence never_fits(const State& state, const Refusal& why, const Subject& subject) {
    const auto* spec = subject.spec;
    if (subject.job && spec != nullptr && spec->is_elastic()) {  // a resize
        return {fmt::format("it runs on {} to {} GPUs", spec->min_gpus.count(), spec->max_gpus.count()),
                "choose a size within its range"};
    }
    if (why.about != 0) {
        return {fmt::format("it needs {}, more than {} may ever hold: {}", milli_words(why.need),
                            tenant_words(state, why.about), milli_words(why.have)),
                "ask for fewer GPUs, or for more quota"};
    }
    const bool in_one_node = spec != nullptr && spec->require == Level::node;
    return {fmt::format("it needs {}{}{}, more than there are: {}", gpu_words(why.need), type_words(state, spec),
                        in_one_node ? " in one node" : "", why.have),
            "ask for fewer GPUs, or for another type"};
}

/// Nodes of its GPU types that take no work now, by what would mend it.
struct Idle {
    std::vector<std::string> drained, silent;
};
Idle idle_nodes(const State& state, const JobSpec* spec) {
    Idle idle;
    state.table<Node>().for_each([&](const Node& node) {
        if (node.takes_work() || !allows(spec == nullptr ? 0 : spec->gpu_types, node.shape.gpu_type)) return;
        (node.reach == Reach::up ? idle.drained : idle.silent).push_back(node.shape.name);
    });
    return idle;
}

/// `node a`, `nodes a, b and 7 more`.
std::string node_list(const std::vector<std::string>& names) {
    constexpr std::size_t most = 3;
    auto words =
        std::string{names.size() == 1 ? "node " : "nodes "} +
        fmt::format("{}", fmt::join(names.begin(),
                                    names.begin() + static_cast<std::ptrdiff_t>(std::min(most, names.size())), ", "));
    if (names.size() > most) words += fmt::format(" and {} more", names.size() - most);
    return words;
}

Sentence node_down(const Sight& sight, const JobSpec* spec) {
    const auto idle = idle_nodes(sight.state(), spec);
    std::string what, action;
    if (!idle.drained.empty()) {
        what = fmt::format("{} {} drained", node_list(idle.drained), idle.drained.size() == 1 ? "is" : "are");
        action = fmt::format(
            "{}stargate undrain {}",
            sight.caller().is_operator ? "let it take work again: " : "ask an operator to: ", idle.drained.front());
    }
    if (!idle.silent.empty()) {
        if (!what.empty()) what += ", ";
        what += fmt::format("{} {} not answer", node_list(idle.silent), idle.silent.size() == 1 ? "does" : "do");
        if (action.empty()) action = "look at the nodes: stargate fleet";
    }
    if (what.empty()) return {"no node that could hold it takes work", "look at the nodes: stargate fleet"};
    return {"no node that takes work can hold it: " + what, action};
}

/// A reservation keeps a number of GPUs of the whole fleet, or one domain.
Sentence reserved(const Sight& sight, const Refusal& why, const JobSpec* spec) {
    const auto other = job_words(sight, why.about);
    constexpr std::string_view action = "give it a shorter time limit, so that it ends before: time: 1h";
    const auto* held = sight.state().find<Reservation>(JobId{why.about});
    if (why.need == 0 || held == nullptr || held->level != Level::fleet) {
        return {fmt::format("where it could run is kept for {}, which is ahead of it", other), std::string{action}};
    }
    return {
        fmt::format("starting it would delay {}, which is ahead of it: it needs {}, and {} to spare", other,
                    needed_gpus(sight.state(), why, spec), why.have == 1 ? "1 is" : fmt::format("{} are", why.have)),
        std::string{action}};
}

Sentence fragmented(const State& state, const Refusal& why, const JobSpec* spec) {
    const auto level = spec == nullptr ? Level::fleet : spec->require;
    const auto needs = needed_gpus(state, why, spec);
    const auto free = gpu_words(why.have) + (why.have == 1 ? " is free" : " are free");
    if (level == Level::fleet) {
        return {fmt::format("it needs {}; {}, but not on nodes that could hold it now", needs, free),
                "wait, or ask for less of each node: cpus: N, memory: NGB"};
    }
    return {fmt::format("it needs {} in one {}; {}, but not in one {}", needs, name_of(level), free, name_of(level)),
            "wait, or require a wider level: topology: {require: fleet}"};
}

Sentence host_is_full(const State& state, const Refusal& why, bool is_new) {
    const bool is_cpus = why.why == Why::no_cpus;
    const auto words = is_cpus ? cpu_words : memory_words;
    // A submit is refused for what the largest node has at all.
    return {fmt::format("it needs {}, and {} has {}{}", words(why.need), node_words(state, why.about), words(why.have),
                        is_new ? "" : " free"),
            fmt::format("{}ask for {}", is_new ? "" : "wait, or ", is_cpus ? "fewer: cpus: N" : "less: memory: NGB")};
}

Sentence quota_is_used_up(const State& state, const Refusal& why) {
    const auto* row = state.find<TenantRow>(TenantId{why.about});
    const auto quota = row == nullptr ? std::string{} : " of " + milli_words(row->tenant.quota);
    return {fmt::format("it needs {}, and {} has {:g} of its quota{} left", milli_words(why.need),
                        tenant_words(state, why.about), static_cast<double>(why.have) / 1000, quota),
            "wait for the tenant's own jobs, or ask for more quota"};
}

Sentence claim_is_pending(const Refusal& why) {
    constexpr auto action = "wait: others are ending for it";
    if (why.need == 0) return {"room on a host is promised to it, and not let go of yet", action};
    if (why.need == 1) return {"a GPU is promised to it, and not let go of yet", action};
    return {fmt::format("{} are promised to it, of which {} {} let go of by now", gpu_words(why.need), why.have,
                        why.have == 1 ? "is" : "are"),
            action};
}

/// `id` is the first that has not succeeded; of an array it is told how many have not.
Sentence comes_after(const Sight& sight, std::uint64_t id) {
    const auto& state = sight.state();
    const auto* job = state.find<Job>(JobId{id});
    const auto* array = job == nullptr ? nullptr : state.find<Spec>(job->spec);
    if (array == nullptr || array->count == 1 || !sight.may_see(array->spec)) {
        return {fmt::format("it comes after {}, which has not succeeded yet", job_words(sight, id)),
                look_at(sight, id)};
    }
    const auto open = state.open(job->spec);
    return {fmt::format("it comes after {}, of which {} of {} {} not succeeded yet", array->spec.name, open,
                        array->count, open == 1 ? "has" : "have"),
            fmt::format("look at {}: stargate why {}", open == 1 ? "that one" : "the first of them", id)};
}

/// The name among its `after` that stands for nothing; the refusal holds its place.
std::string missing_dependency(const Refusal& why, const Submit* asked) {
    const auto place = static_cast<std::size_t>(why.need);
    return asked != nullptr && place < asked->after.size() ? asked->after[place] : std::string{};
}

}  // namespace

Sentence sentence_of(const Sight& sight, const Refusal& why, const Subject& subject) {
    const auto& state = sight.state();
    const auto* spec = subject.spec;
    const auto* asked = subject.asked;
    switch (why.why) {
        case Why::none:
            return {"nothing stands in its way: it starts with the next pass", "wait a moment"};
        case Why::held:
            return {"a person holds it", "release it when it may run: stargate release " + reference_to(subject.job)};
        case Why::dependency:
            return comes_after(sight, why.about);
        case Why::backing_off:
            if (spec != nullptr && spec->kind == Kind::service) {
                return {fmt::format("it ended {} in a row, and backs off",
                                    count_words(static_cast<double>(why.need), "time")),
                        "look at its output; it starts anew by itself"};
            }
            return {fmt::format("it backs off: failure {} of its infrastructure, of {} that it may have", why.need,
                                why.have),
                    "wait; it tries again by itself"};
        case Why::tenant_quota:
            return quota_is_used_up(state, why);
        case Why::no_gpus:
            return {fmt::format("it needs {}, and {} free", needed_gpus(state, why, spec),
                                why.have == 1 ? "1 is" : fmt::format("{} are", why.have)),
                    "wait, ask for fewer GPUs, or use a class that may preempt"};
        case Why::fragmented:
            return fragmented(state, why, spec);
        case Why::no_cpus:
        case Why::no_memory:
            return host_is_full(state, why, asked != nullptr);
        case Why::reserved_for_other:
            return reserved(sight, why, spec);
        case Why::claim_pending:
            return claim_is_pending(why);
        case Why::behind_same:
            return {fmt::format("{} asks for the same and is ahead of it", job_words(sight, why.about)),
                    look_at(sight, why.about)};
        case Why::pass_bound:
            return {"the last scheduling pass ended before its turn came", "wait; the next pass goes on"};
        case Why::node_down:
            return node_down(sight, spec);
        case Why::never_fits:
            return never_fits(state, why, subject);
        case Why::unknown_tenant:
            return {fmt::format("there is no tenant `{}`", asked == nullptr ? "" : asked->tenant),
                    "list them: stargate tenants"};
        case Why::class_not_allowed:
            return {fmt::format("{} may not use {}", tenant_words(state, why.about),
                                spec == nullptr ? "this priority class" : name_of(spec->priority)),
                    fmt::format("use {}or ask an operator", classes_of(state, TenantId{why.about}))};
        case Why::unknown_dependency:
            return {fmt::format("its tenant has no job `{}` that it could come after", missing_dependency(why, asked)),
                    "submit that one first; list them: stargate jobs"};
        case Why::dependency_failed:
            return {fmt::format("it comes after {}, which did not succeed", job_words(sight, why.about)),
                    "run that one again under the same name, then submit this"};
        case Why::too_many_after:
            return {fmt::format("it comes after {} jobs, and {} is the most", why.need, why.have),
                    "make them elements of one array, or put a job between"};
        case Why::comes_after_itself:
            return {"it would come after itself: what it is to come after comes after it",
                    "look at what that one comes after: stargate show JOB -o json"};
        case Why::size_held:
            return {fmt::format("{} runs on {}, which the new size does not allow", job_words(sight, why.about),
                                gpu_words(why.have)),
                    fmt::format("name a range with {} in it, or resize it first: stargate resize {} N", why.have,
                                why.about)};
        case Why::not_editable:
            return {"a service is what it was submitted as",
                    fmt::format("cancel it and submit it again: stargate cancel {}", why.about)};
        case Why::too_many_waiting:
            return {
                fmt::format("{} would wait, and {} may", count_words(static_cast<double>(why.need), "job"), why.have),
                "submit again when some have run"};
        case Why::too_many_of_one:
            return {fmt::format("{} of yours would wait, and one person may have {}",
                                count_words(static_cast<double>(why.need), "job"), why.have),
                    "submit again when some have run"};
        case Why::bad_array:
            return {fmt::format("an array of {} elements, and {} is the most", why.need, why.have),
                    "split it into smaller ones: count: N"};
        case Why::key_conflict:
            return {"this idempotency key was used for another request", "use a new key for a new request"};
        case Why::not_found:
            return {"there is no such thing any more", "list what is there: stargate jobs, stargate fleet"};
        case Why::wrong_state:
            return {"that cannot be done to it in the state it is in",
                    "look at it: stargate show " + reference_to(subject.job)};
        case Why::not_elastic:
            return {why.have == 0 ? "it runs without a whole GPU" : "it always runs on " + gpu_words(why.have),
                    "submit it with a range: gpus: 1..8"};
        case Why::not_needed:
            return {"the service does not need it now", "nothing to do: it starts when demand asks for it"};
        case Why::bad_service:
            return {"its replicas cannot be: at least 0, at most as many as `max`, each on one node and not elastic",
                    "look at replicas and max_concurrency"};
        case Why::name_taken:
            return {"a service of this name is there already, and clients reach it by its name",
                    "give another name, or cancel that one first"};
        case Why::too_many_services:
            return {fmt::format("it would be service {} of endpoints, and {} is the most", why.need, why.have),
                    "cancel one that nobody needs: stargate services"};
        case Why::read_only:
            return {"the disk that holds the state folder is full",
                    "free some space on it: the output of jobs lies in its folder logs"};
    }
    return {};
}

namespace {
int status_of(Why why) {
    if (why == Why::not_found) return 404;
    const bool is_conflict =
        why == Why::wrong_state || why == Why::key_conflict || why == Why::size_held || why == Why::not_editable;
    if (is_conflict) return 409;
    if (why == Why::class_not_allowed) return 403;
    if (why == Why::too_many_waiting || why == Why::too_many_of_one || why == Why::too_many_services) return 429;
    if (why == Why::read_only) return 507;
    return 422;
}
}  // namespace

Reply refusal_reply(const Sight& sight, const Refusal& why, const Subject& subject, std::string_view where) {
    const auto sentence = sentence_of(sight, why, subject);
    return error_reply(status_of(why.why), name_of(why.why), std::string{where} + sentence.what, sentence.action);
}

std::string_view field_of(Why why) {
    if (why == Why::never_fits) return "gpus";
    if (why == Why::no_cpus) return "cpus";
    if (why == Why::no_memory) return "memory";
    if (why == Why::unknown_tenant) return "tenant";
    if (why == Why::class_not_allowed) return "priority";
    if (why == Why::unknown_dependency || why == Why::dependency_failed || why == Why::too_many_after ||
        why == Why::comes_after_itself) {
        return "after";
    }
    if (why == Why::bad_array) return "count";
    return {};
}

std::string spoken(Duration duration) {
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
    if (seconds <= 0) return "0s";
    constexpr std::pair<std::int64_t, char> units[] = {{86'400, 'd'}, {3'600, 'h'}, {60, 'm'}, {1, 's'}};
    std::string words;
    int shown = 0;
    for (const auto& [size, letter] : units) {
        const auto count = seconds / size;
        if (count == 0 && shown == 0) continue;
        if (count > 0) words += fmt::format("{}{}{}", words.empty() ? "" : " ", count, letter);
        seconds -= count * size;
        if (++shown == 2) break;
    }
    return words;
}

bool is_about_a_job(Why why) {
    return why == Why::dependency || why == Why::reserved_for_other || why == Why::behind_same ||
           why == Why::dependency_failed;
}

}  // namespace stargate::api
