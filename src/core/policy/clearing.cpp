#include "core/policy/clearing.hpp"

#include <algorithm>
#include <bit>
#include <tuple>

#include "core/evolve.hpp"

namespace stargate {

namespace {
/// Whether every node of the attempt answers.
bool is_reachable(const State& state, const Attempt& attempt) {
    return std::all_of(attempt.parts.begin(), attempt.parts.end(),
                       [&](const Part& part) { return state.at<Node>(part.node).reach == Reach::up; });
}

}  // namespace

bool is_leaving(const State& state, Instant now, const Attempt& attempt) {
    return attempt.ending && attempt.ending->deadline > now && is_reachable(state, attempt);
}

Gives gives(const State& state, Instant now, const Need& need, const Attempt& attempt) {
    if (attempt.ending || attempt.settled > now || attempt.gang_deadline != never) return Gives::nothing;
    const auto& spec = state.spec_of(state.at<Job>(attempt.job));
    const auto lower = state.settings().may_preempt[rank_of(need.spec->priority)];
    const bool shrinks = spec.is_elastic() && spec.priority <= need.spec->priority &&
                         attempt.gpu_count() > std::max(1, spec.min_gpus.count());
    const bool preempted = (lower & bit_of(spec.priority)) != 0;
    if (!shrinks && !preempted) return Gives::nothing;
    if (!is_under(state, spec.tenant, need.under) || !is_reachable(state, attempt)) return Gives::nothing;
    return preempted ? Gives::everything : Gives::surplus;
}

Clearing::Clearing(const State& state, Instant now, const Need& need)
    : state_{state}, now_{now}, need_{need}, spec_{*need.spec}, room_needed_{std::max(1, need.gpus())} {
    if (!need_.under) return;
    for (const auto id : state_.ending()) {
        const auto& attempt = state_.at<Attempt>(id);
        if (!is_leaving(state_, now_, attempt)) continue;
        if (!is_under(state_, state_.spec_of(state_.at<Job>(attempt.job)).tenant, need_.under)) continue;
        for (const auto& part : attempt.parts) returned_ += attempt.leaving(part).milli_gpus();
        reclaim_.leaving_by = std::max(reclaim_.leaving_by, attempt.ending->deadline);
    }
}

bool Clearing::make(const std::vector<NodeId>& nodes) {
    look_at(nodes);
    for (const auto& site : sites_) {
        for (const auto id : state_.attempts_on(site.node->id)) consider(state_.at<Attempt>(id));
    }
    if (!find_givers()) return false;
    choose_parts();
    return true;
}

bool Clearing::make_quota(Parts parts, const std::vector<AttemptId>& from) {
    room_ = room_needed_;
    reclaim_.parts = std::move(parts);
    for (const auto id : from) consider(state_.at<Attempt>(id));
    return find_givers();
}

ClearingCost Clearing::cost() const {
    ClearingCost cost;
    for (const auto& giver : givers_) {
        if (giver.preempted) {
            ++cost.preempted;
            cost.lost_gpu_seconds += giver.who->lost_gpu_seconds;
        } else {
            cost.shrunk += giver.who->attempt->gpu_count();
            for (const auto& part : giver.keep) cost.shrunk -= part.gpu_count();
        }
    }
    return cost;
}

Reclaim Clearing::result() && {
    reclaim_.victims.resize(givers_.size());
    for (std::size_t i = 0; i < givers_.size(); ++i) {
        reclaim_.victims[i].attempt = givers_[i].who->attempt->id;
        for (const auto& part : givers_[i].keep) {
            if (part.gpus != 0) reclaim_.victims[i].keep.push_back(part);
        }
    }
    return std::move(reclaim_);
}

void Clearing::look_at(const std::vector<NodeId>& nodes) {
    for (const auto id : nodes) {
        const auto& node = state_.at<Node>(id);
        if (!node.takes_work() || !allows(spec_.gpu_types, node.shape.gpu_type)) continue;
        if (need_.off_limits.holds(node)) continue;
        sites_.push_back({&node, node.free(), 0, node.free_cpus(), node.free_memory()});
        room_ += room_at(sites_.back());
    }
    if (state_.ending().empty()) return;
    for (const auto& site : sites_) count_leaving(site);
}

/// What is ending anyway is given at no cost, as far as no claim waits for it.
void Clearing::count_leaving(const Site& site) {
    for (const auto id : state_.attempts_on(site.node->id)) {
        const auto& attempt = state_.at<Attempt>(id);
        if (!is_leaving(state_, now_, attempt)) continue;
        for (const auto& part : attempt.parts) {
            if (part.node == site.node->id) give(attempt.leaving(part), 1);
        }
        reclaim_.leaving_by = std::max(reclaim_.leaving_by, attempt.ending->deadline);
    }
}

void Clearing::consider(const Attempt& attempt) {
    const auto what = gives(state_, now_, need_, attempt);
    if (what == Gives::nothing) return;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now_ - attempt.started).count();
    candidates_.push_back(
        {&attempt, &state_.spec_of(state_.at<Job>(attempt.job)), what, seconds * std::max(1, attempt.gpu_count())});
}

/// Lower classes first; within a class those that lose least, then the newest.
void Clearing::sort_candidates() {
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return std::tuple{a.spec->priority, a.lost_gpu_seconds, b.attempt->id} <
               std::tuple{b.spec->priority, b.lost_gpu_seconds, a.attempt->id};
    });
    const auto same = [](const Candidate& a, const Candidate& b) { return a.attempt == b.attempt; };
    candidates_.erase(std::unique(candidates_.begin(), candidates_.end(), same), candidates_.end());
}

bool Clearing::find_givers() {
    sort_candidates();
    shrink_some();
    preempt_some();
    if (!is_enough()) return false;
    drop_useless();
    take_more();
    return true;
}

void Clearing::shrink_some() {
    for (const auto& candidate : candidates_) {
        if (is_enough()) return;
        if (!candidate.spec->is_elastic()) continue;
        Giver giver{candidate, candidate.attempt->parts};
        bool gave = false;
        while (!is_enough() && take_one(giver)) gave = true;
        if (gave) givers_.push_back(std::move(giver));
    }
}

/// The last GPU that the attempt can do without where it helps: rank order follows the order of parts. An attempt of
/// minimum 0 never shrinks to nothing: that would be a preemption.
bool Clearing::take_one(Giver& giver) {
    std::int32_t left = 0;
    for (const auto& part : giver.keep) left += part.gpu_count();
    if (left <= std::max(1, giver.who->spec->min_gpus.count())) return false;
    for (auto i = giver.keep.size(); i-- > 0;) {
        auto& part = giver.keep[i];
        const bool helps = sites_.empty() || returned_ < need_.quota || site_of(part.node) != nullptr;
        if (part.gpus == 0 || !helps) continue;
        give(given_by(giver, i), -1);
        const auto staying = lowest(part.gpus, std::popcount(part.gpus) - 1);
        part = staying == 0 ? nothing_on(part.node) : part_on(*giver.who->spec, part.node, staying);
        give(given_by(giver, i), 1);
        returned_ += 1000;
        return true;
    }
    return false;
}

void Clearing::preempt_some() {
    for (const auto& candidate : candidates_) {
        if (is_enough()) return;
        if (candidate.gives != Gives::everything) continue;
        auto giver =
            std::find_if(givers_.begin(), givers_.end(), [&](const Giver& known) { return known.who == &candidate; });
        if (giver == givers_.end()) {
            giver = givers_.emplace(givers_.end(), candidate, candidate.attempt->parts);
        } else {
            give_all(*giver, -1);
        }
        giver->preempted = true;
        for (auto& part : giver->keep) part = nothing_on(part.node);
        give_all(*giver, 1);
    }
}

/// Nobody is a victim without need: those that lose most are let go first.
void Clearing::drop_useless() {
    const auto drop_where = [&](bool preempted) {
        for (auto i = givers_.size(); i-- > 0;) {
            if (givers_[i].preempted != preempted) continue;
            give_all(givers_[i], -1);
            if (is_enough()) {
                givers_.erase(givers_.begin() + static_cast<std::ptrdiff_t>(i));
            } else {
                give_all(givers_[i], 1);
            }
        }
    };
    drop_where(true);
    drop_where(false);
}

/// Who shrinks at all shrinks once for all that wait for the same.
void Clearing::take_more() {
    auto more = need_.more_gpus;
    for (auto& giver : givers_) {
        while (!giver.preempted && more > 0 && take_one(giver)) --more;
    }
}

/// The sites with most room first, so that the job lies on few; of each what is free first.
void Clearing::choose_parts() {
    std::stable_sort(sites_.begin(), sites_.end(),
                     [&](const Site& a, const Site& b) { return room_at(a) > room_at(b); });
    auto want = room_needed_;
    for (const auto& site : sites_) {
        const auto here = std::min(want, room_at(site));
        if (here <= 0) break;
        auto gpus = lowest(site.free, here);
        gpus |= lowest(site.given & ~site.free, here - std::popcount(gpus));
        reclaim_.parts.push_back(part_on(spec_, site.node->id, need_.gpus() == 0 ? 0 : gpus));
        want -= here;
    }
}

Clearing::Site* Clearing::site_of(NodeId node) {
    const auto at = std::lower_bound(sites_.begin(), sites_.end(), node,
                                     [](const Site& site, NodeId id) { return site.node->id < id; });
    return at == sites_.end() || at->node->id != node ? nullptr : &*at;
}

std::int32_t Clearing::room_at(const Site& site) const {
    const auto gpus = need_.gpus() == 0 ? 1 : std::popcount(site.free | site.given);
    return room_for(spec_, gpus, site.cpus, site.memory);
}

/// A share frees its GPU only together with all others of that GPU.
void Clearing::give(const Part& part, int sign) {
    auto* site = site_of(part.node);
    if (site == nullptr) return;
    room_ -= room_at(*site);
    site->cpus += part.cpus * sign;
    site->memory += part.memory * sign;
    const auto gpus = part.gpus & site->node->all() & ~site->node->claimed & ~site->node->foreign;
    bool is_given = sign > 0;
    if (part.share > 0 && part.gpus != 0) {
        const SharedKey key{part.node, std::countr_zero(part.gpus)};
        auto known = std::find_if(returned_shares_.begin(), returned_shares_.end(),
                                  [&](const auto& returned) { return returned.first == key; });
        if (known == returned_shares_.end()) known = returned_shares_.insert(known, {key, 0});
        known->second += part.share * sign;
        is_given = known->second == state_.at<SharedGpu>(key).used;
    }
    site->given = is_given ? site->given | gpus : site->given & ~gpus;
    room_ += room_at(*site);
}

void Clearing::give_all(const Giver& giver, int sign) {
    for (std::size_t i = 0; i < giver.keep.size(); ++i) {
        const auto part = given_by(giver, i);
        give(part, sign);
        returned_ += sign * part.milli_gpus();
    }
}

Part Clearing::given_by(const Giver& giver, std::size_t i) const {
    auto part = giver.who->attempt->parts[i];
    const auto& keep = giver.keep[i];
    part.gpus &= ~keep.gpus;
    part.cpus -= keep.cpus;
    part.memory -= keep.memory;
    return part;
}

}  // namespace stargate
