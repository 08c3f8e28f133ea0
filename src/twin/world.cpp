#include "twin/world.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/overloaded.hpp"
#include "twin/scenario.hpp"

namespace stargate::twin {

namespace {
constexpr Duration tick = Duration{1};
constexpr Duration tidy_every = std::chrono::seconds{60};
/// With faults stopped, all that can run does within this simulated time; far more than any scenario's backlog.
constexpr Duration longest_closing = std::chrono::hours{24 * 365};

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
      machines_{queue_, scenario_, seed * 8 + 6,
                [this](NodeId node, Report report) { reported(node, std::move(report)); },
                [this](std::string what) { broken(std::move(what)); }},
      checker_{[this](std::string what) { broken(std::move(what)); }},
      links_of_(1) {
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
            closing_ = true;
            closing_deadline_ = now_ + longest_closing;
            full_until_ = {};
            next_is_unknown_ = false;
            if (control_plane_) control_plane_->die_in(0);
            tidy_up();
        }
        if (closing_ && open_ == 0 && inbox_.empty() && control_plane_) break;
        const auto event = queue_.pop();
        now_ = event.at;
        ++report_.events;
        report_.simulated_hours = static_cast<double>((now_ - began).count()) / 3.6e9;
        handle(event);
        if (scenario_.check_every > 0 && report_.events % scenario_.check_every == 0) check();
        if (progress && report_.events % 100'000 == 0) progress(report_.simulated_hours, report_.events);
        if (now_ > closing_deadline_) broken(fmt::format("{} jobs are not over, long after all faults ended", open_));
    }
    if (!broken_ && open_ != 0) broken(fmt::format("{} jobs are not over and nothing more will happen", open_));
    if (!broken_ && scenario_.check_every > 0) check();
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
    for (std::int64_t i = 0; i < scenario_.at_start; ++i) submit_one();
    if (scenario_.arrival_every > Duration{}) queue_.push(now_ + tick, Happening::arrival);
    for (const auto act : {Act::cancel, Act::hold, Act::release, Act::resize, Act::drain, Act::undrain}) {
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
        case Happening::ranks_up:
            return machines_.ranks_up(now_, event);
        case Happening::gang_done:
            return machines_.gang_done(now_, event);
        case Happening::ranks_exit:
            return machines_.ranks_exit(now_, event);
        case Happening::ranks_left:
            return machines_.ranks_left(now_, event);
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
            if (links_of_[event.node.value].up) machines_.reconcile(now_, event.node);
            return queue_.push(now_ + scenario_.pace.reconcile, Happening::reconcile, event.node);
        case Happening::check:
            if (closing_) tidy_up();
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
    const auto back = std::move(came_back_);
    came_back_.clear();
    if (control_plane_->round(now_, inbox_) == ControlPlane::Survival::died) return control_plane_died();
    if (!inbox_.empty()) {
        came_back_ = back;
        plan_round(std::max(now_ + tick, control_plane_->try_again()));
    } else if (!back.empty()) {
        meet_engines(back);
    }
    (void)store_.maintain();
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
    const auto identity = store_.begin_term();
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
    put(TakeOffice{identity->term, scenario_.settings}, false);
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
        }
    }
}

void World::control_plane_died() {
    note("control_plane_death");
    control_plane_.reset();
    inbox_.clear();
    came_back_.clear();
    wake_at_ = never;
    queue_.push(now_ + faults_rng_.exponential(scenario_.faults.control_plane_down), Happening::control_plane_back);
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
            for (const auto& part : state.at<Attempt>(id).parts) {
                if (part.node == node) believed.push_back({id, !part.first});
            }
        }
        for (const auto attempt : machines_.adopt(now_, node, believed)) {
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
        ++facts_by_type_[fact.index()];
        if (const auto* submitted = std::get_if<Submitted>(&fact)) {
            report_.jobs += static_cast<std::uint64_t>(submitted->count);
            open_ += submitted->count;
            const auto& spec = submitted->spec;
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
            --open_;
            machines_.attempt_ended(ended->attempt);
        } else if (const auto* requeued = std::get_if<Requeued>(&fact)) {
            machines_.attempt_ended(requeued->attempt);
        } else if (std::holds_alternative<Dropped>(fact)) {
            --open_;
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
    if (!link.up) return;
    link.last_command = std::max(link.last_command, now_ + scenario_.pace.message);
    queue_.push(link.last_command, Happening::command, node,
                commands_on_their_way_.put({control_plane_->authority(), command}), link.epoch);
}

void World::deliver_command(const Event& event) {
    const auto arrived = commands_on_their_way_.take(event.a);
    const auto& link = links_of_[event.node.value];
    if (link.up && link.epoch == event.b) machines_.carry_out(now_, arrived.from, arrived.command);
}

void World::reported(NodeId node, Report report) {
    if (!links_of_[node.value].up) return;  // told again when the link is back
    Input input = std::visit([](auto& what) -> Input { return std::move(what); }, report);
    const auto& faults = scenario_.faults;
    auto delay = scenario_.pace.message;
    if (!closing_) {
        if (links_.chance(faults.report_lost)) return note("report_lost");
        if (links_.chance(faults.report_late)) {
            delay += links_.exponential(faults.late_by);
            note("report_late");
        }
        if (links_.chance(faults.report_doubled)) {
            queue_.push(now_ + delay + links_.exponential(faults.late_by), Happening::input, node,
                        inputs_on_their_way_.put(input));
            note("report_doubled");
        }
        if (faults.report_late > 0) delay += links_.exponential(scenario_.pace.message);  // they overtake each other
    }
    queue_.push(now_ + delay, Happening::input, node, inputs_on_their_way_.put(std::move(input)));
}

// ---------------------------------------------------------------------------------------------- people and faults

void World::arrive() {
    if (closing_) return;
    submit_one();
    queue_.push(now_ + arrivals_.exponential(scenario_.arrival_every), Happening::arrival);
}

void World::submit_one() {
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
    const JobId job{jobs - people_.below(std::min<std::uint64_t>(jobs, 400))};
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
    }
}

/// With faults over, people take their holds and drains away and links are asked again, until nothing is left.
void World::tidy_up() {
    if (!control_plane_) return;
    const auto& state = control_plane_->state();
    state.table<Job>().for_each([&](const Job& job) {
        if (job.held && std::holds_alternative<Waiting>(job.phase)) put(Hold{job.id, false}, true);
    });
    state.table<Node>().for_each([&](const Node& node) {
        if (node.draining) put(Drain{node.id, false}, true);
    });
    for (std::size_t id = 1; id < links_of_.size(); ++id) {
        if (!links_of_[id].up) continue;
        machines_.reconcile(now_, NodeId{id});
        tell_stray(NodeId{id});
    }
}

void World::lose_node() {
    const NodeId node{1 + faults_rng_.below(machines_.size())};
    auto& link = links_of_[node.value];
    if (!link.up) return;
    const auto& faults = scenario_.faults;
    link.up = false;
    ++link.epoch;
    link.crashed = faults_rng_.chance(faults.loss_is_crash);
    note(link.crashed ? "node_crash" : "link_loss");
    if (link.crashed) machines_.crash(now_, node);
    queue_.push(now_ + scenario_.pace.silence, Happening::node_noticed, node, 0, link.epoch);
    const auto back = now_ + faults_rng_.exponential(faults.back_after);
    queue_.push(back, Happening::node_back, node, 0, link.epoch);
    if (link.crashed && faults_rng_.chance(faults.proven_dead)) {
        queue_.push(faults_rng_.chance(0.5) ? now_ + scenario_.pace.silence / 2 : now_ + scenario_.pace.silence * 2,
                    Happening::node_verdict, node, 0, link.epoch);
    }
}

void World::node_noticed(const Event& event) {
    if (links_of_[event.node.value].epoch != event.b || !control_plane_) return;
    note("node_silent");
    put(NodeSilent{event.node}, false);
}

void World::node_verdict(const Event& event) {
    if (links_of_[event.node.value].epoch != event.b) return;
    note("node_dead");
    put(NodeDead{event.node}, false);
}

void World::node_back(const Event& event) {
    auto& link = links_of_[event.node.value];
    if (link.epoch != event.b) return;
    link.up = true;
    ++link.epoch;
    link.last_command = {};
    if (link.crashed) {
        machines_.boot(event.node);
        link.stray.gpus = 0;
        link.stray.running = 0;
        note("node_rebooted");
    }
    link.crashed = false;
    if (!control_plane_) return;  // it will be asked when it is back
    put(NodeUp{machines_.shape(event.node), machines_.boot_id(event.node)}, false);
    came_back_.push_back(event.node);
    find_stray(event.node);
    tell_stray(event.node);
}

/// Now and then a node comes back with work of a store that was lost.
void World::find_stray(NodeId node) {
    auto& link = links_of_[node.value];
    const auto gpus = static_cast<std::uint64_t>(machines_.shape(node).gpus.count());
    if (link.stray.running > 0 || gpus == 0 || !faults_rng_.chance(0.3)) return;
    note("stray_found");
    link.stray = {
        node, GpuMask{1} << faults_rng_.below(gpus), {AttemptId{control_plane_->state().counters().attempts + 1}}, 1};
    queue_.push(now_ + faults_rng_.exponential(scenario_.faults.back_after), Happening::stray_ended, node, 0,
                ++link.strays);
}

void World::stray_ended(const Event& event) {
    auto& link = links_of_[event.node.value];
    if (link.strays != event.b) return;
    link.stray.gpus = 0;
    link.stray.running = 0;
    if (link.up) tell_stray(event.node);
}

void World::tell_stray(NodeId node) {
    const auto& link = links_of_[node.value];
    if (link.strays > 0) put(link.stray, false);
}

void World::check() {
    if (auto what = machines_.broken()) return broken(*what);
    if (!control_plane_ || broken_) return;
    checker_.whole(now_, control_plane_->state());
    checker_.probe(control_plane_->core(), now_, probes_);
    if (probes_.chance(0.2)) control_plane_->rebuild_derived();
}

}  // namespace stargate::twin
