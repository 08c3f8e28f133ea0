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

std::string tenant_words(const State& state, std::uint64_t id) {
    const auto* row = state.find<TenantRow>(TenantId{id});
    return row == nullptr ? std::string{"its tenant"} : "tenant " + row->tenant.name;
}

std::string node_words(const State& state, std::uint64_t id) {
    const auto* node = state.find<Node>(NodeId{id});
    return node == nullptr ? std::string{"any node"} : "node " + node->shape.name;
}

std::string gpu_words(std::int64_t count) { return fmt::format("{} GPU{}", count, count == 1 ? "" : "s"); }
std::string milli_words(std::int64_t milli) {
    return milli % 1000 == 0 ? gpu_words(milli / 1000) : fmt::format("{} GPUs", static_cast<double>(milli) / 1000);
}
std::string memory_words(std::int64_t bytes) {
    return fmt::format("{:.1f} GiB of host memory", static_cast<double>(bytes) / static_cast<double>(1LL << 30));
}
std::string cpu_words(std::int64_t milli) { return fmt::format("{} host CPUs", static_cast<double>(milli) / 1000); }

std::string type_words(const State& state, const JobSpec* spec) {
    if (spec == nullptr || spec->gpu_types == 0) return {};
    std::string words;
    const auto& names = state.settings().gpu_types;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if ((spec->gpu_types >> i & 1U) != 0) words += (words.empty() ? " of type " : " or ") + names[i];
    }
    return words;
}

Sentence never_fits(const State& state, const Refusal& why, const JobSpec* spec) {
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

/// The name among its `after` that stands for nothing; the refusal holds its place.
std::string missing_dependency(const Refusal& why, const Submit* asked) {
    const auto place = static_cast<std::size_t>(why.need);
    return asked != nullptr && place < asked->after.size() ? asked->after[place] : std::string{};
}

}  // namespace

Sentence sentence_of(const Sight& sight, const Refusal& why, const JobSpec* spec, const Submit* asked) {
    const auto& state = sight.state();
    switch (why.why) {
        case Why::none:
            return {"nothing stands in its way: it starts with the next pass", "wait a moment"};
        case Why::held:
            return {"a person holds it", "release it when it may run: stargate release JOB"};
        case Why::dependency:
            return {fmt::format("it comes after {}, which has not succeeded yet", job_words(sight, why.about)),
                    look_at(sight, why.about)};
        case Why::backing_off:
            return {
                fmt::format("it backs off after infrastructure failure {} of {} that it may have", why.need, why.have),
                "wait; it tries again by itself"};
        case Why::tenant_quota:
            return {fmt::format("it needs {}, and {} has {} of its quota left", milli_words(why.need),
                                tenant_words(state, why.about), milli_words(why.have)),
                    "wait for the tenant's own jobs, or ask for more quota"};
        case Why::no_gpus:
            return {
                fmt::format("it needs {}{}, and {} are free", gpu_words(why.need), type_words(state, spec), why.have),
                "wait, ask for fewer GPUs, or use a class that may preempt"};
        case Why::fragmented:
            return {fmt::format("it needs {} together, and no {} has more than {} free", gpu_words(why.need),
                                spec == nullptr ? "domain" : name_of(spec->require), why.have),
                    "wait, or require a wider level: topology: {require: fleet}"};
        case Why::no_cpus:
            return {fmt::format("it needs {}, and {} has {}", cpu_words(why.need), node_words(state, why.about),
                                cpu_words(why.have)),
                    "ask for fewer: cpus: N"};
        case Why::no_memory:
            return {fmt::format("it needs {}, and {} has {}", memory_words(why.need), node_words(state, why.about),
                                memory_words(why.have)),
                    "ask for less: memory: NGB"};
        case Why::reserved_for_other:
            return {fmt::format("starting it would delay {}, which is ahead of it: {} needed, {} to spare",
                                job_words(sight, why.about), gpu_words(why.need), why.have),
                    "give it a shorter time limit, so that it ends before: time: 1h"};
        case Why::claim_pending:
            return {fmt::format("its {} are promised to it, {} of them are let go of by now", gpu_words(why.need),
                                why.have),
                    "wait: others are ending for it"};
        case Why::behind_same:
            return {fmt::format("{} asks for the same and is ahead of it", job_words(sight, why.about)),
                    look_at(sight, why.about)};
        case Why::pass_bound:
            return {"the last scheduling pass ended before its turn came", "wait; the next pass goes on"};
        case Why::node_down:
            return {"nodes that could hold it do not answer or are drained", "look at them: stargate fleet"};
        case Why::never_fits:
            return never_fits(state, why, spec);
        case Why::unknown_tenant:
            return {fmt::format("there is no tenant `{}`", asked == nullptr ? "" : asked->tenant),
                    "list them: stargate tenants"};
        case Why::class_not_allowed:
            return {fmt::format("{} may not use this priority class", tenant_words(state, why.about)),
                    "use research or opportunistic, or ask an operator"};
        case Why::unknown_dependency:
            return {fmt::format("its tenant has no job `{}` that it could come after", missing_dependency(why, asked)),
                    "submit that one first; list them: stargate jobs"};
        case Why::dependency_failed:
            return {fmt::format("it comes after {}, which did not succeed", job_words(sight, why.about)),
                    "run that one again under the same name, then submit this"};
        case Why::too_many_waiting:
            return {fmt::format("{} jobs would wait, and {} may", why.need, why.have),
                    "submit again when some have run"};
        case Why::too_many_of_one:
            return {fmt::format("{} jobs of yours would wait, and one person may have {}", why.need, why.have),
                    "submit again when some have run"};
        case Why::bad_array:
            return {fmt::format("an array of {} elements, and {} is the most", why.need, why.have),
                    "split it into smaller ones: count: N"};
        case Why::key_conflict:
            return {"this idempotency key was used for another request", "use a new key for a new request"};
        case Why::not_found:
            return {"there is no such thing any more", "list what is there: stargate jobs, stargate fleet"};
        case Why::wrong_state:
            return {"that cannot be done to it in the state it is in", "look at it: stargate show JOB"};
        case Why::not_elastic:
            return {fmt::format("it always runs on {}", gpu_words(why.have)), "submit it with a range: gpus: 1..8"};
        case Why::read_only:
            return {"the store cannot be written, so nothing new is taken", "free disk space: stargate doctor"};
    }
    return {};
}

namespace {
int status_of(Why why) {
    if (why == Why::not_found) return 404;
    if (why == Why::wrong_state || why == Why::key_conflict) return 409;
    if (why == Why::class_not_allowed) return 403;
    if (why == Why::too_many_waiting || why == Why::too_many_of_one) return 429;
    if (why == Why::read_only) return 507;
    return 422;
}
}  // namespace

Reply refusal_reply(const Sight& sight, const Refusal& why, const JobSpec* spec, const Submit* asked,
                    std::string_view where) {
    const auto sentence = sentence_of(sight, why, spec, asked);
    return error_reply(status_of(why.why), name_of(why.why), std::string{where} + sentence.what, sentence.action);
}

std::string_view field_of(Why why) {
    if (why == Why::never_fits) return "gpus";
    if (why == Why::no_cpus) return "cpus";
    if (why == Why::no_memory) return "memory";
    if (why == Why::unknown_tenant) return "tenant";
    if (why == Why::class_not_allowed) return "priority";
    if (why == Why::unknown_dependency || why == Why::dependency_failed) return "after";
    if (why == Why::bad_array) return "count";
    return {};
}

std::vector<Holder> holders(const State& state, GpuTypeBits types, std::size_t most) {
    std::vector<Holder> all;
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        std::int32_t gpus = 0;
        for (const auto& part : attempt.parts) {
            if (allows(types, state.at<Node>(part.node).shape.gpu_type)) gpus += part.gpu_count();
        }
        if (gpus > 0) all.push_back({attempt.job, gpus});
    });
    const auto shown = std::min(most, all.size());
    std::partial_sort(
        all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), all.end(),
        [](const Holder& a, const Holder& b) { return a.gpus > b.gpus || (a.gpus == b.gpus && a.job < b.job); });
    all.resize(shown);
    return all;
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
