#include "twin/world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/mp11.hpp>

#include "base/overloaded.hpp"
#include "twin/scenario.hpp"

namespace stargate::twin {

namespace {
constexpr Duration tick = Duration{1};
constexpr Duration tidy_every = std::chrono::seconds{60};
/// So often everything is told once more when faults are over; from then on only deadlines of State wake anybody.
constexpr std::uint64_t enough_tidying = 2;
/// Copies of commands held back until a takeover, at most.
constexpr std::size_t most_held_back = 64;
template <class Fact_>
constexpr std::size_t index_of = boost::mp11::mp_find<Fact, Fact_>::value;
}  // namespace

World::World(const Scenario& scenario, std::uint64_t seed, store::Store& store, bool store_is_ours)
    : scenario_{scenario},
      seed_{seed},
      store_{store},
      store_is_ours_{store_is_ours},
      now_{Instant{std::chrono::hours{24 * 365 * 50}}},
      arrivals_{seed * 8 + 1},
      people_{seed * 8 + 2},
      faults_rng_{seed * 8 + 3},
      links_{seed * 8 + 4},
      probes_{seed * 8 + 5},
      machines_{queue_,
                scenario_,
                seed * 8 + 6,
                [this](NodeId node, Input input) { reported(node, std::move(input)); },
                [this](std::string what) { broken(std::move(what)); },
                [this](AttemptId attempt) { gateways_.cut(now_, attempt); }},
      checker_{[this](std::string what) { broken(std::move(what)); }},
      gateways_{queue_, scenario_, seed * 8 + 7, machines_, ports_of_gateways()},
      gateway_links_{seed * 8 + 8'000'000'007},
      links_of_(1),
      replicas_of_service_(scenario.services.size()) {
    for (const auto& kind : scenario.kinds) kind_loads_.push_back(kind.load);
    for (const auto& tenant : scenario.tenants) tenant_loads_.push_back(tenant.load);
}

void World::broken(std::string what) {
    if (broken_) return;
    broken_ = fmt::format("{} (seed {}, event {}, fact {}, {:.6f} h)", what, seed_, report_.events, report_.facts,
                          report_.simulated_hours);
}

void World::run(const std::function<void(double, std::uint64_t)>& progress) {
    const auto began = now_;
    begin();
    const auto close_at = now_ + scenario_.duration;
    while (!queue_.empty() && !broken_) {
        if (!closing_ &&
            (queue_.top().at >= close_at || (scenario_.max_jobs > 0 && submitted_ >= scenario_.max_jobs))) {
            close();
        }
        if (closing_ && open_ == 0 && inbox_.empty() && control_plane_) break;
        const auto event = queue_.pop();
        now_ = event.at;
        ++report_.events;
        report_.simulated_hours = static_cast<double>((now_ - began).count()) / 3.6e9;
        handle(event);
        if (scenario_.check_every > 0 && report_.events % scenario_.check_every == 0) check();
        if (progress && report_.events % 100'000 == 0) progress(report_.simulated_hours, report_.events);
        if (now_ > closing_deadline_) {
            broken(fmt::format("{} jobs are not over and none has been for longer than any may take", open_));
        }
    }
    if (!broken_ && open_ != 0) broken(fmt::format("{} jobs are not over and nothing more will happen", open_));
    if (!broken_ && facts_by_type_[index_of<Lent>] != facts_by_type_[index_of<Returned>]) {
        broken("a loan was not returned, though its borrower is gone");
    }
    if (!broken_ && scenario_.check_every > 0) check();
}

/// From now on nobody submits and nothing goes wrong: what is left must finish.
void World::close() {
    closing_ = true;
    closed_at_ = now_;
    closing_deadline_ = now_ + longest_wait();
    full_until_ = {};
    next_is_unknown_ = false;
    if (control_plane_) control_plane_->die_in(0);
    machines_.calm();
    gateways_.calm(now_);
    tidy_up();
}

/// With faults over one more job is over within this time: the longest that one may run, be warned, back off and wait
/// for its gang, and that a node may still be away.
Duration World::longest_wait() const {
    const auto& settings = scenario_.settings;
    Duration limit{};
    std::int32_t retries = 1;
    for (const auto& kind : scenario_.kinds) {
        limit = std::max(limit, kind.spec.time_limit + kind.spec.grace);
        retries = std::max(retries, kind.spec.retries);
    }
    const auto back_off = settings.retry_backoff * (1 << std::min(retries - 1, 8));
    return limit + back_off + 2 * settings.gang_limit + settings.claim_slack + 2 * settings.quiet_period +
           10 * scenario_.faults.back_after + 2 * tidy_every + services_need();
}

RunReport World::report() const {
    auto report = report_;
    report.seed = seed_;
    report.digest = digest_.value();
    report.checks = checker_.checks();
    report.attempts = machines_.starts();
    for (std::size_t i = 0; i < fact_names.size(); ++i) {
        if (facts_by_type_[i] > 0) report.facts_by_type[std::string{fact_names[i]}] = facts_by_type_[i];
    }
    report.faults = faults_;
    if (machines_.refused_starts() > 0) report.faults["start_refused"] = machines_.refused_starts();
    if (machines_.refused_commands() > 0) report.faults["command_refused"] = machines_.refused_commands();
    if (machines_.stopped_replicas() > 0) report.faults["replica_stopped"] = machines_.stopped_replicas();
    if (machines_.hung_replicas() > 0) report.faults["replica_hung"] = machines_.hung_replicas();
    if (machines_.dead_replicas() > 0) report.faults["replica_died"] = machines_.dead_replicas();
    report.requests = gateways_.counts();
    report.broken = broken_.value_or("");
    return report;
}

void World::begin() {
    int rack = 0;
    for (std::size_t g = 0; g < scenario_.fleet.size(); ++g) {
        const auto& group = scenario_.fleet[g];
        for (int i = 0; i < group.nodes; ++i) {
            auto shape = group.shape;
            shape.name = fmt::format("n{}", machines_.size() + 1);
            if (i > 0 && i % group.nodes_per_rack == 0) ++rack;
            shape.rack = static_cast<std::uint32_t>(rack);
            shape.pod = static_cast<std::uint32_t>(rack / group.racks_per_pod);
            machines_.add(shape);
            links_of_.push_back({});
        }
        ++rack;
    }
    start_control_plane();
    submit_services();
    gateways_.begin(now_);
    for (std::int64_t i = 0; i < scenario_.at_start; ++i) submit_one();
    if (scenario_.arrival_every > Duration{}) queue_.push(now_ + tick, Happening::arrival);
    for (const auto act :
         {Act::cancel, Act::hold, Act::release, Act::resize, Act::drain, Act::undrain, Act::quota, Act::edit}) {
        plan(mean_of(act), Happening::person, static_cast<std::uint64_t>(act));
    }
    const auto& faults = scenario_.faults;
    plan(faults.node_loss, Happening::node_lost);
    plan(faults.control_plane_death, Happening::control_plane_dies);
    plan(faults.store_full, Happening::store_fails, 0);
    plan(faults.store_unknown, Happening::store_fails, 1);
    if (scenario_.pace.reconcile > Duration{}) {
        for (std::size_t id = 1; id < links_of_.size(); ++id) {
            queue_.push(now_ + people_.between(tick, scenario_.pace.reconcile), Happening::reconcile, NodeId{id});
        }
    }
    queue_.push(now_ + tidy_every, Happening::check);
}

/// The next of a series without memory.
void World::plan(Duration mean, Happening what, std::uint64_t a) {
    if (mean > Duration{} && !closing_) queue_.push(now_ + faults_rng_.exponential(mean), what, {}, a);
}

void World::handle(const Event& event) {
    const auto& faults = scenario_.faults;
    switch (event.what) {
        case Happening::arrival:
            return arrive();
        case Happening::person:
            if (closing_) return;
            act(static_cast<Act>(event.a));
            return plan(mean_of(static_cast<Act>(event.a)), Happening::person, event.a);
        case Happening::round:
            return round();
        case Happening::wake:
            return wake(event);
        case Happening::input:
            return put(inputs_on_their_way_.take(event.a), false);
        case Happening::command:
            return deliver_command(event);
        case Happening::stale_command:
            return deliver_stale_command(event);
        case Happening::ranks_up:
            return machines_.ranks_up(now_, event);
        case Happening::gang_done:
            return machines_.gang_done(now_, event);
        case Happening::ranks_exit:
            return machines_.ranks_exit(now_, event);
        case Happening::ranks_left:
            return machines_.ranks_left(now_, event);
        case Happening::replica_acts:
            return machines_.replica_acts(now_, event);
        case Happening::request:
            return gateways_.request(now_, event);
        case Happening::request_done:
            return gateways_.request_done(now_, event);
        case Happening::first_token:
            return gateways_.first_token(now_, event);
        case Happening::gateway_speaks:
            return gateways_.speak(now_, event);
        case Happening::gateway_silent:
            return gateways_.fall_silent(now_);
        case Happening::gateway_heard:
            return gateways_.heard_again(now_, event.a);
        case Happening::gateway_restarts:
            return gateways_.restart(now_);
        case Happening::demand:
            return hear_demand(event);
        case Happening::demand_silence:
            return note_demand();
        case Happening::routes:
            return gateways_.routes(now_, event.a, routes_on_their_way_.take(event.b));
        case Happening::services_close:
            return close_services();
        case Happening::node_lost:
            if (!closing_) lose_node();
            return plan(faults.node_loss, Happening::node_lost);
        case Happening::node_noticed:
            return node_noticed(event);
        case Happening::node_verdict:
            return node_verdict(event);
        case Happening::node_back:
            return node_back(event);
        case Happening::stray_ended:
            return stray_ended(event);
        case Happening::control_plane_dies:
            if (control_plane_ && !closing_) control_plane_->die_in(1 + faults_rng_.below(60));
            return plan(faults.control_plane_death, Happening::control_plane_dies);
        case Happening::control_plane_back:
            return start_control_plane();
        case Happening::store_fails:
            if (event.a == 0 && !closing_) full_until_ = now_ + faults_rng_.exponential(faults.full_for);
            if (event.a == 1 && !closing_) next_is_unknown_ = true;
            return plan(event.a == 0 ? faults.store_full : faults.store_unknown, Happening::store_fails, event.a);
        case Happening::reconcile:
            if (closing_ && times_tidied_ >= enough_tidying) return;
            if (links_of_[event.node.value].up) machines_.reconcile(now_, event.node);
            return queue_.push(now_ + scenario_.pace.reconcile, Happening::reconcile, event.node);
        case Happening::check:
            submit_services();
            if (closing_) plan_services_close();
            if (closing_ && times_tidied_ < enough_tidying && now_ > closed_at_ + tidy_every / 2) tidy_up();
            return queue_.push(now_ + tidy_every, Happening::check);
    }
}

// ---------------------------------------------------------------------------------------------- the control plane

void World::put(Input input, bool from_client) {
    if (!control_plane_) return;  // nobody listens; what engines saw they tell again when they are asked
    inbox_.push_back({std::move(input), from_client});
    plan_round(now_ + scenario_.pace.round);
}

void World::plan_round(Instant at) {
    if (round_planned_) return;
    round_planned_ = true;
    queue_.push(at, Happening::round);
}

void World::round() {
    round_planned_ = false;
    if (!control_plane_ || inbox_.empty()) return;
    if (control_plane_->round(now_, inbox_) == ControlPlane::Survival::died) return control_plane_died();
    const auto back = inbox_.empty() ? std::exchange(came_back_, {}) : std::vector<NodeId>{};
    if (!inbox_.empty()) {
        plan_round(std::max(now_ + tick, control_plane_->try_again()));
    } else if (!back.empty()) {
        meet_engines(back);
    }
    send_routes_if_changed();
    if (closing_) plan_services_close();
    (void)store_.maintain();
    if (control_plane_ && control_plane_->pass_goes_on()) put(Due{}, false);
    if (control_plane_) plan_wake();
    if (store_is_ours_ && !scenario_.keep_log) trim_log();
}

/// Makes sure that the earliest deadline of State comes back as an input.
void World::plan_wake() {
    const auto& deadlines = control_plane_->state().deadlines();
    if (deadlines.empty()) return;
    const auto at = std::max(deadlines.begin()->at, now_ + tick);
    if (at >= wake_at_) return;
    wake_at_ = at;
    queue_.push(at, Happening::wake);
}

void World::wake(const Event& event) {
    if (event.at != wake_at_) return;
    wake_at_ = never;
    if (!control_plane_) return;
    const auto& deadlines = control_plane_->state().deadlines();
    if (!deadlines.empty() && deadlines.begin()->at <= now_) return put(Due{}, false);
    plan_wake();
}

void World::start_control_plane() {
    auto folded = fold();
    if (!folded) return broken("the log cannot be folded: " + folded.error().detail);
    if (scenario_.check_every > 0) checker_.recovered(folded->state);
    const auto identity = store_.begin_term(0);
    if (!identity) return broken("no new term: " + identity.error().detail);
    ControlPlane::Ports ports;
    ports.next_commit = [this] { return next_commit(); };
    ports.committed = [this](Instant at, const store::Batch& batch, const std::vector<Fact>& facts) {
        committed(at, batch, facts);
    };
    ports.send = [this](const Command& command) { send(command); };
    ports.answer = [this](const Input& input, const Answer& answer) {
        if (!std::holds_alternative<Submit>(input) || !answer.accepted()) return;
        if (machines_.truth_of(answer.job) == nullptr)
            broken(fmt::format("job {} was acknowledged and is not in the log", answer.job.value));
    };
    ports.refuse = [](const Input&) {};
    const auto newest = folded->state.counters().now;
    if (newest > now_) return broken("time went back");
    control_plane_.emplace(store_, std::move(folded->state), folded->last_fact, folded->last_input,
                           Authority{identity->incarnation, identity->term}, std::move(ports));
    inbox_.clear();
    demand_ = DemandMerge{};
    silence_at_ = {};
    routes_changed_ = true;
    put(TakeOffice{identity->term, settings_of_this_term()}, false);
    for (const auto& tenant : scenario_.tenants) {
        if (control_plane_->state().tenant_named(tenant.name)) continue;
        put(SetTenant{tenant.name, tenant.quota_gpus < 0 ? -1 : tenant.quota_gpus * 1000, tenant.weight, 0b1111},
            false);
    }
    for (std::size_t id = 1; id < links_of_.size(); ++id) {
        const NodeId node{id};
        if (links_of_[id].up) {
            put(NodeUp{machines_.shape(node), machines_.boot_id(node)}, false);
            came_back_.push_back(node);
            tell_stray(node);
        } else {  // silence counts afresh
            queue_.push(now_ + scenario_.pace.silence, Happening::node_noticed, node, 0, links_of_[id].epoch);
            if (links_of_[id].gone) queue_.push(now_, Happening::node_verdict, node, 0, links_of_[id].epoch);
        }
    }
    for (auto& command : std::exchange(held_back_, {})) {
        const auto node = std::visit([](const auto& what) { return what.node; }, command.command);
        queue_.push(now_ + links_.exponential(scenario_.faults.late_by), Happening::stale_command, node,
                    commands_on_their_way_.put(command));
    }
}

/// Each control plane may have been started with other settings than the one before.
Settings World::settings_of_this_term() {
    auto settings = scenario_.settings;
    if (closing_ || !links_.chance(scenario_.faults.settings_changed)) return settings;
    note("settings_changed");
    settings.quiet_period *= 2;
    settings.gang_limit *= 2;
    settings.max_victims = std::max(1, settings.max_victims / 2);
    settings.pass_steps = std::max(1, settings.pass_steps / 4'000);  // so few that passes are cut off
    return settings;
}

void World::control_plane_died() {
    note("control_plane_death");
    control_plane_.reset();
    inbox_.clear();
    came_back_.clear();
    wake_at_ = never;
    queue_.push(now_ + faults_rng_.exponential(scenario_.faults.control_plane_down), Happening::control_plane_back);
}

bool World::is_to_be_met(NodeId node) const {
    return std::find(came_back_.begin(), came_back_.end(), node) != came_back_.end();
}

/// Asks these nodes what they have, then sends what State owes them.
void World::meet_engines(const std::vector<NodeId>& nodes) {
    control_plane_->engines_are_ready();
    const auto& state = control_plane_->state();
    std::vector<Command> commands;
    for (const auto node : nodes) {
        if (!links_of_[node.value].up) continue;
        std::vector<Believed> believed;
        for (const auto id : state.attempts_on(node)) {
            const auto& attempt = state.at<Attempt>(id);
            for (const auto& part : attempt.parts) {
                if (part.node != node) continue;
                believed.push_back({id, !part.first});
                // Of a generation that left this node while it could not be told to forget.
                if (part.first && machines_.was_here_before(node, id, attempt.generation))
                    commands.push_back(Forget{id, node});
            }
        }
        for (const auto attempt : machines_.adopt(control_plane_->authority(), node, believed)) {
            if (attempt.value > state.counters().attempts) broken("a store met work that it does not know");
            commands.push_back(Forget{attempt, node});
        }
        const auto owed = owed_to(state, node);
        commands.insert(commands.end(), owed.begin(), owed.end());
    }
    if (control_plane_->send_all(commands) == ControlPlane::Survival::died) control_plane_died();
}

CommitFate World::next_commit() {
    if (now_ < full_until_) {
        note("store_full");
        return CommitFate::full;
    }
    if (!next_is_unknown_) return CommitFate::written;
    next_is_unknown_ = false;
    note("store_unknown");
    return faults_rng_.chance(0.5) ? CommitFate::unknown_but_written : CommitFate::unknown_and_lost;
}

void World::committed(Instant at, const store::Batch& batch, const std::vector<Fact>& facts) {
    report_.inputs += batch.inputs.size();
    report_.facts += facts.size();
    for (const auto& row : batch.facts) digest_.add(row.body);
    for (const auto& fact : facts) {
        note_routes(fact);
        if (const auto* scaled = std::get_if<Scaled>(&fact)) check_scaled(*scaled);
        ++facts_by_type_[fact.index()];
        if (const auto* submitted = std::get_if<Submitted>(&fact)) {
            report_.jobs += static_cast<std::uint64_t>(submitted->count);
            open_ += submitted->count;
            const auto& spec = submitted->spec;
            if (submitted->service) {
                const auto truth = truth_of_replica(*submitted);
                for (std::int32_t task = 0; task < submitted->count; ++task) {
                    machines_.submitted(JobId{submitted->first.value + static_cast<std::uint64_t>(task)}, truth);
                }
                const auto service = static_cast<std::size_t>(truth.service);
                replicas_of_service_[service] += submitted->count;
                gateways_.submitted(service, submitted->first);
                continue;
            }
            const auto& kind = scenario_.kinds[spec.owner];
            for (std::int32_t task = 0; task < submitted->count; ++task) {
                const JobId job{submitted->first.value + static_cast<std::uint64_t>(task)};
                Rng rng{seed_ * 1'000'003 + job.value};
                Truth truth;
                truth.tenant = spec.tenant;
                truth.share = spec.share;
                truth.in_place = spec.resize_in_place;
                truth.work = rng.lognormal(kind.mean, kind.spread).count() * std::max(1, spec.min_gpus.count());
                truth.exit_code = rng.chance(kind.fails) ? 1 : 0;
                truth.never_starts = rng.chance(kind.never_starts);
                machines_.submitted(job, truth);
            }
        } else if (const auto* ended = std::get_if<Ended>(&fact)) {
            job_over(ended->job);
            if (closing_) closing_deadline_ = at + longest_wait();
            machines_.attempt_ended(ended->attempt);
        } else if (const auto* requeued = std::get_if<Requeued>(&fact)) {
            machines_.attempt_ended(requeued->attempt);
        } else if (const auto* dropped = std::get_if<Dropped>(&fact)) {
            job_over(dropped->job);
        } else if (const auto* retired = std::get_if<Retired>(&fact)) {
            machines_.forget_job(retired->job);
        }
    }
    if (scenario_.check_every > 0) checker_.committed(at, batch, facts);
}

Result<Folded> World::fold() {
    if (snapshot_.rows.empty()) return fold_log(store_);
    auto state = State::from_rows(snapshot_.rows);
    if (!state) return fail(Fault::malformed, "a snapshot does not read back");
    return fold_log(store_, {std::move(*state), snapshot_.last_fact, snapshot_.last_input});
}

/// A log in memory keeps what came after the newest snapshot. The snapshot is folded from the log, as the follower's
/// is, never taken from the control plane.
void World::trim_log() {
    if (report_.facts - facts_at_snapshot_ < scenario_.snapshot_every) return;
    facts_at_snapshot_ = report_.facts;
    auto folded = fold();
    if (!folded) return broken("the log cannot be folded: " + folded.error().detail);
    snapshot_ = {folded->state.rows(), folded->last_fact, folded->last_input};
    store::Retention retention;
    retention.inputs_before = folded->last_input + 1;
    retention.facts_before = folded->last_fact + 1;
    retention.history_before = now_;
    while (true) {
        const auto gone = store_.forget(retention);
        if (!gone) return broken("the log cannot be trimmed: " + gone.error().detail);
        if (*gone == 0) return;
    }
}

// ------------------------------------------------------------------------------------------------------- the links

void World::send(const Command& command) {
    const auto node = std::visit([](const auto& what) { return what.node; }, command);
    auto& link = links_of_[node.value];
    if (!link.up || is_to_be_met(node)) return;  // State owes it until the node has told what it has
    link.last_command = std::max(link.last_command, now_ + scenario_.pace.message);
    queue_.push(link.last_command, Happening::command, node,
                commands_on_their_way_.put({control_plane_->authority(), command}), link.epoch);
    if (!closing_ && held_back_.size() < most_held_back && links_.chance(scenario_.faults.command_stale)) {
        held_back_.push_back({control_plane_->authority(), command});
    }
}

void World::deliver_command(const Event& event) {
    const auto arrived = commands_on_their_way_.take(event.a);
    const auto& link = links_of_[event.node.value];
    if (link.up && link.epoch == event.b) machines_.carry_out(arrived.from, now_, arrived.command);
}

/// It has been on its way since before the takeover, of which this node has heard by now.
void World::deliver_stale_command(const Event& event) {
    const auto arrived = commands_on_their_way_.take(event.a);
    if (!links_of_[event.node.value].up || machines_.term_of(event.node) <= arrived.from.term) return;
    note("command_stale");
    const auto refused = machines_.refused_commands();
    machines_.carry_out(arrived.from, now_, arrived.command);
    if (machines_.refused_commands() == refused) broken("a command of an earlier term was obeyed");
}

void World::reported(NodeId node, Input input) {
    auto& link = links_of_[node.value];
    if (!link.up) return;  // told again when the link is back
    const auto& faults = scenario_.faults;
    auto delay = scenario_.pace.message;
    if (!closing_) {
        if (links_.chance(faults.report_lost)) return note("report_lost");
        if (links_.chance(faults.report_reordered)) delay += links_.exponential(100 * scenario_.pace.message);
        if (now_ + delay < link.last_report) note("report_reordered");
        link.last_report = std::max(link.last_report, now_ + delay);
        if (links_.chance(faults.report_late)) {
            delay += links_.exponential(faults.late_by);
            note("report_late");
        }
        if (links_.chance(faults.report_doubled)) {
            queue_.push(now_ + delay + links_.exponential(faults.late_by), Happening::input, node,
                        inputs_on_their_way_.put(input));
            note("report_doubled");
        }
    }
    queue_.push(now_ + delay, Happening::input, node, inputs_on_their_way_.put(std::move(input)));
}

void World::check() {
    if (auto what = machines_.broken()) return broken(*what);
    if (auto what = gateways_.broken()) return broken(*what);
    if (!control_plane_ || broken_) return;
    checker_.whole(now_, control_plane_->state());
    const auto& deadlines = control_plane_->state().deadlines();
    const bool something_pends = !inbox_.empty() || (!deadlines.empty() && deadlines.begin()->at <= now_);
    if (!control_plane_->pass_goes_on()) checker_.passes_settle(control_plane_->core(), now_, something_pends);
    checker_.probe(control_plane_->core(), now_, probes_);
    if (probes_.chance(0.2)) control_plane_->rebuild_derived();
}

}  // namespace stargate::twin
