#include "api/job_rows.hpp"

#include <algorithm>
#include <charconv>

#include "base/json_text.hpp"
#include "base/overloaded.hpp"
#include "core/explain.hpp"

namespace stargate::api {

namespace {

/// Writes members of one object; the names come in the order of the calls.
class Members {
public:
    explicit Members(std::string& out) : out_{out} { out_.push_back('{'); }
    void close() { out_.push_back('}'); }
    std::string& name(std::string_view name) {
        if (!first_) out_.push_back(',');
        first_ = false;
        out_.push_back('"');
        out_ += name;
        out_ += "\":";
        return out_;
    }
    void number(std::string_view key, std::int64_t value) {
        char digits[24];
        const auto end = std::to_chars(std::begin(digits), std::end(digits), value).ptr;
        name(key).append(digits, end);
    }
    void text(std::string_view key, std::string_view value) { json_string(name(key), value); }
    void null(std::string_view key) { name(key) += "null"; }
    void yes_or_no(std::string_view key, bool value) { name(key) += value ? "true" : "false"; }
    void instant(std::string_view key, Instant at) {
        if (at == Instant{} || at == never) return null(key);
        number(key, at.time_since_epoch().count());
    }

private:
    std::string& out_;
    bool first_ = true;
};

std::int64_t milli_held(const Attempt& attempt) {
    std::int64_t sum = 0;
    for (const auto& part : attempt.parts) sum += part.milli_gpus();
    return sum;
}

/// What a listing says of a job beyond its specification.
struct Standing {
    JobState state = JobState::waiting;
    std::string_view reason;
    std::string detail;
    std::int64_t milli_gpus = 0;  // held now; asked for while it waits; held last when it ended
    Instant started{};
    Instant limit{};
    const Attempt* attempt = nullptr;
    NodeIds nodes;  // held now, or held last when it ended
};

JobState state_of_attempt(const State& state, const Attempt& attempt) {
    bool owed = false;
    for (const auto& part : attempt.parts) {
        if (state.at<Node>(part.node).reach != Reach::up) return JobState::unknown;
        owed = owed || part.phase == PartPhase::owed;
    }
    if (attempt.ending && attempt.ending->next.empty()) return JobState::stopping;
    return owed ? JobState::starting : JobState::running;
}

JobState state_of_outcome(Outcome outcome) {
    switch (outcome) {
        case Outcome::succeeded:
            return JobState::succeeded;
        case Outcome::failed:
            return JobState::failed;
        case Outcome::cancelled:
            return JobState::cancelled;
    }
    return JobState::failed;
}

std::int64_t milli_asked(const JobSpec& spec) {
    return spec.share > 0 ? spec.share : std::int64_t{1000} * spec.min_gpus.count();
}

Standing standing_at_end(const Job& job, const JobSpec& spec, const Finished& finished) {
    Standing standing;
    standing.state = state_of_outcome(finished.outcome);
    standing.detail = finished.detail;
    standing.milli_gpus = spec.share > 0 ? spec.share : std::int64_t{1000} * job.last_gpus;
    standing.started = finished.started;
    standing.nodes = finished.nodes;
    return standing;
}

}  // namespace

std::string trouble_of(const State& state, const Job& job) {
    const auto* service = state.find<Service>(job.spec);
    if (service == nullptr || std::holds_alternative<Finished>(job.phase)) return {};
    const auto* active = std::get_if<Active>(&job.phase);
    if (active != nullptr && !state.at<Attempt>(active->attempt).trouble.empty()) {
        return state.at<Attempt>(active->attempt).trouble;
    }
    for (const auto& trouble : service->troubles) {
        if (trouble.job == job.id) return "its last attempt failed: " + trouble.detail;
    }
    return {};
}

namespace {

Standing standing_of(const State& state, const Job& job, const JobSpec& spec) {
    Standing standing;
    std::visit(overloaded{
                   [&](const Waiting&) {
                       const auto why = recorded_reason(state, job).why;
                       if (why != Why::none) standing.reason = name_of(why);
                       standing.milli_gpus = milli_asked(spec);
                   },
                   [&](const Active& active) {
                       const auto& attempt = state.at<Attempt>(active.attempt);
                       standing.state = state_of_attempt(state, attempt);
                       if (standing.state == JobState::unknown) {
                           standing.reason = name_of(Why::node_down);
                       } else if (attempt.ending) {
                           standing.reason = name_of(attempt.ending->cause);
                       } else if (attempt.presence == Presence::asleep) {
                           standing.reason = name_of(attempt.presence);
                       }
                       standing.milli_gpus = milli_held(attempt);
                       standing.started = attempt.started;
                       standing.limit = attempt.limit;
                       standing.attempt = &attempt;
                       for (const auto& part : attempt.parts) standing.nodes.push_back(part.node);
                   },
                   [&](const Finished& finished) { standing = standing_at_end(job, spec, finished); },
                   [&](const Routed& routed) {
                       standing.state = JobState::running;
                       standing.started = routed.since;
                   },
               },
               job.phase);
    if (!std::holds_alternative<Finished>(job.phase)) standing.detail = trouble_of(state, job);
    return standing;
}

void append_row(std::string& out, const State& state, const Job& job, const JobSpec& spec, std::string_view label,
                std::string_view tenant, std::int32_t count, Instant submitted, const Standing& standing) {
    Members row{out};
    row.number("id", static_cast<std::int64_t>(job.id.value));
    row.text("name", label);
    row.text("kind", name_of(spec.kind));
    row.text("tenant", tenant);
    row.text("state", name_of(standing.state));
    if (standing.reason.empty()) {
        row.null("reason");
    } else {
        row.text("reason", standing.reason);
    }
    append_milli(row.name("gpus"), standing.milli_gpus);
    row.number("attempt", static_cast<std::int64_t>(job.last_attempt.value));
    row.number("generation", standing.attempt != nullptr ? standing.attempt->generation : job.last_generation);
    const auto* finished = std::get_if<Finished>(&job.phase);
    if (finished != nullptr && job.last_attempt) {
        row.number("exit_status", finished->exit_status);
    } else {
        row.null("exit_status");
    }
    row.text("priority", name_of(spec.priority));
    row.number("owner", spec.owner);
    append_milli(row.name("gpus_min"), milli_asked(spec));
    append_milli(row.name("gpus_max"), spec.share > 0 ? spec.share : std::int64_t{1000} * spec.max_gpus.count());
    row.number("task", job.task);
    row.number("count", count);
    row.yes_or_no("held", job.held);
    row.number("failures", job.failures);
    row.number("step", job.step);
    row.instant("submitted_at", submitted);
    row.instant("started_at", standing.started);
    row.instant("ended_at", finished != nullptr ? finished->at : Instant{});
    row.number("time_limit_s", std::chrono::duration_cast<std::chrono::seconds>(spec.time_limit).count());
    auto& nodes = row.name("nodes");
    nodes.push_back('[');
    for (const auto id : standing.nodes) {
        const auto* node = state.find<Node>(id);
        if (nodes.back() != '[') nodes.push_back(',');
        json_string(nodes, node == nullptr ? "" : node->shape.name);
    }
    nodes.push_back(']');
    row.text("detail", standing.detail);
    append_milli(row.name("charged_gpu_s"), job.account.charged);
    append_milli(row.name("lost_gpu_s"), job.account.lost);
    row.number("recovered", job.account.recovered);
    row.number("preempted", job.account.preempted);
    row.close();
}

std::string label_of(const JobSpec& spec, std::int32_t count, std::int32_t task) {
    return count > 1 ? spec.name + "[" + std::to_string(task) + "]" : spec.name;
}

}  // namespace

void append_milli(std::string& out, std::int64_t milli) {
    out += std::to_string(milli / 1000);
    if (milli % 1000 == 0) return;
    auto digits = std::to_string(1000 + milli % 1000).substr(1);
    while (digits.back() == '0') digits.pop_back();
    out += "." + digits;
}

JobState state_of(const State& state, const Job& job) {
    if (const auto* active = std::get_if<Active>(&job.phase)) {
        return state_of_attempt(state, state.at<Attempt>(active->attempt));
    }
    if (const auto* finished = std::get_if<Finished>(&job.phase)) return state_of_outcome(finished->outcome);
    if (std::holds_alternative<Routed>(job.phase)) return JobState::running;
    return JobState::waiting;
}

std::string label_of(const State& state, const Job& job) {
    const auto& spec = state.at<Spec>(job.spec);
    return label_of(spec.spec, spec.count, job.task);
}

std::string label_of(const RetiredJob& job) {
    return label_of(job.spec, std::max(job.count, job.job.task + 1), job.job.task);
}

void append_job(std::string& out, const State& state, const Job& job) {
    const auto& spec = state.at<Spec>(job.spec);
    append_row(out, state, job, spec.spec, label_of(spec.spec, spec.count, job.task),
               state.at<TenantRow>(spec.spec.tenant).tenant.name, spec.count, spec.submitted,
               standing_of(state, job, spec.spec));
}

void append_retired(std::string& out, const State& state, const RetiredJob& retired) {
    Standing standing;
    if (const auto* finished = std::get_if<Finished>(&retired.job.phase)) {
        standing = standing_at_end(retired.job, retired.spec, *finished);
    }
    // Of old rows the count is not known: a task above 0 proves an array.
    const auto count = std::max(retired.count, retired.job.task + 1);
    const auto* tenant = state.find<TenantRow>(retired.spec.tenant);
    append_row(out, state, retired.job, retired.spec, label_of(retired), tenant == nullptr ? "" : tenant->tenant.name,
               count, retired.submitted, standing);
}

}  // namespace stargate::api
