#include <type_traits>

#include "base/codec.hpp"
#include "core/state.hpp"

// State as bytes and as text: what a snapshot holds, and what is derived from it, to compare.
namespace stargate {

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
    for (const auto& [array, specs] : dependents_) {
        if (find<Spec>(array) == nullptr) continue;  // nobody waits for what is gone
        number(array.value);
        for (const auto spec : specs) number(spec.value);
    }
    table<Spec>().for_each([&](const Spec& spec) {
        number(unmet(spec.first));
        number(open(spec.first));
        number(failed(spec.first));
    });
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
