#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "base/print_error.hpp"
#include "live/control_plane.hpp"
#include "live/recover.hpp"
#include "store/damage.hpp"

/// How a control plane begins: from the log to the moment when it schedules.
namespace stargate::live {

namespace {
constexpr std::string_view default_tenant = "default";

[[noreturn]] void stop_process(const Error& why) {
    std::fprintf(stderr,
                 "stargate: stopped: it cannot be known whether the last batch was written (%s). Nothing was answered "
                 "for it. Look at the disk, then start again: the log decides.\n",
                 why.detail.c_str());
    std::_Exit(70);
}
}  // namespace

Result<void> ControlPlane::recover_and_take_office() {
    auto recovered = recover(*wiring_.store, wiring_.folder);
    if (!recovered) return tl::unexpected(store::damage_in(wiring_.folder, recovered.error()));
    const auto newest_known = recovered->state.counters().attempts;
    const auto before = wiring_.store->identity();
    if (!before) return tl::unexpected(before.error());
    auto identity = wiring_.store->begin_term(wiring_.obeyed_term ? wiring_.obeyed_term(before->incarnation) : 0);
    if (!identity) return tl::unexpected(identity.error());
    identity_ = *identity;
    const auto clock = FleetClock::start(wiring_.folder, recovered->state.counters().now);
    if (!clock) return tl::unexpected(clock.error());
    clock_ = *clock;
    auto copy = State::from_rows(recovered->state.rows());
    CHECK(copy.has_value());
    view_ = std::make_unique<View>(std::move(*copy), recovered->last_fact);
    view_->on_fold([this](std::uint64_t newest) {
        if (follower_) follower_->log_reached(newest);
        if (auto* serving = serving_ready_.load(); serving != nullptr && may_concern_services()) {
            serving->state_changed();
        }
        const std::lock_guard lock{notify_mutex_};
        if (notify_) notify_(newest);
    });
    writer_ =
        std::make_unique<Writer>(Writer::Parts{*wiring_.store, wiring_.folder, *view_, *clock_,
                                               [this](const Command& command) { carry_out(command); }, stop_process},
                                 std::move(recovered->state), recovered->last_fact, recovered->last_input);
    if (wiring_.keep_log) {
        follower_ =
            std::make_unique<Follower>(wiring_.keep_log, wiring_.log_limits, *writer_, recovered->from_snapshot);
    }
    return take_office(newest_known);
}

/// `newest_known` is the newest attempt of the log that was found.
Result<void> ControlPlane::take_office(std::uint64_t newest_known) {
    // What lies on this machine raises no counter here: nothing starts before all of it has been noted as foreign.
    std::vector<Input> first{TakeOffice{identity_.term, wiring_.settings, 0}};
    const bool has_default =
        view_->read([](const State& state) { return state.tenant_named(std::string{default_tenant}).has_value(); });
    if (!has_default) first.push_back(SetTenant{std::string{default_tenant}, -1, 1, 0b1111});  // else an operator's
    const NodeUp node_up{wiring_.node, wiring_.boot};
    if (!this_node()) first.push_back(node_up);
    if (auto done = decide_all(std::move(first)); !done) return done;
    const auto here = this_node();
    if (auto opened = open_engine(here); !opened) return opened;
    // What the engine finds is decided before the new boot id is: an attempt that left an exit record before the
    // machine restarted ended with that, and only the others are lost.
    const auto found = adopt(here);
    if (!found) return tl::unexpected(found.error());
    if (auto done = decide_all({node_up}); !done) return done;
    if (auto done = decide_all({foreign_among(*found, here, newest_known)}); !done) return done;
    open_serving();
    writer_->send_owed();
    return {};
}

NodeId ControlPlane::this_node() const {
    return view_->read([&](const State& state) { return state.node_named(wiring_.node.name); });
}

Result<void> ControlPlane::decide_all(std::vector<Input> inputs) {
    for (auto& input : inputs) {
        const auto answer = decide_and_wait(std::move(input));
        if (!answer) return tl::unexpected(answer.error());
    }
    return {};
}

Result<void> ControlPlane::open_engine(NodeId here) {
    auto engine = wiring_.make_engine({{identity_.incarnation, identity_.term},
                                       here,
                                       [this](Report report) { writer_->report(std::move(report)); },
                                       [this](JobId job) { return launch_of(job); },
                                       [this] { return clock_->now(); }});
    if (!engine) return tl::unexpected(engine.error());
    engine_ = std::move(*engine);
    engine_ready_ = engine_.get();  // what adoption reports may at once lead to commands
    return {};
}

/// Where there is no service, and was none before, nobody need look at what has changed.
bool ControlPlane::may_concern_services() {
    bool has_services = false;
    view_->read([&](const State& state) { has_services = state.table<Service>().size() > 0; });
    return had_services_.exchange(has_services) || has_services;
}

void ControlPlane::carry_out(const Command& command) {
    auto* serving = serving_ready_.load();
    auto* engine = engine_ready_.load();
    const auto* end = std::get_if<EndRanks>(&command);
    if (const auto* tell = std::get_if<TellReplica>(&command)) {
        if (serving != nullptr) serving->tell(*tell);
    } else if (end != nullptr && end->drains && serving != nullptr && engine != nullptr) {
        serving->drain(end->attempt, end->deadline, [engine, command] { engine->carry_out(command); });
    } else if (engine != nullptr) {
        engine->carry_out(command);
    }
}

void ControlPlane::open_serving() {
    if (!wiring_.make_serving) return;
    Serving::Needs needs;
    needs.authority = {identity_.incarnation, identity_.term};
    needs.on_reply = [this](Report report) { writer_->report(std::move(report)); };
    needs.on_demand = [this](GatewayDemand told) {
        {
            const std::lock_guard lock{demand_mutex_};
            demand_.told(told.gateway, told.boot, told.seq, std::move(told.levels), clock_->now());
        }
        tell_demand();
    };
    needs.on_tick = [this] { tell_demand(); };
    needs.read = [this](const std::function<void(const State&)>& look) { view_->read(look); };
    needs.now = [this] { return clock_->now(); };
    serving_ = wiring_.make_serving(std::move(needs));
    serving_ready_ = serving_.get();
}

/// What all gateways together ask of each service, where that has changed.
void ControlPlane::tell_demand() {
    std::vector<JobId> services;
    view_->read([&](const State& state) {
        state.table<Service>().for_each([&](const Service& service) { services.push_back(service.first); });
    });
    const std::lock_guard lock{demand_mutex_};
    for (auto& demand : demand_.changed(services, clock_->now())) writer_->report(demand);
}

ServiceDemand ControlPlane::demand_of(JobId service) const {
    const std::lock_guard lock{demand_mutex_};
    return demand_.total(service, clock_->now());
}

/// Finds the work that outlived the last control plane; returns what is there beside it.
Result<std::vector<Unknown>> ControlPlane::adopt(NodeId here) {
    std::vector<Believed> believed;
    view_->read([&](const State& state) {
        state.table<Attempt>().for_each([&](const Attempt& attempt) {
            for (const auto& part : attempt.parts) {
                if (part.node == here) believed.push_back({attempt.id, !part.first});
            }
        });
    });
    return engine_->adopt(believed);
}

/// Sorts what was found beside our own work: what is left of attempts whose end is in the log may go, everything else
/// is foreign. A store that never knew an attempt has no say over it.
ForeignFound ControlPlane::foreign_among(const std::vector<Unknown>& found, NodeId here, std::uint64_t newest_known) {
    ForeignFound foreign{here, 0, {}, 0};
    for (const auto& each : found) {
        const bool has_ended = each.attempt.value <= newest_known && view_->read([&](const State& state) {
            const auto& noted = state.at<Node>(here).foreign_attempts;  // by an earlier control plane of this store
            const bool is_noted = std::find(noted.begin(), noted.end(), each.attempt) != noted.end();
            return !is_noted && state.find<Attempt>(each.attempt) == nullptr;
        });
        if (has_ended) {
            engine_->carry_out(Forget{each.attempt, here});
            continue;
        }
        foreign.attempts.push_back(each.attempt);
        if (!each.is_alive) continue;
        foreign.gpus |= each.gpus;
        foreign.cpus += each.cpus;
        foreign.memory += each.memory;
        ++foreign.running;
        print_error(
            "stargate: attempt {} runs here, but this state does not know it: it is left alone and keeps its "
            "{} GPUs. Is this an empty or older state folder?\n",
            each.attempt.value, std::popcount(each.gpus));
    }
    return foreign;
}

}  // namespace stargate::live
