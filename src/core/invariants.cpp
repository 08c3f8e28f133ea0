#include "core/invariants.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/overloaded.hpp"
#include "core/evolve.hpp"

namespace stargate {

namespace {

std::string on(const std::string& what, NodeId node) { return what + " on node " + std::to_string(node.value); }
std::string of(const std::string& what, std::uint64_t id) { return what + " " + std::to_string(id); }

/// Whether the shares of one GPU are those that attempts hold, and no more than it has.
std::optional<std::string> broken_share(const State& state, NodeId node, std::int32_t gpu, std::int32_t held) {
    const auto* row = state.find<SharedGpu>(SharedKey{node, gpu});
    if (row == nullptr || row->used != held) return on("shares in use are not those that attempts hold", node);
    if (held > 1000) return on("a GPU is shared beyond what it is", node);
    return std::nullopt;
}

std::optional<std::string> broken_node(const State& state, NodeId id) {
    const auto& node = state.at<Node>(id);
    GpuMask whole = 0;
    GpuMask shared = 0;
    GpuMask seats = 0;
    std::array<std::int32_t, max_gpus_per_node> shares{};  // thousandths held of each GPU
    MilliCpus cpus;
    Bytes memory;
    std::set<std::int32_t> ports;
    for (const auto attempt_id : state.attempts_on(id)) {
        const auto& attempt = state.at<Attempt>(attempt_id);
        if (attempt.port != 0 && !ports.insert(attempt.port).second) return on("two replicas listen on one port", id);
        for (const auto& seat : attempt.seat) {
            if (seat.node != id) continue;
            if ((seats & seat.gpus) != 0) return on("two replicas sleep in one seat", id);
            seats |= seat.gpus;
        }
        for (const auto& part : attempt.parts) {
            if (part.node != id) continue;
            cpus += part.cpus;
            memory += part.memory;
            if (part.share > 0) {
                shared |= part.gpus;
                shares[static_cast<std::size_t>(std::countr_zero(part.gpus))] += part.share;
                continue;
            }
            if ((whole & part.gpus) != 0) return on("two attempts hold one GPU", id);
            whole |= part.gpus;
        }
    }
    for (auto gpus = shared; gpus != 0; gpus &= gpus - 1) {
        const auto gpu = std::countr_zero(gpus);
        if (auto what = broken_share(state, id, gpu, shares[static_cast<std::size_t>(gpu)])) return what;
    }
    if (seats != node.seats) return on("seats are not those that replicas sleep in", id);
    if ((whole & shared) != 0) return on("a shared GPU is also held whole", id);
    if ((whole | shared) != node.leased) return on("leased GPUs are not those that attempts hold", id);
    if ((node.claimed & ~node.all()) != 0) return on("a claim waits for a GPU that the node does not have", id);
    if ((node.leased & node.foreign) != 0) return on("a leased GPU is held by foreign work", id);
    if ((node.claimed & node.foreign) != 0) return on("a claim waits for foreign work", id);
    if ((node.foreign & ~node.all()) != 0) return on("foreign work holds a GPU that the node does not have", id);
    for (const auto attempt : node.foreign_attempts) {
        if (attempt.value > state.counters().attempts) return on("an id of foreign work may be given again", id);
        if (state.find<Attempt>(attempt) != nullptr) return on("foreign work has the id of ours", id);
    }
    if (cpus != node.cpus_leased || memory != node.memory_leased) return on("leased CPUs or memory do not add up", id);
    // Leases may be more than the node has, when it came back smaller; what is granted is looked at as it is (illegal).
    const bool has_cpus = node.cpus_foreign == MilliCpus{} || cpus + node.cpus_foreign <= node.shape.cpus;
    const bool has_memory = node.memory_foreign == Bytes{} || memory + node.memory_foreign <= node.shape.memory;
    if (!has_cpus || !has_memory) return on("foreign work holds more CPUs or memory than there is", id);
    return std::nullopt;
}

std::optional<std::string> broken_attempt(const State& state, AttemptId id) {
    const auto* attempt = state.find<Attempt>(id);
    if (attempt == nullptr) return std::nullopt;
    const auto* job = state.find<Job>(attempt->job);
    if (job == nullptr) return of("no job for attempt", id.value);
    const auto* active = std::get_if<Active>(&job->phase);
    if (active == nullptr || active->attempt != id) return of("the job does not know its live attempt", id.value);
    const auto& spec = state.spec_of(*job);
    const auto gpus = attempt->gpu_count();
    const bool sleeps = attempt->presence == Presence::asleep;
    if (sleeps != !attempt->seat.empty()) return of("a seat without one who sleeps in it: attempt", id.value);
    if (sleeps && gpus != 0) return of("one who sleeps holds GPUs: attempt", id.value);
    if (!attempt->loans.empty() && sleeps) return of("a loan without lease: attempt", id.value);
    std::int32_t borrowed = 0;
    for (const auto& loan : attempt->loans) borrowed += loan.gpus;
    if (borrowed > gpus) return of("more is lent than is held: attempt", id.value);
    if (!sleeps && spec.share == 0 && (gpus < spec.min_gpus.count() || gpus > spec.max_gpus.count())) {
        return of("a gang is smaller or larger than asked: attempt", id.value);
    }
    if (attempt->parts.empty()) return of("an attempt without parts:", id.value);
    const bool starts = std::any_of(attempt->parts.begin(), attempt->parts.end(),
                                    [](const Part& part) { return part.phase == PartPhase::owed; });
    if (starts && !attempt->ending && attempt->gang_deadline == never) {
        return of("a gang has no time by which all its ranks must run: attempt", id.value);
    }
    for (const auto& part : attempt->parts) {
        if (auto what = broken_node(state, part.node)) return what;
    }
    return std::nullopt;
}

std::optional<std::string> broken_claim(const State& state, const Claim& claim) {
    const auto* job = state.find<Job>(claim.job);
    if (job == nullptr) return of("a claim without its job", claim.job.value);
    const bool waits = std::holds_alternative<Waiting>(job->phase);
    if (claim.wakes) {
        const auto* sleeper = state.find<Attempt>(claim.wakes);
        if (sleeper == nullptr || sleeper->job != claim.job || sleeper->presence != Presence::asleep) {
            return of("a claim to wake one who does not sleep: job", claim.job.value);
        }
    } else if (waits == static_cast<bool>(claim.grows))
        return of("a claim of a job in the wrong phase:", claim.job.value);
    for (const auto& part : claim.parts) {
        if ((state.at<Node>(part.node).claimed & part.gpus) != part.gpus) return on("a claim is not marked", part.node);
    }
    return std::nullopt;
}

/// A claim waits for leases that end, and for nothing else: each of its GPUs is free, or its holder has been warned and
/// goes on without it.
std::optional<std::string> waits_in_vain(const State& state, const Claim& claim) {
    for (const auto& part : claim.parts) {
        const auto& node = state.at<Node>(part.node);
        if (!node.takes_work()) return on("a claim is kept on a node that takes no work:", part.node);
        auto held = node.leased & part.gpus;
        for (const auto id : state.attempts_on(part.node)) {
            const auto& attempt = state.at<Attempt>(id);
            if (!attempt.ending) continue;
            GpuMask let_go = 0;
            for (const auto& theirs : attempt.parts) let_go |= theirs.node == part.node ? theirs.gpus : 0;
            for (const auto& next : attempt.ending->next) let_go &= next.node == part.node ? ~next.gpus : ~GpuMask{0};
            held &= ~let_go;
        }
        if (held != 0) return on("a claim waits for a lease that does not end", part.node);
    }
    return std::nullopt;
}

/// What claims have been promised of each node, and shares without holders.
std::optional<std::string> broken_promises(const State& state) {
    std::map<NodeId, Part> claimed;
    std::optional<std::string> what;
    const auto keep = [&](std::optional<std::string> found) {
        if (!what) what = std::move(found);
    };
    state.table<Claim>().for_each([&](const Claim& claim) {
        keep(broken_claim(state, claim));
        keep(waits_in_vain(state, claim));
        for (const auto& part : claim.parts) {
            auto& sum = claimed[part.node];
            if ((sum.gpus & part.gpus) != 0) keep(on("two claims wait for one GPU", part.node));
            sum.gpus |= part.gpus;
            sum.cpus += part.cpus;
            sum.memory += part.memory;
        }
    });
    state.table<Node>().for_each([&](const Node& node) {
        const auto found = claimed.find(node.id);
        const auto sum = found == claimed.end() ? Part{} : found->second;
        if (sum.gpus != node.claimed) keep(on("claimed GPUs are not those of the claims", node.id));
        if (sum.cpus != node.cpus_claimed || sum.memory != node.memory_claimed) {
            keep(on("claimed CPUs or memory are not those of the claims", node.id));
        }
    });
    state.table<SharedGpu>().for_each([&](const SharedGpu& row) {
        const auto& attempts = state.attempts_on(row.node);
        const bool has_holder = std::any_of(attempts.begin(), attempts.end(), [&](AttemptId id) {
            const auto& attempt = state.at<Attempt>(id);
            return attempt.parts.front().share > 0 && attempt.parts.front().gpus == GpuMask{1} << row.gpu &&
                   state.spec_of(state.at<Job>(attempt.job)).tenant == row.tenant;
        });
        if (!has_holder) keep(on("a GPU is open for shares that nobody holds", row.node));
    });
    return what;
}

std::optional<std::string> broken_quota(const State& state) {
    std::map<TenantId, std::int64_t> used;
    std::map<TenantId, std::int64_t> claimed;
    state.table<Claim>().for_each([&](const Claim& claim) {
        for_each_tenant(state, state.spec_of(state.at<Job>(claim.job)).tenant,
                        [&](TenantId id) { claimed[id] += milli_gpus(claim.parts); });
    });
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        for_each_tenant(state, state.spec_of(state.at<Job>(attempt.job)).tenant,
                        [&](TenantId id) { used[id] += milli_gpus(attempt.parts); });
    });
    std::optional<std::string> what;
    state.table<TenantRow>().for_each([&](const TenantRow& row) {
        if (used[row.tenant.id] != row.used)
            what = of("quota in use is not what attempts hold: tenant", row.tenant.id.value);
        if (claimed[row.tenant.id] != row.claimed)
            what = of("quota promised is not what claims hold: tenant", row.tenant.id.value);
        if (row.used < 0 || row.charged < 0) what = of("a quota or charge is negative: tenant", row.tenant.id.value);
    });
    return what;
}

/// Of each service no more replicas are to serve than were asked for, and no more are there than it may have.
std::optional<std::string> broken_service(const State& state, const Service& service) {
    const auto* spec = state.find<Spec>(service.first);
    if (spec == nullptr) return of("a service without its replicas:", service.first.value);
    if (service.spec.is_external()) {
        return service.awake == 0 ? std::nullopt
                                  : std::optional{of("an external service is scaled:", service.first.value)};
    }
    std::int32_t serve = 0;
    std::int32_t lives = 0;
    for (std::int32_t task = 0; task < spec->count; ++task) {
        const auto* job = state.find<Job>(JobId{service.first.value + static_cast<std::uint64_t>(task)});
        if (job == nullptr || std::holds_alternative<Finished>(job->phase)) continue;
        if (job->wish == Wish::awake) ++serve;
        if (std::holds_alternative<Active>(job->phase)) ++lives;
    }
    if (serve > service.awake)
        return of("more replicas are to serve than were asked for: service", service.first.value);
    if (lives > service.spec.max) return of("more replicas than there may be: service", service.first.value);
    return std::nullopt;
}

/// The one element of an external service is routed, held, or over; no other job is ever routed.
std::optional<std::string> broken_routing(const State& state, const Job& job) {
    const auto* service = state.find<Service>(job.spec);
    const bool is_external = service != nullptr && service->spec.is_external();
    if (std::holds_alternative<Routed>(job.phase)) {
        if (!is_external || job.held) return of("requests go to what has no endpoints, or is held: job", job.id.value);
        return std::nullopt;
    }
    if (!is_external || std::holds_alternative<Finished>(job.phase)) return std::nullopt;
    const bool is_held = std::holds_alternative<Waiting>(job.phase) && job.held;
    return is_held ? std::nullopt : std::optional{of("an external service waits for something: job", job.id.value)};
}

/// Who runs holds no more and no less than it may from now on.
std::optional<std::string> broken_edit(const State& state, const Edited& fact) {
    std::optional<std::string> what;
    for (std::int32_t task = 0; task < state.at<Spec>(fact.job).count && !what; ++task) {
        const auto* job = state.find<Job>(JobId{fact.job.value + static_cast<std::uint64_t>(task)});
        const auto* active = job == nullptr ? nullptr : std::get_if<Active>(&job->phase);
        if (active != nullptr) what = broken_attempt(state, active->attempt);
    }
    return what;
}

/// Nothing is lost that was not charged, and no tenant was charged less than its jobs.
std::optional<std::string> broken_accounts(const State& state) {
    std::map<TenantId, std::int64_t> charged;
    std::optional<std::string> what;
    state.table<Job>().for_each([&](const Job& job) {
        const auto& account = job.account;
        if (account.lost < 0 || account.lost > account.charged)
            what = of("more is lost than was charged: job", job.id.value);
        const bool runs = std::holds_alternative<Active>(job.phase);
        if (!runs && account.saved > account.charged) what = of("more is saved than was charged: job", job.id.value);
        for_each_tenant(state, state.spec_of(job).tenant, [&](TenantId id) { charged[id] += account.charged; });
    });
    for (const auto& [id, sum] : charged) {
        if (sum > state.at<TenantRow>(id).charged) what = of("a tenant was charged less than its jobs:", id.value);
    }
    return what;
}

}  // namespace

std::optional<std::string> broken_by(const State& state, const Fact& fact) {
    return std::visit(overloaded{
                          [&](const Started& f) { return broken_attempt(state, f.attempt); },
                          [&](const Resized& f) { return broken_attempt(state, f.attempt); },
                          [&](const Warned& f) { return broken_attempt(state, f.attempt); },
                          [&](const Running& f) { return broken_attempt(state, f.attempt); },
                          [&](const PartEnded& f) { return broken_attempt(state, f.attempt); },
                          [&](const Claimed& f) { return broken_claim(state, f.claim); },
                          [&](const NodeJoined& f) { return broken_node(state, f.node); },
                          [&](const NodeChanged& f) { return broken_node(state, f.node); },
                          [&](const ForeignNoted& f) { return broken_node(state, f.node); },
                          [&](const Ended& f) -> std::optional<std::string> {
                              if (state.find<Attempt>(f.attempt) != nullptr)
                                  return of("an ended attempt lives on:", f.attempt.value);
                              return std::nullopt;
                          },
                          [&](const Requeued& f) -> std::optional<std::string> {
                              if (state.find<Attempt>(f.attempt) != nullptr)
                                  return of("an ended attempt lives on:", f.attempt.value);
                              if (!std::holds_alternative<Waiting>(state.at<Job>(f.job).phase))
                                  return of("not waiting: job", f.job.value);
                              return std::nullopt;
                          },
                          [](const Configured&) { return std::optional<std::string>{}; },
                          [](const TenantSet&) { return std::optional<std::string>{}; },
                          [](const Submitted&) { return std::optional<std::string>{}; },
                          [](const HoldChanged&) { return std::optional<std::string>{}; },
                          [](const BackoffOver&) { return std::optional<std::string>{}; },
                          [](const BlockedBecause&) { return std::optional<std::string>{}; },
                          [](const Reserved&) { return std::optional<std::string>{}; },
                          [](const ReservationDropped&) { return std::optional<std::string>{}; },
                          [](const ClaimDropped&) { return std::optional<std::string>{}; },
                          [](const SizeWanted&) { return std::optional<std::string>{}; },
                          [](const Progressed&) { return std::optional<std::string>{}; },
                          [](const Dropped&) { return std::optional<std::string>{}; },
                          [](const Retired&) { return std::optional<std::string>{}; },
                          [](const TookOffice&) { return std::optional<std::string>{}; },
                          [](const Settled&) { return std::optional<std::string>{}; },
                          [](const GrowthPlanned&) { return std::optional<std::string>{}; },
                          [](const PassCutOff&) { return std::optional<std::string>{}; },
                          [&](const Seated& f) { return broken_attempt(state, f.attempt); },
                          [&](const Woken& f) { return broken_attempt(state, f.attempt); },
                          [&](const Lent& f) { return broken_attempt(state, f.attempt); },
                          [](const DemandNoted&) { return std::optional<std::string>{}; },
                          [](const Scaled&) { return std::optional<std::string>{}; },
                          [](const ShrinkPlanned&) { return std::optional<std::string>{}; },
                          [](const HelpPlanned&) { return std::optional<std::string>{}; },
                          [](const Wished&) { return std::optional<std::string>{}; },
                          [](const Ready&) { return std::optional<std::string>{}; },
                          [](const SleepBegun&) { return std::optional<std::string>{}; },
                          [](const SleepRefused&) { return std::optional<std::string>{}; },
                          [&](const Edited& f) { return broken_edit(state, f); },
                          [](const Answered&) { return std::optional<std::string>{}; },
                          [](const Failing&) { return std::optional<std::string>{}; },
                          [](const Returned&) { return std::optional<std::string>{}; },
                      },
                      fact);
}

std::optional<std::string> broken(const State& state) {
    std::optional<std::string> what;
    const auto keep = [&](std::optional<std::string> found) {
        if (!what) what = std::move(found);
    };
    keep(broken_promises(state));
    state.table<Node>().for_each([&](const Node& node) { keep(broken_node(state, node.id)); });
    state.table<Attempt>().for_each([&](const Attempt& attempt) { keep(broken_attempt(state, attempt.id)); });
    state.table<Job>().for_each([&](const Job& job) {
        const auto* active = std::get_if<Active>(&job.phase);
        if (active != nullptr && state.find<Attempt>(active->attempt) == nullptr) {
            keep(of("an active job without its attempt:", job.id.value));
        }
        keep(broken_routing(state, job));
    });
    keep(broken_quota(state));
    keep(broken_accounts(state));
    state.table<Service>().for_each([&](const Service& service) { keep(broken_service(state, service)); });
    if (what) return what;
    const auto rebuilt = State::from_rows(state.rows());
    if (!rebuilt) return "rows do not read back";
    if (rebuilt->rows() != state.rows()) return "rows do not read back as they were";
    if (rebuilt->derived_text() != state.derived_text()) {
        return "derived data is not what its rows make it:\n" + state.derived_text() + "\nrebuilt:\n" +
               rebuilt->derived_text();
    }
    return std::nullopt;
}

}  // namespace stargate
