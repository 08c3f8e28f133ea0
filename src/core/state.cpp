#include "core/state.hpp"

#include <algorithm>
#include <bit>
#include <boost/mp11.hpp>

#include "base/codec.hpp"
#include "base/json_text.hpp"

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
    std::visit(
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
        edit);
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
    if (const auto* finished = std::get_if<Finished>(&row.phase)) finished_.emplace(finished->at, row.id);
    wait(row, 1);
    refresh_readiness(row);
    if (!has_succeeded(row)) count_unmet(row, 1);
}

void State::unindex(const Job& row) {
    if (const auto* finished = std::get_if<Finished>(&row.phase)) finished_.erase({finished->at, row.id});
    wait(row, -1);
    if (std::holds_alternative<Waiting>(row.phase)) {
        auto& shape = **shape_of_spec_.find(row.spec);
        shape.ready.erase(row.id);
        shape.by_limit.erase({at<Spec>(row.spec).spec.time_limit, row.id});
    }
    if (!has_succeeded(row)) count_unmet(row, -1);
}

/// The job has begun, or ceased, to be one that others still come after. Cost O(specifications that come after it), and
/// of those that become ready or no longer are, their elements.
void State::count_unmet(const Job& before, int sign) {
    if (dependents_.empty()) return;
    for (const auto dependent : dependents_of(before.id)) {
        auto& unmet = *unmet_.find(dependent);
        const bool was_met = unmet == 0;
        unmet += sign;
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
    auto& shape = **shape_of_spec_.find(job.spec);
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
    shape_of_spec_.put(row.first, &shape);
    named_[row.spec.name].insert(row.first);
    std::int32_t unmet = 0;
    for (const auto before : row.spec.after) {
        // The same job may be named twice. One that is gone has succeeded: else its dependents had been dropped.
        if (!dependents_[before].insert(row.first).second) continue;
        const auto* job = find<Job>(before);
        if (job != nullptr && !has_succeeded(*job)) ++unmet;
    }
    unmet_.put(row.first, unmet);
}

void State::unindex(const Spec& row) {
    const auto shape = shapes_.find(shape_of(row.spec));
    // An undo takes a specification out and puts it in again while its jobs stay.
    if (--shape->second.specs == 0 && shape->second.ready.empty()) shapes_.erase(shape);
    shape_of_spec_.erase(row.first);
    unmet_.erase(row.first);
    auto named = named_.find(row.spec.name);
    named->second.erase(row.first);
    if (named->second.empty()) named_.erase(named);
    for (const auto before : row.spec.after) {
        const auto found = dependents_.find(before);
        if (found == dependents_.end()) continue;  // named twice
        found->second.erase(row.first);
        if (found->second.empty()) dependents_.erase(found);
    }
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
    unindex(before);
    index(now);
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
const std::set<JobId>& State::dependents_of(JobId job) const {
    const auto at = dependents_.find(job);
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

std::string State::rows() const {
    std::string out;
    Encoder encoder{out};
    const auto write = [&]<class Row>(std::type_identity<Row>) {
        encoder.number(table<Row>().size());
        table<Row>().for_each([&](const Row& row) { encode(encoder, row); });
    };
    write(std::type_identity<Settings>{});
    write(std::type_identity<Counters>{});
    write(std::type_identity<TenantRow>{});
    write(std::type_identity<Node>{});
    write(std::type_identity<SharedGpu>{});
    write(std::type_identity<Spec>{});
    write(std::type_identity<Job>{});
    write(std::type_identity<Attempt>{});
    write(std::type_identity<Claim>{});
    write(std::type_identity<Blocked>{});
    write(std::type_identity<Reservation>{});
    write(std::type_identity<Service>{});
    return out;
}

std::optional<State> State::from_rows(std::string_view bytes) {
    Decoder in{bytes};
    State state;
    const auto read = [&]<class Row>(std::type_identity<Row>) {
        const auto count = in.number();
        for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
            Row row;
            decode(in, row);
            if (!in.ok()) return;
            if constexpr (std::is_same_v<Row, Counters> || std::is_same_v<Row, Settings>) {
                state.change<Row>(0, [&](Row& here) { here = row; });
            } else {
                state.put(std::move(row));
            }
        }
    };
    read(std::type_identity<Settings>{});
    read(std::type_identity<Counters>{});
    read(std::type_identity<TenantRow>{});
    read(std::type_identity<Node>{});
    read(std::type_identity<SharedGpu>{});
    read(std::type_identity<Spec>{});
    read(std::type_identity<Job>{});
    read(std::type_identity<Attempt>{});
    read(std::type_identity<Claim>{});
    read(std::type_identity<Blocked>{});
    read(std::type_identity<Reservation>{});
    if (!in.at_end()) read(std::type_identity<Service>{});  // older snapshots have none
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return state;
}

std::string State::derived_text() const {
    std::string out;
    const auto number = [&](auto value) {
        out += std::to_string(value);
        out += ' ';
    };
    // Room that an undone join left in a vector means nothing, so empty entries are not written.
    for (std::size_t type = 0; type < free_.size(); ++type) {
        if (all_[type] == 0 && free_[type] == 0) continue;
        out += "type ";
        number(type);
        number(free_[type]);
        number(all_[type]);
        number(working_[type]);
        for (const auto& bucket : nodes_by_free_[type]) {
            for (auto id = bucket.first(); id; id = bucket.next(id)) number(id.value);
            out += '|';
        }
    }
    for (std::size_t level = 1; level < domains_.size(); ++level) {
        out += "\nlevel ";
        for (std::size_t i = 0; i < domains_[level].size(); ++i) {
            const auto& domain = domains_[level][i];
            if (domain.nodes.empty()) continue;
            number(i);
            for (const auto node : domain.nodes) number(node.value);
            for (std::size_t type = 0; type < domain.free.size(); ++type) {
                if (domain.free[type] == 0) continue;
                number(type);
                number(domain.free[type]);
            }
            out += '|';
        }
    }
    out += "\nheld ";
    for (const auto held : held_) number(held);
    for (const auto surplus : surplus_) number(surplus);
    for (const auto attempts : attempts_of_) number(attempts);
    number(leaving_);
    number(working_nodes_);
    out += "\nwork ";
    for (const auto& [tenant, work] : work_) {
        if (work == TenantWork{}) continue;
        number(tenant.value);
        for (const auto attempt : work.attempts) number(attempt.value);
        for (const auto held : work.held) number(held);
        for (const auto surplus : work.surplus) number(surplus);
        out += '|';
    }
    out += "\nholding ";
    for (const auto& nodes : holding_) {
        for (auto id = nodes.first(); id; id = nodes.next(id)) number(id.value);
        out += '|';
    }
    out += "\nshared ";
    for (const auto& [tenant, used, gpu] : shared_by_use_) {
        number(tenant.value);
        number(used);
        number(gpu.first.value);
        number(gpu.second);
    }
    out += "\nshapes ";
    for (const auto& [key, shape] : shapes_) {
        number(shape.specs);
        for (const auto job : shape.ready) number(job.value);
        for (const auto& [limit, job] : shape.by_limit) number(job.value);
        out += '|';
    }
    out += "\ndeadlines ";
    for (const auto& deadline : deadlines_) {
        number(deadline.at.time_since_epoch().count());
        number(static_cast<int>(deadline.kind));
        number(deadline.id);
    }
    out += "\non ";
    for (std::size_t node = 0; node < attempts_on_.size(); ++node) {
        if (attempts_on_[node].empty()) continue;
        number(node);
        for (const auto attempt : attempts_on_[node]) number(attempt.value);
        out += '|';
    }
    out += "\nsets ";
    for (const auto attempt : elastic_) number(attempt.value);
    for (const auto attempt : ending_) number(attempt.value);
    for (const auto& [at, job] : finished_) number(job.value);
    for (const auto& [name, specs] : named_) {
        out += name + ' ';
        for (const auto spec : specs) number(spec.value);
    }
    for (const auto& [job, specs] : dependents_) {
        number(job.value);
        for (const auto spec : specs) number(spec.value);
    }
    table<Spec>().for_each([&](const Spec& spec) { number(unmet(spec.first)); });
    for (const auto& [name, id] : tenants_by_name_) out += name + ' ';
    for (const auto& [name, id] : nodes_by_name_) out += name + ' ';
    number(waiting_);
    for (const auto& [owner, jobs] : waiting_of_) {
        number(owner);
        number(jobs);
    }
    return out;
}

}  // namespace stargate
