#include <fmt/format.h>

#include "twin/world.hpp"

/// The people of the simulated world: what they submit, and how they change their minds.
namespace stargate::twin {

namespace {
constexpr double people_do_it_to_a_replica = 0.1;

/// Which element of `loads` a draw falls on.
std::size_t pick(Rng& rng, const std::vector<double>& loads) {
    double sum = 0;
    for (const auto load : loads) sum += load;
    auto at = rng.unit() * sum;
    for (std::size_t i = 0; i < loads.size(); ++i) {
        if (at < loads[i]) return i;
        at -= loads[i];
    }
    return loads.size() - 1;
}
}  // namespace

void World::arrive() {
    if (closing_) return;
    submit_one();
    queue_.push(now_ + arrivals_.exponential(scenario_.arrival_every), Happening::arrival);
}

void World::submit_one() {
    if (kind_loads_.empty()) return;
    const auto which = pick(arrivals_, kind_loads_);
    const auto& kind = scenario_.kinds[which];
    const auto& tenant = scenario_.tenants[pick(arrivals_, tenant_loads_)];
    Submit submit;
    submit.spec = kind.spec;
    submit.spec.name = fmt::format("{}-{}", kind.name, submitted_);
    submit.spec.owner = static_cast<std::uint32_t>(which);
    submit.tenant = tenant.name;
    submit.count = kind.count;
    submit.held = arrivals_.chance(kind.held);
    if (kind.after > 0) {
        auto& newest = newest_job_of_[tenant.name];
        if (arrivals_.chance(kind.after) && !newest.empty()) submit.after.push_back(newest);
        newest = submit.spec.name;
    }
    submitted_ += kind.count;
    put(std::move(submit), true);
}

Duration World::mean_of(Act what) const {
    const auto& people = scenario_.people;
    switch (what) {
        case Act::cancel:
            return people.cancel;
        case Act::hold:
            return people.hold;
        case Act::release:
            return people.release;
        case Act::resize:
            return people.resize;
        case Act::drain:
            return people.drain;
        case Act::undrain:
            return people.undrain;
        case Act::quota:
            return people.quota;
        case Act::edit:
            return people.edit;
    }
    return {};
}

JobId World::an_active_job() {
    const auto& elastic = control_plane_->state().elastic_attempts();
    if (elastic.empty()) return {};
    auto one = elastic.begin();
    std::advance(one, people_.below(elastic.size()));
    return control_plane_->state().at<Attempt>(*one).job;
}

/// Somebody does something to a recent job or to any node, whether it makes sense or not.
void World::act(Act what) {
    if (!control_plane_) return;
    const auto jobs = control_plane_->state().counters().jobs;
    if (jobs == 0) return;
    JobId job{jobs - people_.below(std::min<std::uint64_t>(jobs, 400))};
    if (!scenario_.services.empty() && people_.chance(people_do_it_to_a_replica)) job = a_replica();
    const NodeId node{1 + people_.below(machines_.size())};
    switch (what) {
        case Act::cancel:
            return put(Cancel{job}, true);
        case Act::hold:
            return put(Hold{job, true}, true);
        case Act::release:
            return put(Hold{job, false}, true);
        case Act::resize:
            return put(Resize{an_active_job(), static_cast<std::int32_t>(people_.below(9))}, true);
        case Act::drain:
            return put(Drain{node, true}, true);
        case Act::undrain:
            return put(Drain{node, false}, true);
        case Act::quota:
            return change_a_quota();
        case Act::edit:
            return change_a_job(job);
    }
}

/// Another class, time limit, size or order; of what runs too.
void World::change_a_job(JobId job) {
    Edit edit{job};
    switch (people_.below(4)) {
        case 0:
            edit.priority = static_cast<PriorityClass>(people_.below(4));
            break;
        case 1:
            edit.time_limit = std::chrono::minutes{1 + static_cast<std::int64_t>(people_.below(60))};
            break;
        case 2: {
            if (people_.chance(0.5)) edit.job = an_active_job();
            const GpuCount least{1 + static_cast<std::int32_t>(people_.below(4))};
            edit.gpus = GpuRange{least, least + GpuCount{static_cast<std::int32_t>(people_.below(12))}};
            break;
        }
        default: {
            edit.after.emplace();
            const auto& newest = newest_job_of_[scenario_.tenants[people_.below(scenario_.tenants.size())].name];
            if (people_.chance(0.5) && !newest.empty()) edit.after->push_back(newest);
            break;
        }
    }
    put(edit, true);
}

/// Somewhere between a quarter and all of what the tenant was promised.
void World::change_a_quota() {
    const auto& tenant = scenario_.tenants[people_.below(scenario_.tenants.size())];
    if (tenant.quota_gpus <= 0) return;
    const auto quarter = std::max<std::int64_t>(1, tenant.quota_gpus / 4);
    const auto gpus =
        quarter + static_cast<std::int64_t>(people_.below(static_cast<std::uint64_t>(tenant.quota_gpus - quarter + 1)));
    if (gpus < tenant.quota_gpus) note("quota_lowered");
    set_quota(tenant, gpus);
}

void World::set_quota(const TenantPlan& tenant, std::int64_t gpus) {
    put(SetTenant{tenant.name, gpus < 0 ? -1 : gpus * 1000, tenant.weight, 0b1111}, false);
}

/// With faults over, people take their holds, drains and limits away, and nodes tell once more what may have been lost.
void World::tidy_up() {
    if (!control_plane_) return;
    const auto& state = control_plane_->state();
    state.table<Job>().for_each([&](const Job& job) {
        if (job.held && std::holds_alternative<Waiting>(job.phase)) put(Hold{job.id, false}, true);
    });
    state.table<Node>().for_each([&](const Node& node) {
        if (node.draining) put(Drain{node.id, false}, true);
    });
    for (const auto& tenant : scenario_.tenants) {
        if (tenant.quota_gpus > 0) set_quota(tenant, tenant.quota_gpus);
    }
    ++times_tidied_;
    for (std::size_t id = 1; id < links_of_.size(); ++id) {
        if (!links_of_[id].up) continue;
        machines_.reconcile(now_, NodeId{id});
        tell_stray(NodeId{id});
    }
}

}  // namespace stargate::twin
