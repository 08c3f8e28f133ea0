#include "api/fact_sight.hpp"

#include <algorithm>

#include "api/sentences.hpp"
#include "api/sight.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t arrays_kept = 10'000;  // older ones are looked up in State and in the history

}  // namespace

void FactSight::look_again() {
    sees_all_ = caller_.is_operator;
    if (sees_all_) return;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        bool anybody = true;
        state.table<TenantRow>().for_each(
            [&](const TenantRow& row) { anybody = anybody && row.tenant.members.empty(); });
        sees_all_ = anybody;
    });
}

bool FactSight::may_see(Fact& fact) {
    if (caller_.is_operator) return true;
    learn(fact);
    const bool shown = sees_all_ || is_shown(fact);
    if (shown && !sees_all_) take_others_out(fact);
    if (const auto* over = std::get_if<Ended>(&fact)) attempts_.erase(over->attempt);
    if (const auto* over = std::get_if<Requeued>(&fact)) attempts_.erase(over->attempt);
    return shown;
}

bool FactSight::is_shown(const Fact& fact) const {
    return std::visit(
        [&]<class Members>(const Members& members) {
            if constexpr (std::is_same_v<Members, Configured> || std::is_same_v<Members, NodeJoined> ||
                          std::is_same_v<Members, NodeChanged> || std::is_same_v<Members, TookOffice> ||
                          std::is_same_v<Members, GrowthPlanned> || std::is_same_v<Members, ForeignNoted>) {
                return true;  // the fleet's
            } else if constexpr (std::is_same_v<Members, TenantSet>) {
                bool may = false;
                control_.read([&](const State& state, Instant, std::uint64_t) {
                    may = Sight{caller_, state}.may_use(members.tenant.id);
                });
                return may;
            } else if constexpr (std::is_same_v<Members, Submitted>) {
                return may_see(members.first);
            } else if constexpr (std::is_same_v<Members, Claimed>) {
                return may_see(members.claim.job);
            } else if constexpr (requires { members.job; }) {
                return may_see(members.job);
            } else if constexpr (requires { members.attempt; }) {
                return may_see(members.attempt);
            } else {
                return false;  // of a type that nobody has thought about yet
            }
        },
        fact);
}

void FactSight::take_others_out(Fact& fact) const {
    if (auto* warned = std::get_if<Warned>(&fact)) {
        if (warned->for_job && !may_see(warned->for_job)) warned->for_job = {};
    } else if (auto* blocked = std::get_if<BlockedBecause>(&fact)) {
        auto& why = blocked->why;
        if (is_about_a_job(why.why) && !may_see(JobId{why.about})) why.about = 0;
    } else if (auto* resized = std::get_if<Resized>(&fact)) {
        if (resized->borrower && !may_see(resized->borrower)) resized->borrower = {};
    } else if (auto* lent = std::get_if<Lent>(&fact)) {
        if (!may_see(lent->lender)) lent->lender = {};
    } else if (auto* returned = std::get_if<Returned>(&fact)) {
        if (!may_see(returned->lender)) returned->lender = {};
    } else if (auto* claimed = std::get_if<Claimed>(&fact)) {
        for (auto& loan : claimed->claim.lenders) {
            if (!may_see(loan.lender)) loan.lender = {};
        }
    }
}

void FactSight::learn(const Fact& fact) {
    if (const auto* submitted = std::get_if<Submitted>(&fact)) {
        arrays_[submitted->first] = {submitted->count, submitted->spec.tenant, submitted->spec.owner};
        if (arrays_.size() > arrays_kept) arrays_.erase(arrays_.begin());
    } else if (const auto* started = std::get_if<Started>(&fact)) {
        attempts_[started->attempt] = started->job;
    }
}

std::optional<FactSight::Origin> FactSight::origin_of(JobId job) const {
    if (const auto after = arrays_.upper_bound(job); after != arrays_.begin()) {
        const auto& [first, origin] = *std::prev(after);
        if (job.value - first.value < static_cast<std::uint64_t>(origin.count)) return origin;
    }
    std::optional<Origin> origin;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        if (const auto* row = state.find<Job>(job)) {
            const auto& spec = state.spec_of(*row);
            origin = Origin{1, spec.tenant, spec.owner};
        }
    });
    if (origin) return origin;
    const auto retired = control_.find_retired(job);
    if (retired && *retired) origin = Origin{1, (*retired)->spec.tenant, (*retired)->spec.owner};
    return origin;
}

bool FactSight::may_see(JobId job) const {
    const auto origin = origin_of(job);
    if (!origin) return false;
    bool may = false;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        may = origin->owner == caller_.uid || Sight{caller_, state}.may_use(origin->tenant);
    });
    return may;
}

bool FactSight::may_see(AttemptId attempt) const {
    if (const auto known = attempts_.find(attempt); known != attempts_.end()) return may_see(known->second);
    JobId job;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        if (const auto* row = state.find<Attempt>(attempt)) job = row->job;
    });
    return job && may_see(job);
}

}  // namespace stargate::api
