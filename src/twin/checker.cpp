#include "twin/checker.hpp"

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "core/decide.hpp"
#include "core/evolve.hpp"
#include "core/explain.hpp"
#include "core/invariants.hpp"
#include "core/transitions.hpp"

namespace stargate::twin {

namespace {
std::string text_of(const Fact& fact) {
    std::string out{fact_names[fact.index()]};
    out += ' ';
    json_text(out, fact);
    return out;
}

}  // namespace

void Checker::committed(Instant at, const store::Batch& batch, const std::vector<Fact>& facts) {
    compare_history(batch, facts);
    for (const auto& fact : facts) {
        before(at, fact);
        evolve(mirror_, at, fact);
        after(at, fact);
        ++checks_;
        if (const auto what = broken_by(mirror_, fact)) broken_(*what + " after " + text_of(fact));
    }
}

/// Each job that leaves State has its row in the history table, and nothing else has.
void Checker::compare_history(const store::Batch& batch, const std::vector<Fact>& facts) {
    std::size_t rows = 0;
    for (const auto& fact : facts) {
        const auto* retired = std::get_if<Retired>(&fact);
        if (retired == nullptr) continue;
        if (rows >= batch.history.size() || batch.history[rows].job != retired->job) {
            return broken_(fmt::format("job {} left State without a row of history", retired->job.value));
        }
        ++rows;
    }
    if (rows != batch.history.size()) broken_("history of a job that has not left State");
}

void Checker::before(Instant at, const Fact& fact) {
    if (const auto what = illegal(mirror_, at, fact)) broken_(*what + " in " + text_of(fact));
    const auto* blocked = std::get_if<BlockedBecause>(&fact);
    if (blocked != nullptr) {
        const auto reasons = explain(mirror_, at, blocked->job);
        const auto said = reasons.empty() ? Refusal{} : reasons.front();
        if (said != blocked->why) {
            broken_(fmt::format("explain says {} need {} have {} about {}", name_of(said.why), said.need, said.have,
                                said.about) +
                    " of " + text_of(fact));
        }
    }
    if (const auto* warned = std::get_if<Warned>(&fact)) {
        const bool takes =
            warned->ending.cause == EndCause::preempt || (warned->ending.cause == EndCause::resize && warned->for_job);
        const auto settled = settled_.find(warned->attempt);
        if (takes && settled != settled_.end() && at < settled->second) {
            broken_("GPUs were granted and taken back within one quiet period: " + text_of(fact));
        }
    }
}

void Checker::after(Instant at, const Fact& fact) {
    const auto quota_holds = [&](JobId job) {
        for_each_tenant(mirror_, mirror_.spec_of(mirror_.at<Job>(job)).tenant, [&](TenantId id) {
            const auto& row = mirror_.at<TenantRow>(id);
            if (row.tenant.quota >= 0 && row.used > row.tenant.quota)
                broken_("a quota is exceeded by " + text_of(fact));
        });
    };
    if (const auto* resized = std::get_if<Resized>(&fact)) {
        settled_[resized->attempt] = at + mirror_.settings().quiet_period;
        if (resized->gpus > resized->gpus_before) quota_holds(mirror_.at<Attempt>(resized->attempt).job);
    }
    if (const auto* started = std::get_if<Started>(&fact)) quota_holds(started->job);
    if (const auto* ended = std::get_if<Ended>(&fact)) settled_.erase(ended->attempt);
    if (const auto* requeued = std::get_if<Requeued>(&fact)) settled_.erase(requeued->attempt);
}

void Checker::whole(Instant now, const State& state) {
    ++checks_;
    if (auto what = stargate::broken(state)) return broken_(*what);
    if (state.rows() != mirror_.rows()) return broken_("State is not what its facts fold to");
    if (state.derived_text() != mirror_.derived_text()) return broken_("derived data depends on how State came about");
    if (!state.deadlines().empty()) {
        // A deadline is handled by the round that follows it; a control plane that was away handles it when back.
        constexpr Duration patience = std::chrono::minutes{5};
        const auto oldest = *state.deadlines().begin();
        if (oldest.at + patience < now)
            broken_(
                fmt::format("a deadline of kind {} of {} was never handled", static_cast<int>(oldest.kind), oldest.id));
    }
}

void Checker::recovered(const State& state) {
    ++checks_;
    if (state.rows() != mirror_.rows()) broken_("the log does not fold to the State that wrote it");
}

void Checker::passes_settle(Core& core, Instant now, bool something_pends) {
    ++checks_;
    const auto mark = core.mark();
    for (const bool is_first : {true, false}) {
        const auto from = core.batch().size();
        (void)decide(core, now, Pass{});
        for (auto i = from; i < core.batch().size(); ++i) {
            const auto& fact = core.batch()[i];
            const bool starts = std::holds_alternative<Started>(fact) || std::holds_alternative<Woken>(fact);
            if (!starts || (is_first && something_pends)) continue;
            broken_(std::string{is_first ? "nobody was woken to decide " : "one pass left to the next "} +
                    text_of(fact));
        }
        // What was due may have changed much: a pass that was cut off over it says so, and another one follows.
        if (is_first && something_pends && core.state().counters().left > 0) break;
    }
    core.undo_to(mark);
}

void Checker::probe(Core& core, Instant now, Rng& rng) {
    ++checks_;
    const auto rows = core.state().rows();
    const auto derived = core.state().derived_text();
    const auto mark = core.mark();
    const auto jobs = core.state().counters().jobs;
    const auto nodes = core.state().counters().nodes;
    for (int i = 0; i < 4; ++i) {
        const JobId job{jobs == 0 ? 0 : jobs - rng.below(std::min<std::uint64_t>(jobs, 200))};
        const NodeId node{nodes == 0 ? 0 : 1 + rng.below(nodes)};
        switch (rng.below(9)) {
            case 0: {
                Submit submit;
                if (const auto* row = core.state().find<Job>(job)) {
                    submit.spec = core.state().spec_of(*row);
                    submit.tenant = core.state().at<TenantRow>(submit.spec.tenant).tenant.name;
                    submit.spec.priority = PriorityClass::production;
                    submit.count = 3;
                    (void)decide(core, now, submit);
                }
                break;
            }
            case 1:
                (void)decide(core, now, Cancel{job});
                break;
            case 2:
                (void)decide(core, now, Hold{job, true});
                break;
            case 3:
                (void)decide(core, now, Resize{job, 1 + static_cast<std::int32_t>(rng.below(8))});
                break;
            case 4:
                (void)decide(core, now, NodeDead{node});
                break;
            case 5:
                (void)decide(core, now, Drain{node, true});
                break;
            case 6:
                (void)decide(core, now + std::chrono::minutes{10}, Due{});
                break;
            case 7: {
                Edit edit{job, PriorityClass::production, std::chrono::minutes{1 + rng.below(50)}};
                if (rng.chance(0.5)) edit.after.emplace();
                (void)decide(core, now, edit);
                break;
            }
            default:
                break;
        }
        (void)decide(core, now + std::chrono::minutes{10}, Pass{});
    }
    core.undo_to(mark);
    if (core.state().rows() != rows) broken_("an undone probe left something in the rows");
    if (core.state().derived_text() != derived)
        broken_("an undone probe left something in derived data:\n" + derived + "\nnow:\n" +
                core.state().derived_text());
}

}  // namespace stargate::twin
