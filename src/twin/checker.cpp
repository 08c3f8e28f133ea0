#include "twin/checker.hpp"

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "core/decide.hpp"
#include "core/evolve.hpp"
#include "core/explain.hpp"
#include "core/invariants.hpp"

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
    for (std::size_t i = 0; i < facts.size(); ++i) {
        before(at, facts[i]);
        evolve(mirror_, at, facts[i]);
        after(at, facts[i], batch.inputs[*batch.facts[i].cause].type);
        ++checks_;
        if (const auto what = broken_by(mirror_, facts[i])) broken_(*what + " after " + text_of(facts[i]));
    }
}

void Checker::before(Instant at, const Fact& fact) {
    if (const auto* blocked = std::get_if<BlockedBecause>(&fact)) {
        const auto reasons = explain(mirror_, at, blocked->job);
        if (reasons.empty() || reasons.front().why != blocked->why.why) {
            broken_(fmt::format("explain says {}, the pass said {}",
                                reasons.empty() ? "nothing" : name_of(reasons.front().why), name_of(blocked->why.why)) +
                    " of " + text_of(fact));
        }
    }
    if (const auto* warned = std::get_if<Warned>(&fact)) {
        const bool takes =
            warned->ending.cause == EndCause::preempt || (warned->ending.cause == EndCause::resize && warned->for_job);
        const auto grown = grown_.find(warned->attempt);
        if (takes && grown != grown_.end() && at < grown->second + mirror_.settings().quiet_period) {
            broken_("GPUs were granted and taken back within one quiet period: " + text_of(fact));
        }
    }
    if (const auto* ended = std::get_if<PartEnded>(&fact)) {
        const auto* attempt = mirror_.find<Attempt>(ended->attempt);
        if (attempt == nullptr || attempt->generation != ended->generation) {
            broken_("a part ended that does not live: " + text_of(fact));
        } else {
            for (const auto& part : attempt->parts) {
                if (part.node != ended->node || part.phase != PartPhase::ended) continue;
                broken_("a part ended twice: " + text_of(fact));
            }
        }
    }
    if (const auto* took = std::get_if<TookOffice>(&fact)) {
        if (took->term <= mirror_.counters().term) broken_("the term did not rise: " + text_of(fact));
    }
}

void Checker::after(Instant at, const Fact& fact, std::uint16_t) {
    const auto quota_holds = [&](JobId job) {
        for_each_tenant(mirror_, mirror_.spec_of(mirror_.at<Job>(job)).tenant, [&](TenantId id) {
            const auto& row = mirror_.at<TenantRow>(id);
            if (row.tenant.quota >= 0 && row.used > row.tenant.quota)
                broken_("a quota is exceeded by " + text_of(fact));
        });
    };
    if (const auto* resized = std::get_if<Resized>(&fact)) {
        if (resized->gpus > resized->gpus_before) grown_[resized->attempt] = at;
        quota_holds(mirror_.at<Attempt>(resized->attempt).job);
    }
    if (const auto* started = std::get_if<Started>(&fact)) quota_holds(started->job);
    if (const auto* ended = std::get_if<Ended>(&fact)) grown_.erase(ended->attempt);
    if (const auto* requeued = std::get_if<Requeued>(&fact)) grown_.erase(requeued->attempt);
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
        switch (rng.below(8)) {
            case 0: {
                Submit submit;
                if (const auto* row = core.state().find<Job>(job)) {
                    submit.spec = core.state().spec_of(*row);
                    submit.tenant = core.state().at<TenantRow>(submit.spec.tenant).tenant.name;
                    submit.spec.after.clear();
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
