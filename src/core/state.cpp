#include "core/state.hpp"

#include <algorithm>
#include <bit>

#include "base/overloaded.hpp"

namespace stargate {

namespace {
const std::set<JobId> no_jobs;
const boost::container::flat_set<AttemptId> no_attempts;
const NodeSet no_nodes;
const TenantWork no_work;

bool has_type(GpuTypeBits types, std::size_t type) { return types == 0 || (types >> type & 1U) != 0; }

std::int32_t sum_of(const FreeByType& counts, GpuTypeBits types) {
    std::int32_t sum = 0;
    for (std::size_t type = 0; type < counts.size(); ++type) {
        if (has_type(types, type)) sum += counts[type];
    }
    return sum;
}

void grow_to(FreeByType& counts, std::size_t size) {
    if (counts.size() < size) counts.resize(size);
}

constexpr std::size_t first_domain_level = 1;  // a node is its own domain: nodes_by_free_ has it

}  // namespace

std::uint32_t domain_of(const NodeShape& shape, Level level) {
    switch (level) {
        case Level::rack:
            return shape.rack;
        case Level::pod:
            return shape.pod;
        case Level::hall:
            return shape.hall;
        case Level::site:
            return shape.site;
        case Level::node:
        case Level::fleet:
            return 0;
    }
    return 0;
}

ShapeKey shape_of(const JobSpec& spec) {
    return {-static_cast<std::int32_t>(rank_of(spec.priority)),
            spec.tenant,
            spec.min_gpus.count(),
            spec.max_gpus.count(),
            spec.share,
            spec.gpu_types,
            spec.cpus_per_rank,
            spec.memory_per_rank,
            spec.require,
            spec.one_rank_a_node};
}

State::State() = default;

void State::take_back(Edit edit) {
    CHECK(undo_ == nullptr);
    ++placement_version_;
    any_service_changed_ = true;
    std::visit(overloaded{
                   [this]<class Row>(Old<Row>& old) {
                       auto& rows = std::get<TableFor<Row>>(tables_);
                       if (Row* now = rows.find(old.key)) {
                           unindex(*now);
                           if constexpr (std::is_same_v<Row, Node>) {
                               if (!old.row) left(*now);
                           }
                           if (!old.row) rows.erase(old.key);
                       }
                       if (old.row) {
                           rows.put(old.key, std::move(*old.row));
                           index(*rows.find(old.key));
                       }
                   },
                   [this](const OldLeft& old) {
                       auto& row = *std::get<TableFor<Spec>>(tables_).find(old.spec);
                       row.left = old.left;
                       row.failed = old.failed;
                   },
                   [this](OldSpec& old) { edit_spec(old.first, std::move(old.spec)); },
               },
               edit);
}

void State::count_gone(JobId spec, bool had_failed) {
    auto& row = *std::get<TableFor<Spec>>(tables_).find(spec);
    if (undo_ != nullptr) undo_->push_back(OldLeft{spec, row.left, row.failed});
    --row.left;
    row.failed += had_failed ? 1 : 0;
}

void State::edit_spec(JobId first, JobSpec spec) {
    ++placement_version_;
    auto& row = *std::get<TableFor<Spec>>(tables_).find(first);
    // Whatever stands somewhere because of what it asks for is taken out of there and put where it belongs now.
    const auto for_each_element = [&](auto visit) {
        for (std::int32_t task = 0; task < row.count; ++task) {
            const auto* job = find<Job>(JobId{first.value + static_cast<std::uint64_t>(task)});
            if (job != nullptr) visit(*job);
        }
    };
    const auto account_attempt = [&](const Job& job, int sign) {
        const auto* active = std::get_if<Active>(&job.phase);
        const auto* attempt = active == nullptr ? nullptr : find<Attempt>(active->attempt);
        if (attempt != nullptr) account(*attempt, sign);
    };
    for_each_element([&](const Job& job) {
        account_attempt(job, -1);
        take_out_of_line(job);
    });
    const auto open = elements_.find(first)->open;
    unindex(row);
    if (undo_ != nullptr) undo_->push_back(OldSpec{first, std::move(row.spec)});
    row.spec = std::move(spec);
    index(row);
    elements_.find(first)->open = open;
    for_each_element([&](const Job& job) {
        put_in_line(job);
        account_attempt(job, 1);
    });
}

bool State::has_succeeded(const Job& job) {
    const auto* finished = std::get_if<Finished>(&job.phase);
    return finished != nullptr && finished->outcome == Outcome::succeeded;
}

/// What a waiting job adds, or takes with it.
void State::wait(const Job& row, int sign) {
    const auto* waiting = std::get_if<Waiting>(&row.phase);
    if (waiting == nullptr) return;
    waiting_ += sign;
    const auto of_owner = waiting_of_.try_emplace(spec_of(row).owner, 0).first;
    if ((of_owner->second += sign) == 0) waiting_of_.erase(of_owner);
    if (waiting->not_before != Instant{}) set_deadline(waiting->not_before, DeadlineKind::backoff, row.id.value, sign);
}

std::set<JobId> State::take_changed_services() const {
    auto changed = std::exchange(changed_services_, {});
    if (any_service_changed_) table<Service>().for_each([&](const Service& row) { changed.insert(row.first); });
    any_service_changed_ = false;
    return changed;
}

/// Cost O(1) where there is no service.
void State::note_service_of(const Job& replica) {
    if (table<Service>().size() > 0 && find<Service>(replica.spec) != nullptr) changed_services_.insert(replica.spec);
}

void State::index(const Job& row) {
    put_in_line(row);
    if (!has_succeeded(row)) count_open(row.spec, 1);
}

void State::unindex(const Job& row) {
    take_out_of_line(row);
    if (!has_succeeded(row)) count_open(row.spec, -1);
}

/// Where a job stands among others, whatever comes after it.
void State::put_in_line(const Job& row) {
    if (const auto* finished = std::get_if<Finished>(&row.phase)) {
        finished_.emplace(finished->at, row.id);
        elements_.find(row.spec)->failed += has_succeeded(row) ? 0 : 1;
    }
    wait(row, 1);
    refresh_readiness(row);
}

void State::take_out_of_line(const Job& row) {
    if (const auto* finished = std::get_if<Finished>(&row.phase)) {
        finished_.erase({finished->at, row.id});
        elements_.find(row.spec)->failed -= has_succeeded(row) ? 0 : 1;
    }
    wait(row, -1);
    if (std::holds_alternative<Waiting>(row.phase)) {
        auto& shape = *elements_.find(row.spec)->shape;
        shape.ready.erase(row.id);
        shape.by_limit.erase({at<Spec>(row.spec).spec.time_limit, row.id});
    }
}

/// One more element, or one less, has not succeeded. Cost O(1), but when it is the first or the last: then
/// O(specifications that come after it), and of those that become ready or no longer are, their elements.
void State::count_open(JobId array, int more) {
    auto& open = elements_.find(array)->open;
    const bool was_over = open == 0;
    open += more;
    if (was_over == (open == 0)) return;
    for (const auto dependent : dependents_of(array)) {
        auto& unmet = elements_.find(dependent)->unmet;
        const bool was_met = unmet == 0;
        unmet += was_over ? 1 : -1;
        if (was_met == (unmet == 0)) continue;
        const auto& spec = at<Spec>(dependent);
        for (std::int32_t task = 0; task < spec.count; ++task) {
            const auto* job = find<Job>(JobId{spec.first.value + static_cast<std::uint64_t>(task)});
            if (job != nullptr) refresh_readiness(*job);
        }
    }
}

void State::refresh_readiness(const Job& job) {
    const auto* waiting = std::get_if<Waiting>(&job.phase);
    if (waiting == nullptr) return;  // a job that no longer waits was taken out when its phase changed
    if (at<Spec>(job.spec).spec.kind == Kind::service) return;  // a replica is started by its service
    auto& shape = *elements_.find(job.spec)->shape;
    const std::pair by_limit{at<Spec>(job.spec).spec.time_limit, job.id};
    if (!job.held && waiting->not_before == Instant{} && unmet(job.spec) == 0) {
        shape.ready.insert(job.id);
        shape.by_limit.insert(by_limit);
    } else {
        shape.ready.erase(job.id);
        shape.by_limit.erase(by_limit);
    }
}

void State::index(const Spec& row) {
    const auto key = shape_of(row.spec);
    auto& shape = shapes_[key];
    if (shape.specs++ == 0) shape.key = key;
    named_[row.spec.name].insert(row.first);
    std::int32_t unmet = 0;
    // One that is gone has succeeded: else its dependents had been dropped.
    const auto comes_after = [&](JobId array) {
        if (!dependents_[array].insert(row.first).second) return;
        const auto* elements = elements_.find(array);
        unmet += elements != nullptr && elements->open > 0 ? 1 : 0;
    };
    for (const auto& array : row.spec.comes_after) comes_after(array.first);
    for (const auto element : row.spec.after) {
        if (const auto array = array_of(element)) comes_after(array);
    }
    elements_.put(row.first, {&shape, unmet, 0, 0});
}

/// The array of an element; none when all of it has left State.
JobId State::array_of(JobId element) const {
    JobId array;
    table<Spec>().for_each_newest(
        [&](const Spec& row) {
            if (element.value - row.first.value < static_cast<std::uint64_t>(row.count)) array = row.first;
            return false;
        },
        JobId{element.value + 1});
    return array;
}

JobId State::first_unmet(const JobSpec& spec) const {
    const auto is_open = [&](JobId id) {
        const auto* job = find<Job>(id);
        return job != nullptr && !has_succeeded(*job);
    };
    for (const auto element : spec.after) {
        if (is_open(element)) return element;
    }
    for (const auto& array : spec.comes_after) {
        if (find<Spec>(array.first) == nullptr || open(array.first) == 0) continue;
        auto element = array.first;
        while (!is_open(element)) ++element.value;
        return element;
    }
    return {};
}

void State::unindex(const Spec& row) {
    const auto shape = shapes_.find(shape_of(row.spec));
    if (--shape->second.specs == 0) shapes_.erase(shape);
    elements_.erase(row.first);
    auto named = named_.find(row.spec.name);
    named->second.erase(row.first);
    if (named->second.empty()) named_.erase(named);
    const auto forget = [&](JobId up_to) {  // the array that an element lies in is the last that begins before it
        auto found = dependents_.upper_bound(up_to);
        if (found == dependents_.begin()) return;
        --found;
        found->second.erase(row.first);
        if (found->second.empty()) dependents_.erase(found);
    };
    for (const auto& array : row.spec.comes_after) forget(array.first);
    for (const auto element : row.spec.after) forget(element);
}

void State::count_nodes(const Attempt& row, const JobSpec& spec, int sign) {
    const auto rank = rank_of(spec.priority);
    for (const auto& part : row.parts) {
        const auto node = part.node.value;
        if (node >= attempts_on_.size()) {
            attempts_on_.resize(node + 1);
            parts_on_.resize(node + 1);
        }
        if (sign > 0) {
            attempts_on_[node].insert(row.id);
        } else {
            attempts_on_[node].erase(row.id);
        }
        auto& parts = parts_on_[node][rank];
        if (parts == 0) holding_[rank].insert(part.node);
        parts += sign;
        if (parts == 0) holding_[rank].erase(part.node);
    }
}

void State::count_gpus(const Attempt& row, const JobSpec& spec, int sign) {
    const auto rank = rank_of(spec.priority);
    const auto held = sign * row.gpu_count();
    const auto surplus = spec.is_elastic() ? held - sign * spec.min_gpus.count() : 0;
    held_[rank] += held;
    surplus_[rank] += surplus;
    if (row.ending) {
        for (const auto& part : row.parts) leaving_ += sign * row.leaving(part).gpu_count();
        return;
    }
    std::int64_t milli = 0;
    for (const auto& part : row.parts) milli += sign * part.milli_gpus();
    for (auto tenant = spec.tenant; tenant; tenant = at<TenantRow>(tenant).tenant.parent) {
        auto& work = work_[tenant];
        work.held[rank] += milli;
        work.surplus[rank] += std::int64_t{1000} * surplus;
    }
}

namespace {
/// The deadlines of an attempt, `never` where it has none.
struct AttemptDeadlines {
    Instant limit, gang, settle, reply;
    explicit AttemptDeadlines(const Attempt& row)
        : limit{row.ending ? never : row.limit},
          gang{row.gang_deadline},
          settle{row.settled != Instant{} ? row.settled : never},
          reply{row.ending || row.reply_by == Instant{} ? never : row.reply_by} {}
};
}  // namespace

void State::account(const Attempt& row, int sign) {
    const auto& spec = spec_of(at<Job>(row.job));
    count_nodes(row, spec, sign);
    count_gpus(row, spec, sign);
    attempts_of_[rank_of(spec.priority)] += sign;
    auto& of_tenant = work_[spec.tenant].attempts;
    if (sign > 0) {
        of_tenant.insert(row.id);
        if (spec.is_elastic()) elastic_.insert(row.id);
        if (row.ending) ending_.insert(row.id);
    } else {
        of_tenant.erase(row.id);
        elastic_.erase(row.id);
        ending_.erase(row.id);
    }
    if (row.port != 0) note_service_of(at<Job>(row.job));
    const AttemptDeadlines deadlines{row};
    set_deadline(deadlines.limit, DeadlineKind::time_limit, row.id.value, sign);
    set_deadline(deadlines.gang, DeadlineKind::gang, row.id.value, sign);
    set_deadline(deadlines.settle, DeadlineKind::settle, row.id.value, sign);
    set_deadline(deadlines.reply, DeadlineKind::reply, row.id.value, sign);
}

void State::reindex(const Attempt& before, const Attempt& now) {
    const auto same_place = [](const Part& a, const Part& b) {
        return a.node == b.node && a.gpus == b.gpus && a.share == b.share;
    };
    const bool stays =
        std::equal(before.parts.begin(), before.parts.end(), now.parts.begin(), now.parts.end(), same_place);
    if (!stays || before.ending != now.ending) {
        const auto& spec = spec_of(at<Job>(now.job));
        count_gpus(before, spec, -1);
        count_gpus(now, spec, 1);
        if (!stays) {
            count_nodes(before, spec, -1);
            count_nodes(now, spec, 1);
        }
        if (now.ending) {
            ending_.insert(now.id);
        } else {
            ending_.erase(now.id);
        }
    }
    if (now.port != 0) note_service_of(at<Job>(now.job));
    const AttemptDeadlines were{before}, are{now};
    const auto move = [&](Instant from, Instant to, DeadlineKind kind) {
        if (from == to) return;
        set_deadline(from, kind, now.id.value, -1);
        set_deadline(to, kind, now.id.value, 1);
    };
    move(were.limit, are.limit, DeadlineKind::time_limit);
    move(were.gang, are.gang, DeadlineKind::gang);
    move(were.settle, are.settle, DeadlineKind::settle);
    move(were.reply, are.reply, DeadlineKind::reply);
}

void State::reindex(const Node& before, const Node& now) {
    const bool same = std::popcount(before.free()) == std::popcount(now.free()) &&
                      before.takes_work() == now.takes_work() && before.shape == now.shape;
    if (before.takes_work() != now.takes_work() || before.draining != now.draining || before.shape != now.shape) {
        any_service_changed_ = true;
    }
    if (same) return;
    unindex(before);
    index(now);
}

void State::reindex(const Job& before, const Job& now) {
    note_service_of(now);
    if (before.phase == now.phase && before.held == now.held) return;
    take_out_of_line(before);
    put_in_line(now);
    const auto more = static_cast<int>(has_succeeded(before)) - static_cast<int>(has_succeeded(now));
    if (more != 0) count_open(now.spec, more);
}

void State::index(const Node& row) { account(row, 1); }
void State::unindex(const Node& row) { account(row, -1); }

void State::account(const Node& row, int sign) {
    const auto type = static_cast<std::size_t>(row.shape.gpu_type);
    grow_to(free_, type + 1);
    grow_to(all_, type + 1);
    grow_to(working_, type + 1);
    if (nodes_by_free_.size() <= type) nodes_by_free_.resize(type + 1);
    const auto free = std::popcount(row.free());
    all_[type] += sign * row.shape.gpus.count();
    if (!row.takes_work()) return;
    for (auto level = first_domain_level; level < domains_.size(); ++level) {
        domains_[level][domain_of(row.shape, static_cast<Level>(level))].free[type] += sign * free;
    }
    free_[type] += sign * free;
    working_[type] += sign * row.shape.gpus.count();
    working_nodes_ += sign;
    auto& bucket = nodes_by_free_[type][static_cast<std::size_t>(free)];
    if (sign > 0) {
        bucket.insert(row.id);
    } else {
        bucket.erase(row.id);
    }
}

void State::account(const Service& row, int sign) {
    changed_services_.insert(row.first);
    if (row.shrink_at != Instant{}) set_deadline(row.shrink_at, DeadlineKind::shrink, row.first.value, sign);
    if (row.help_at != Instant{}) set_deadline(row.help_at, DeadlineKind::help, row.first.value, sign);
}

void State::joined(const Node& row) {
    nodes_by_name_[row.shape.name] = row.id;
    for (auto level = first_domain_level; level < domains_.size(); ++level) {
        auto& domains = domains_[level];
        const auto index = domain_of(row.shape, static_cast<Level>(level));
        if (domains.size() <= index) domains.resize(index + 1);
        grow_to(domains[index].free, row.shape.gpu_type + 1);
        auto& nodes = domains[index].nodes;
        nodes.insert(std::lower_bound(nodes.begin(), nodes.end(), row.id), row.id);
    }
}

void State::left(const Node& row) {
    nodes_by_name_.erase(row.shape.name);
    for (auto level = first_domain_level; level < domains_.size(); ++level) {
        auto& nodes = domains_[level][domain_of(row.shape, static_cast<Level>(level))].nodes;
        nodes.erase(std::lower_bound(nodes.begin(), nodes.end(), row.id));
    }
}

void State::index(const TenantRow& row) { tenants_by_name_[row.tenant.name] = row.tenant.id; }
void State::unindex(const TenantRow& row) { tenants_by_name_.erase(row.tenant.name); }
void State::reindex(const TenantRow& before, const TenantRow& now) {
    if (before.tenant.name == now.tenant.name) return;
    unindex(before);
    index(now);
}
void State::index(const Claim& row) { set_deadline(row.deadline, DeadlineKind::claim, row.job.value, 1); }
void State::unindex(const Claim& row) {
    note_service_of(at<Job>(row.job));
    set_deadline(row.deadline, DeadlineKind::claim, row.job.value, -1);
}
void State::index(const Counters& row) {
    if (row.grow_at != Instant{}) set_deadline(row.grow_at, DeadlineKind::growth, 0, 1);
}
void State::unindex(const Counters& row) {
    if (row.grow_at != Instant{}) set_deadline(row.grow_at, DeadlineKind::growth, 0, -1);
}

void State::set_deadline(Instant at, DeadlineKind kind, std::uint64_t id, int sign) {
    if (at == never) return;
    if (sign > 0) {
        deadlines_.insert({at, kind, id});
    } else {
        deadlines_.erase({at, kind, id});
    }
}

const NodeSet& State::nodes_with(std::uint32_t type, std::int32_t free) const {
    if (type >= nodes_by_free_.size()) return no_nodes;
    return nodes_by_free_[type][static_cast<std::size_t>(free)];
}
std::int32_t State::free_gpus(GpuTypeBits types) const { return sum_of(free_, types); }
std::int32_t State::all_gpus(GpuTypeBits types) const { return sum_of(all_, types); }
std::int32_t State::working_gpus(GpuTypeBits types) const { return sum_of(working_, types); }

const TenantWork& State::work_of(TenantId tenant) const {
    const auto at = work_.find(tenant);
    return at == work_.end() ? no_work : at->second;
}

const boost::container::flat_set<AttemptId>& State::attempts_on(NodeId node) const {
    return node.value < attempts_on_.size() ? attempts_on_[node.value] : no_attempts;
}
const std::set<JobId>& State::named(const std::string& name) const {
    const auto at = named_.find(name);
    return at == named_.end() ? no_jobs : at->second;
}
const std::set<JobId>& State::dependents_of(JobId spec) const {
    const auto at = dependents_.find(spec);
    return at == dependents_.end() ? no_jobs : at->second;
}
std::optional<TenantId> State::tenant_named(const std::string& name) const {
    const auto at = tenants_by_name_.find(name);
    return at == tenants_by_name_.end() ? std::nullopt : std::optional{at->second};
}
NodeId State::node_named(const std::string& name) const {
    const auto at = nodes_by_name_.find(name);
    return at == nodes_by_name_.end() ? NodeId{} : at->second;
}

}  // namespace stargate
