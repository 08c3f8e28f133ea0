#include "core/policy/reservation.hpp"

#include <algorithm>
#include <bit>
#include <map>

namespace stargate {

namespace {
/// Ends of attempts looked at for one reservation. Who cannot be promised anything among so many waits without one.
constexpr std::size_t max_ends_seen = 100'000;

/// An attempt that ends, by its time limit or because it has been warned.
struct End {
    Instant at{};
    AttemptId attempt;
    friend auto operator<=>(const End&, const End&) = default;
};

std::vector<End> ends_in_order(const State& state) {
    std::vector<End> ends;
    for (const auto id : state.ending()) ends.push_back({state.at<Attempt>(id).ending->deadline, id});
    for (const auto& deadline : state.deadlines()) {
        if (ends.size() >= max_ends_seen) break;
        if (deadline.kind == DeadlineKind::time_limit) ends.push_back({deadline.at, AttemptId{deadline.id}});
    }
    std::sort(ends.begin(), ends.end());
    return ends;
}

/// The room of one job in every domain of a level, as one attempt after another ends.
class RoomAhead {
public:
    RoomAhead(const State& state, const JobSpec& spec, Level level) : state_{state}, spec_{spec}, level_{level} {
        state.table<Node>().for_each([&](const Node& node) {
            if (!node.takes_work() || !allows(spec.gpu_types, node.shape.gpu_type)) return;
            hosts_[node.id] = {std::popcount(node.free()), node.free_cpus(), node.free_memory()};
            add(node, room_at(hosts_[node.id]));
        });
    }
    /// The most room that any domain has, and which it is.
    [[nodiscard]] std::int32_t most() const { return most_; }
    [[nodiscard]] std::uint64_t domain_with_most() const { return domain_with_most_; }

    void let_go(const Attempt& attempt) {
        for (const auto& part : attempt.parts) {
            const auto at = hosts_.find(part.node);
            if (at == hosts_.end()) continue;
            const auto& node = state_.at<Node>(part.node);
            const auto leaves = attempt.ending ? attempt.leaving(part) : part;
            auto& host = at->second;
            const auto before = room_at(host);
            host.gpus += gpus_freed(node, leaves);
            host.cpus += leaves.cpus;
            host.memory += leaves.memory;
            add(node, room_at(host) - before);
        }
    }

private:
    struct Host {
        std::int32_t gpus = 0;
        MilliCpus cpus;
        Bytes memory;
    };
    [[nodiscard]] std::int32_t room_at(const Host& host) const {
        const bool no_gpus = spec_.share == 0 && spec_.min_gpus == GpuCount{};
        return room_for(spec_, no_gpus ? 1 : host.gpus, host.cpus, host.memory);
    }
    /// A shared GPU is free when the last of its shares is.
    std::int32_t gpus_freed(const Node& node, const Part& part) {
        const auto gpus = part.gpus & node.all();
        if (part.share == 0) return std::popcount(gpus & ~node.claimed);
        if (gpus == 0) return 0;
        const SharedKey key{part.node, std::countr_zero(part.gpus)};
        return (shares_[key] += part.share) == state_.at<SharedGpu>(key).used ? 1 : 0;
    }
    void add(const Node& node, std::int32_t room) {
        const auto domain = level_ == Level::node ? node.id.value : domain_of(node.shape, level_);
        if (domain >= room_.size()) room_.resize(domain + 1);
        room_[domain] += room;
        if (room_[domain] <= most_) return;
        most_ = room_[domain];
        domain_with_most_ = domain;
    }
    const State& state_;
    const JobSpec& spec_;
    Level level_;
    std::map<NodeId, Host> hosts_;
    std::map<SharedKey, std::int32_t> shares_;
    std::vector<std::int32_t> room_;  // by domain
    std::int32_t most_ = 0;
    std::uint64_t domain_with_most_ = 0;
};

std::int32_t room_needed(const JobSpec& spec) { return std::max(1, spec.min_gpus.count()); }

/// The earliest instant at which some domain has room, if everyone runs to the time limit; nothing when that never
/// happens.
std::optional<Reserved> when_by_limits(const State& state, JobId job, const JobSpec& spec) {
    const auto want = room_needed(spec);
    if (state.working_gpus(spec.gpu_types) < spec.min_gpus.count()) return std::nullopt;
    const auto level = want == 1 ? Level::node : spec.require;
    RoomAhead ahead{state, spec, level};
    if (ahead.most() >= want) return std::nullopt;  // it is there: what keeps the job out is something else
    for (const auto& end : ends_in_order(state)) {
        ahead.let_go(state.at<Attempt>(end.attempt));
        if (ahead.most() < want) continue;
        const auto domain = level == Level::fleet ? 0 : ahead.domain_with_most();
        return Reserved{job, end.at, ahead.most() - want, level, domain};
    }
    return std::nullopt;
}

/// Whether what was promised can still come true as it was.
bool still_holds(const State& state, Instant now, const Reservation& held) {
    return held.at > now && (held.level != Level::node || state.at<Node>(NodeId{held.domain}).takes_work());
}

}  // namespace

const Reservation* reservation_binding(const State& state, Instant now, JobId job, const JobSpec& spec, Instant ends) {
    const Reservation* binding = nullptr;
    state.table<Reservation>().for_each([&](const Reservation& held) {
        if (held.job == job || held.at <= now || ends <= held.at) return;
        const auto& theirs = state.spec_of(state.at<Job>(held.job));
        if (theirs.priority < spec.priority) return;
        if ((state.settings().may_preempt[rank_of(theirs.priority)] & bit_of(spec.priority)) != 0) return;
        if (theirs.gpu_types != 0 && spec.gpu_types != 0 && (theirs.gpu_types & spec.gpu_types) == 0) return;
        binding = &held;
    });
    return binding;
}

Refusal reservation_allows(const State& state, Instant now, JobId job, const JobSpec& spec, std::int32_t gpus) {
    if (gpus == 0 || spec.share > 0) return {};
    const auto* held = reservation_binding(state, now, job, spec, now + spec.time_limit);
    if (held == nullptr || held->level != Level::fleet || gpus <= held->spare) return {};
    return {Why::reserved_for_other, gpus, held->spare, held->job.value};
}

OffLimits off_limits_for(const State& state, Instant now, JobId job, const JobSpec& spec, Instant ends) {
    const auto* held = reservation_binding(state, now, job, spec, ends);
    return held == nullptr ? OffLimits{} : OffLimits{held->level, held->domain};
}

bool waits_for_room(const JobSpec& spec, Why why) {
    if (why == Why::no_cpus || why == Why::no_memory) return true;
    return room_needed(spec) > 1 && (why == Why::no_gpus || why == Why::fragmented);
}

bool reserve_for(Core& core, Instant now, JobId job, const JobSpec& spec) {
    const auto& state = core.state();
    const Reservation* held = nullptr;
    state.table<Reservation>().for_each([&](const Reservation& row) { held = &row; });
    if (held != nullptr && held->job == job && still_holds(state, now, *held)) return false;
    const bool another_went = held != nullptr;
    if (another_went) core.apply(now, ReservationDropped{held->job});
    const auto when = when_by_limits(state, job, spec);
    if (when && when->at > now) core.apply(now, *when);
    return another_went;
}

void use_up_spare(Core& core, Instant now, JobId job, Instant ends, const Parts& parts) {
    std::optional<Reserved> moved;
    core.state().table<Reservation>().for_each([&](const Reservation& held) {
        if (held.job == job || held.level != Level::fleet || held.at <= now || ends <= held.at) return;
        const auto& theirs = core.state().spec_of(core.state().at<Job>(held.job));
        std::int32_t taken = 0;
        for (const auto& part : parts) {
            const auto type = core.state().at<Node>(part.node).shape.gpu_type;
            if (allows(theirs.gpu_types, type)) taken += std::popcount(part.gpus);
        }
        if (taken > 0) moved = Reserved{held.job, held.at, held.spare - taken, held.level, held.domain};
    });
    if (moved) core.apply(now, *moved);
}

}  // namespace stargate
