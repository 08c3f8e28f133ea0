#include "core/decide.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

#include "base/overloaded.hpp"
#include "core/attempts.hpp"
#include "core/edit.hpp"
#include "core/policy/place.hpp"
#include "core/policy/reclaim.hpp"
#include "core/schedule.hpp"
#include "core/serving.hpp"

namespace stargate {

namespace {

/// Deadlines handled in one Due; more are handled by the next, which the timer asks for at once.
constexpr int max_due = 10'000;

Answer refuse(Why why, std::int64_t need = 0, std::int64_t have = 0, std::uint64_t about = 0) {
    return {{why, need, have, about}, {}};
}

Answer take_office(Core& core, Instant now, const TakeOffice& in) {
    if (in.term <= core.state().counters().term) return refuse(Why::wrong_state);
    if (core.state().settings() != in.settings) core.apply(now, Configured{in.settings});
    const bool was_away = core.state().counters().term > 0;
    core.apply(now, TookOffice{in.term, was_away ? now + in.settings.gang_limit : Instant{}, in.newest_attempt});
    return {};
}

void lose_all_on(Core& core, Instant now, NodeId node, const std::string& detail) {
    const auto attempts = core.state().attempts_on(node);  // a copy: losing edits the set
    for (const auto attempt : attempts) attempt_lost(core, now, attempt, node, detail);
}

/// A claim ends whole: an attempt that was to grow into it goes on as large as it is.
void drop_late_claim(Core& core, Instant now, JobId job) {
    const auto grows = core.state().at<Claim>(job).grows;
    core.apply(now, ClaimDropped{job});
    if (grows) warn(core, now, grows, EndCause::resize, core.state().at<Attempt>(grows).parts, {});
}

/// A claim that counts on GPUs which somebody else turns out to hold, or on a node that takes no work, would wait for
/// ever; an attempt that grew onto such a node could neither start there nor end.
void drop_claims_where(Core& core, Instant now, const std::function<bool(const Part&)>& is_lost) {
    std::vector<JobId> late;
    core.state().table<Claim>().for_each([&](const Claim& claim) {
        if (std::any_of(claim.parts.begin(), claim.parts.end(), is_lost)) late.push_back(claim.job);
    });
    for (const auto job : late) drop_late_claim(core, now, job);
}

/// The same of a node as it will be, for claims that count on GPUs outside `gpus`, or on CPUs or memory that it lacks.
void drop_claims_beyond(Core& core, Instant now, const Node& node, GpuMask gpus) {
    const bool lacks_cpus = node.free_cpus() < MilliCpus{};
    const bool lacks_memory = node.free_memory() < Bytes{};
    drop_claims_where(core, now, [&](const Part& part) {
        const bool is_hit = (part.gpus & ~gpus) != 0 || (lacks_cpus && part.cpus > MilliCpus{}) ||
                            (lacks_memory && part.memory > Bytes{});
        return part.node == node.id && is_hit;
    });
}

/// Foreign work can hold no more of a host than our own leaves: that is our word. Where the host shrank under our own,
/// nothing.
template <class Amount>
Amount left_for_foreign(Amount all, Amount leased) {
    return std::max(Amount{}, all - leased);
}

void drop_claims_on(Core& core, Instant now, NodeId node) {
    drop_claims_where(core, now, [&](const Part& part) { return part.node == node; });
}

/// A quota that was lowered takes back what was promised beyond it, the newest job's claim first; leases stay.
void drop_claims_beyond_quota(Core& core, Instant now, TenantId id) {
    const auto& state = core.state();
    std::vector<JobId> claims;
    state.table<Claim>().for_each([&](const Claim& claim) {
        for_each_tenant(state, state.spec_of(state.at<Job>(claim.job)).tenant, [&](TenantId tenant) {
            if (tenant == id) claims.push_back(claim.job);
        });
    });
    while (!claims.empty()) {
        const auto& row = state.at<TenantRow>(id);
        if (row.tenant.quota < 0 || row.used + row.claimed <= row.tenant.quota) return;
        drop_late_claim(core, now, claims.back());
        claims.pop_back();
    }
}

/// Makes every ancestor of `lab/nlp` that is not there yet, then the tenant itself.
void set_tenant(Core& core, Instant now, const SetTenant& in) {
    TenantId parent;
    for (std::size_t from = 0; from != std::string::npos;) {
        const auto slash = in.name.find('/', from);
        const auto path = in.name.substr(0, slash);
        const auto known = core.state().tenant_named(path);
        const bool is_leaf = slash == std::string::npos;
        Tenant tenant;
        if (known) tenant = core.state().at<TenantRow>(*known).tenant;
        tenant.id = known ? *known : TenantId{core.state().counters().tenants + 1};
        tenant.parent = parent;
        tenant.name = path;
        if (is_leaf && !in.keeps_quota) tenant.quota = in.quota;
        if (is_leaf && !in.keeps_weight) tenant.weight = in.weight;
        if (is_leaf && !in.keeps_classes) tenant.may_use = in.may_use;
        if (is_leaf && !in.keeps_members) tenant.members = in.members;
        const auto* row = core.state().find<TenantRow>(tenant.id);
        if (row == nullptr || (is_leaf && row->tenant != tenant)) core.apply(now, TenantSet{tenant});
        if (is_leaf) drop_claims_beyond_quota(core, now, tenant.id);
        parent = tenant.id;
        from = is_leaf ? std::string::npos : slash + 1;
    }
}

/// All that ran on the node is dead, and so is what we did not know of.
void lose_foreign_on(Core& core, Instant now, NodeId id) {
    const auto& node = core.state().at<Node>(id);
    if (node.foreign_running != 0) core.apply(now, ForeignNoted{id, 0, node.foreign_attempts, 0});
}

/// Whether a machine that was this can have become that; what else changed was meant to be another machine.
bool is_of_same_kind(const NodeShape& from, const NodeShape& to) {
    return std::tie(from.gpu_type, from.rack, from.pod, from.hall, from.site) ==
           std::tie(to.gpu_type, to.rack, to.pod, to.hall, to.site);
}

/// The node is about to become `to`. Who holds what it lost holds it to the end; nobody may wait for that.
void give_up_what_is_gone(Core& core, Instant now, NodeId id, const NodeShape& to) {
    auto node = core.state().at<Node>(id);
    node.shape = to;
    drop_claims_beyond(core, now, node, node.all());
    const ForeignNoted foreign{id,
                               node.foreign & node.all(),
                               node.foreign_attempts,
                               node.foreign_running,
                               std::min(node.cpus_foreign, left_for_foreign(node.shape.cpus, node.cpus_leased)),
                               std::min(node.memory_foreign, left_for_foreign(node.shape.memory, node.memory_leased))};
    if (std::tie(foreign.gpus, foreign.cpus, foreign.memory) !=
        std::tie(node.foreign, node.cpus_foreign, node.memory_foreign)) {
        core.apply(now, foreign);
    }
}

void node_up(Core& core, Instant now, const NodeUp& in) {
    const auto id = core.state().node_named(in.shape.name);
    if (!id) {
        core.apply(now, NodeJoined{NodeId{core.state().counters().nodes + 1}, in.shape, in.boot});
        return;
    }
    const auto node = core.state().at<Node>(id);
    if (node.boot != in.boot) {
        lose_all_on(core, now, id, "the node restarted: it came back with another boot id");
        lose_foreign_on(core, now, id);
    }
    if (node.shape != in.shape && is_of_same_kind(node.shape, in.shape)) {
        give_up_what_is_gone(core, now, id, in.shape);
        core.apply(now, NodeJoined{id, in.shape, in.boot});
    } else if (node.boot != in.boot || node.reach != Reach::up) {
        core.apply(now, NodeChanged{id, Reach::up, node.draining, in.boot});
    }
}

Answer change_reach(Core& core, Instant now, NodeId id, Reach reach) {
    const auto* node = core.state().find<Node>(id);
    if (node == nullptr) return refuse(Why::not_found);
    if (reach == Reach::dead) {
        lose_all_on(core, now, id, "its node died");
        lose_foreign_on(core, now, id);
    }
    const auto& after = core.state().at<Node>(id);
    if (after.reach == reach || (reach == Reach::silent && after.reach == Reach::dead)) return {};
    drop_claims_on(core, now, id);
    core.apply(now, NodeChanged{id, reach, after.draining, after.boot});
    return {};
}

Answer drain(Core& core, Instant now, const Drain& in) {
    const auto* node = core.state().find<Node>(in.node);
    if (node == nullptr) return refuse(Why::not_found);
    if (node->draining == in.draining) return {};
    if (in.draining) drop_claims_on(core, now, in.node);
    core.apply(now, NodeChanged{in.node, node->reach, in.draining, node->boot});
    return {};
}

/// The newest job or array of this name that the tenant has, the submitter's own before others'; null when there is
/// none.
const Spec* resolve(const State& state, const std::string& name, TenantId tenant, std::uint32_t owner) {
    const Spec* newest = nullptr;
    const auto& named = state.named(name);
    for (auto first = named.rbegin(); first != named.rend(); ++first) {
        const auto& row = state.at<Spec>(*first);
        if (row.spec.tenant != tenant) continue;
        if (row.spec.owner == owner) return &row;
        if (newest == nullptr) newest = &row;
    }
    return newest;
}

/// An element of the array that is known not to have succeeded; none as long as all may.
JobId failed_of(const State& state, const Spec& array) {
    if (array.failed > 0) return array.first;
    if (state.failed(array.first) == 0) return {};
    for (auto id = array.first;; ++id.value) {
        const auto* job = state.find<Job>(id);
        const auto* finished = job == nullptr ? nullptr : std::get_if<Finished>(&job->phase);
        if (finished != nullptr && finished->outcome != Outcome::succeeded) return id;
    }
}

/// Whether there can be such replicas: each on one node, and as many as the array has elements.
bool can_be(const ServiceSpec& service, const JobSpec& spec, std::int32_t count) {
    return service.min >= 0 && service.max >= 1 && service.min <= service.max && service.max <= max_replicas &&
           service.standby >= 0 && service.max_concurrency >= 1 && service.slo >= Duration{} && count == service.max &&
           spec.require == Level::node && !spec.is_elastic() && spec.share == 0;
}

/// The service of this name that clients reach, whoever's it is; none when all of its replicas are over or told to end.
JobId living_service(const State& state, const std::string& name) {
    for (const auto first : state.named(name)) {
        if (state.find<Service>(first) == nullptr) continue;
        for (std::int32_t task = 0; task < state.at<Spec>(first).count; ++task) {
            const auto* job = state.find<Job>(JobId{first.value + static_cast<std::uint64_t>(task)});
            if (job == nullptr || std::holds_alternative<Finished>(job->phase)) continue;
            const auto* active = std::get_if<Active>(&job->phase);
            const auto* attempt = active == nullptr ? nullptr : state.find<Attempt>(active->attempt);
            const bool ends = attempt != nullptr && attempt->ending && attempt->ending->cause == EndCause::cancel;
            if (!ends) return first;
        }
    }
    return {};
}

/// Whether there can be such a service of endpoints: one element, which asks for nothing of the fleet.
bool can_be_external(const Submit& in) {
    const auto& service = *in.service;
    return in.spec.kind == Kind::service && service.endpoints.size() <= max_endpoints && service.min == 1 &&
           service.max == 1 && service.standby == 0 && service.max_concurrency >= 1 && service.slo >= Duration{} &&
           in.count == 1 && in.after.empty() && in.spec.max_gpus == GpuCount{} && in.spec.share == 0;
}

/// Services of endpoints that are not over.
std::int64_t external_services(const State& state) {
    std::int64_t count = 0;
    state.table<Service>().for_each([&](const Service& service) {
        const auto* job = state.find<Job>(service.first);
        const bool is_there = job != nullptr && !std::holds_alternative<Finished>(job->phase);
        count += service.spec.is_external() && is_there ? 1 : 0;
    });
    return count;
}

/// It takes nothing of the fleet and waits for nothing, so neither classes nor quotas nor the length of the queue say
/// anything about it.
Answer submit_external(Core& core, Instant now, const Submit& in, const JobSpec& spec) {
    const auto& state = core.state();
    if (!can_be_external(in)) return refuse(Why::bad_service);
    if (const auto other = living_service(state, spec.name)) return refuse(Why::name_taken, 0, 0, other.value);
    const auto count = external_services(state) + 1;
    if (count > max_external_services) return refuse(Why::too_many_services, count, max_external_services);
    const JobId first{state.counters().jobs + 1};
    core.apply(now, Submitted{first, 1, spec, in.held, in.service});
    return {{}, first};
}

Answer submit(Core& core, Instant now, const Submit& in) {
    const auto& state = core.state();
    const auto tenant = state.tenant_named(in.tenant);
    if (!tenant) return refuse(Why::unknown_tenant);
    auto spec = in.spec;
    spec.tenant = *tenant;
    if (in.service && in.service->is_external()) return submit_external(core, now, in, spec);
    if ((state.at<TenantRow>(*tenant).tenant.may_use & bit_of(spec.priority)) == 0) {
        return refuse(Why::class_not_allowed, 0, 0, tenant->value);
    }
    if (in.count < 1 || in.count > state.settings().max_array) {
        return refuse(Why::bad_array, in.count, state.settings().max_array);
    }
    if (state.waiting() + in.count > state.settings().max_waiting) {
        return refuse(Why::too_many_waiting, state.waiting() + in.count, state.settings().max_waiting);
    }
    if (in.service && (!in.after.empty() || !can_be(*in.service, spec, in.count))) return refuse(Why::bad_service);
    if (in.service.has_value() != (spec.kind == Kind::service)) return refuse(Why::bad_service);
    if (in.service) {
        if (const auto other = living_service(state, spec.name)) return refuse(Why::name_taken, 0, 0, other.value);
    }
    const auto of_one = state.waiting_of(spec.owner) + in.count;
    if (of_one > state.settings().max_waiting_of_one) {
        return refuse(Why::too_many_of_one, of_one, state.settings().max_waiting_of_one);
    }
    if (const auto why = find_what_comes_before(state, in.after, spec); why.why != Why::none) return {why, {}};
    if (const auto why = can_ever_run(state, spec); why.why != Why::none) return {why, {}};
    const JobId first{state.counters().jobs + 1};
    core.apply(now, Submitted{first, in.count, spec, in.held, in.service});
    return {{}, first};
}

Answer cancel(Core& core, Instant now, JobId id) {
    const auto* job = core.state().find<Job>(id);
    if (job == nullptr) return refuse(Why::not_found);
    if (std::holds_alternative<Finished>(job->phase)) return refuse(Why::wrong_state, 0, 0, id.value);
    if (const auto* active = std::get_if<Active>(&job->phase)) {
        cancel_attempt(core, now, active->attempt);
        return {};
    }
    const bool is_routed = std::holds_alternative<Routed>(job->phase);
    core.apply(
        now, Dropped{id, Outcome::cancelled, is_routed ? "no request goes there any more" : "cancelled before it ran"});
    drop_dependents(core, now, id);
    return {};
}

Answer hold(Core& core, Instant now, const Hold& in) {
    const auto* job = core.state().find<Job>(in.job);
    if (job == nullptr) return refuse(Why::not_found);
    const bool can_be = std::holds_alternative<Waiting>(job->phase) ||
                        (in.held && std::holds_alternative<Routed>(job->phase));  // then no request goes there
    if (!can_be) return refuse(Why::wrong_state, 0, 0, in.job.value);
    if (job->held != in.held) core.apply(now, HoldChanged{in.job, in.held});
    return {};
}

Answer resize(Core& core, Instant now, const Resize& in) {
    const auto& state = core.state();
    const auto* job = state.find<Job>(in.job);
    if (job == nullptr) return refuse(Why::not_found);
    const auto& spec = state.spec_of(*job);
    if (!spec.is_elastic()) return refuse(Why::not_elastic, in.gpus, spec.min_gpus.count());
    const auto* active = std::get_if<Active>(&job->phase);
    if (active == nullptr) return refuse(Why::wrong_state, 0, 0, in.job.value);
    if (in.gpus != 0 && (in.gpus < std::max(1, spec.min_gpus.count()) || in.gpus > spec.max_gpus.count())) {
        return refuse(Why::never_fits, in.gpus, spec.max_gpus.count());
    }
    const auto attempt = state.at<Attempt>(active->attempt);
    if (attempt.ending) return refuse(Why::wrong_state, 0, 0, in.job.value);
    if (attempt.want_gpus != in.gpus) core.apply(now, SizeWanted{attempt.id, in.gpus});
    // A gang that is still starting is cut by the pass that finds it running.
    if (in.gpus != 0 && in.gpus < attempt.gpu_count() && attempt.gang_deadline == never) {
        warn(core, now, attempt.id, EndCause::resize, cut_to(spec, attempt.parts, in.gpus), {});
    }
    return {};  // growth comes with the pass, as GPUs are spare
}

Answer foreign_found(Core& core, Instant now, const ForeignFound& in) {
    const auto* node = core.state().find<Node>(in.node);
    if (node == nullptr) return refuse(Why::not_found);
    // What we have granted is our own word.
    const auto gpus = in.gpus & node->all() & ~node->leased;
    const auto cpus = std::clamp(in.cpus, MilliCpus{}, left_for_foreign(node->shape.cpus, node->cpus_leased));
    const auto memory = std::clamp(in.memory, Bytes{}, left_for_foreign(node->shape.memory, node->memory_leased));
    auto attempts = in.attempts;
    std::erase_if(attempts, [&](AttemptId id) { return core.state().find<Attempt>(id) != nullptr; });
    if (std::tie(gpus, attempts, in.running, cpus, memory) == std::tie(node->foreign, node->foreign_attempts,
                                                                       node->foreign_running, node->cpus_foreign,
                                                                       node->memory_foreign)) {
        return {};
    }
    auto after = *node;
    after.cpus_foreign = cpus;
    after.memory_foreign = memory;
    drop_claims_beyond(core, now, after, after.all() & ~gpus);
    core.apply(now, ForeignNoted{in.node, gpus, std::move(attempts), in.running, cpus, memory});
    return {};
}

void due(Core& core, Instant now) {
    const auto& state = core.state();
    for (int handled = 0; handled < max_due && !state.deadlines().empty(); ++handled) {
        const auto deadline = *state.deadlines().begin();
        if (deadline.at > now) return;
        switch (deadline.kind) {
            case DeadlineKind::growth:
            case DeadlineKind::shrink:
            case DeadlineKind::help:
                return;  // the pass that follows grows, or plans anew
            case DeadlineKind::time_limit:
                warn(core, now, AttemptId{deadline.id}, EndCause::time_limit, {}, {});
                break;
            case DeadlineKind::gang:
                warn(core, now, AttemptId{deadline.id}, EndCause::gang_broken, {}, {});
                break;
            case DeadlineKind::reply:
                warn(core, now, AttemptId{deadline.id}, EndCause::unanswered, {}, {});
                break;
            case DeadlineKind::settle:
                core.apply(now, Settled{AttemptId{deadline.id}});
                break;
            case DeadlineKind::claim:
                drop_late_claim(core, now, JobId{deadline.id});
                break;
            case DeadlineKind::reservation:
                core.apply(now, ReservationDropped{JobId{deadline.id}});
                break;
            case DeadlineKind::backoff:
                core.apply(now, BackoffOver{JobId{deadline.id}});
                break;
        }
    }
}

/// How many GPUs' worth of ranks an empty node could hold.
std::int32_t room_when_empty(const Node& node, const JobSpec& spec) {
    std::int64_t room = node.shape.gpus.count();
    if (spec.cpus_per_rank > MilliCpus{}) room = std::min(room, node.shape.cpus.count() / spec.cpus_per_rank.count());
    if (spec.memory_per_rank > Bytes{}) room = std::min(room, node.shape.memory.count() / spec.memory_per_rank.count());
    return static_cast<std::int32_t>(room);
}

Refusal fits_some_node(const State& state, const JobSpec& spec, std::int32_t gpus) {
    Refusal closest{Why::never_fits, gpus, 0, 0};
    bool fits = false;
    std::int32_t most = 0;
    state.table<Node>().for_each([&](const Node& node) {
        if (fits || !allows(spec.gpu_types, node.shape.gpu_type)) return;
        most = std::max(most, node.shape.gpus.count());
        if (node.shape.gpus.count() < gpus) return;
        const auto part = part_on(spec, node.id, lowest(node.all(), gpus));
        if (part.cpus > node.shape.cpus) {
            closest = {Why::no_cpus, part.cpus.count(), node.shape.cpus.count(), node.id.value};
        } else if (part.memory > node.shape.memory) {
            closest = {Why::no_memory, part.memory.count(), node.shape.memory.count(), node.id.value};
        } else {
            fits = true;
        }
    });
    if (fits) return {};
    if (closest.why == Why::never_fits) closest.have = most;
    return closest;
}

Refusal fits_some_domain(const State& state, const JobSpec& spec, std::int32_t gpus) {
    std::int32_t most = 0;
    for (const auto& domain : state.domains(spec.require)) {
        std::int32_t room = 0;
        for (const auto id : domain.nodes) {
            const auto& node = state.at<Node>(id);
            if (allows(spec.gpu_types, node.shape.gpu_type)) room += room_when_empty(node, spec);
            if (room >= gpus) return {};
        }
        most = std::max(most, room);
    }
    // Where not even one rank finds room, the host is what lacks.
    if (most == 0) {
        if (const auto why = fits_some_node(state, spec, 1); why.why != Why::none) return why;
    }
    return {Why::never_fits, gpus, most, 0};
}

}  // namespace

Refusal find_what_comes_before(const State& state, const std::vector<std::string>& after, JobSpec& spec) {
    spec.after.clear();
    spec.comes_after.clear();
    std::set<JobId> known;
    for (std::size_t i = 0; i < after.size(); ++i) {
        const auto* array = resolve(state, after[i], spec.tenant, spec.owner);
        if (array == nullptr) return {Why::unknown_dependency, static_cast<std::int64_t>(i), 0, 0};
        if (const auto failed = failed_of(state, *array)) return {Why::dependency_failed, 0, 0, failed.value};
        if (known.insert(array->first).second) spec.comes_after.push_back({array->first, array->count});
    }
    if (known.size() <= max_after) return {};
    return {Why::too_many_after, static_cast<std::int64_t>(known.size()), static_cast<std::int64_t>(max_after), 0};
}

Refusal can_ever_run(const State& state, const JobSpec& spec) {
    const auto want = spec.min_gpus.count();
    Refusal quota;
    const auto asked = spec.share > 0 ? spec.share : std::int64_t{1000} * want;
    for_each_tenant(state, spec.tenant, [&](TenantId id) {
        const auto& tenant = state.at<TenantRow>(id).tenant;
        if (tenant.quota >= 0 && asked > tenant.quota) quota = {Why::never_fits, asked, tenant.quota, id.value};
    });
    if (quota.why != Why::none) return quota;
    const auto least = spec.share > 0 ? 1 : want;
    if (least > state.all_gpus(spec.gpu_types)) return {Why::never_fits, least, state.all_gpus(spec.gpu_types), 0};
    return spec.require == Level::node || want == 0 || spec.share > 0 ? fits_some_node(state, spec, least)
                                                                      : fits_some_domain(state, spec, want);
}

Answer decide(Core& core, Instant now, const Input& input) {
    return std::visit(overloaded{
                          [&](const TakeOffice& in) { return take_office(core, now, in); },
                          [&](const SetTenant& in) -> Answer { return set_tenant(core, now, in), Answer{}; },
                          [&](const NodeUp& in) -> Answer { return node_up(core, now, in), Answer{}; },
                          [&](const NodeSilent& in) { return change_reach(core, now, in.node, Reach::silent); },
                          [&](const NodeDead& in) { return change_reach(core, now, in.node, Reach::dead); },
                          [&](const Drain& in) { return drain(core, now, in); },
                          [&](const Submit& in) { return submit(core, now, in); },
                          [&](const Cancel& in) { return cancel(core, now, in.job); },
                          [&](const Hold& in) { return hold(core, now, in); },
                          [&](const Resize& in) { return resize(core, now, in); },
                          [&](const Edit& in) { return edit(core, now, in); },
                          [&](const Due&) -> Answer { return due(core, now), Answer{}; },
                          [&](const Pass& in) -> Answer {
                              return in.starts_nothing ? put_growth_off(core, now) : schedule(core, now, in), Answer{};
                          },
                          [&](const RanksRunning& in) -> Answer { return ranks_running(core, now, in), Answer{}; },
                          [&](const RanksEnded& in) -> Answer { return ranks_ended(core, now, in), Answer{}; },
                          [&](const AttemptLost& in) -> Answer {
                              return attempt_lost(core, now, in.attempt, in.node, in.detail), Answer{};
                          },
                          [&](const Progress& in) -> Answer { return progress(core, now, in), Answer{}; },
                          [&](const ForeignFound& in) { return foreign_found(core, now, in); },
                          [&](const ServiceDemand& in) { return service_demand(core, now, in); },
                          [&](const ReplicaReady& in) -> Answer { return replica_ready(core, now, in), Answer{}; },
                          [&](const ReplicaAsleep& in) -> Answer { return replica_asleep(core, now, in), Answer{}; },
                          [&](const ReplicaAnswered& in) -> Answer { return first_answer(core, now, in), Answer{}; },
                          [&](const ReplicaFailed& in) -> Answer { return replica_failed(core, now, in), Answer{}; },
                      },
                      input);
}

}  // namespace stargate
