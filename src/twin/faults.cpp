#include "twin/world.hpp"

/// What goes wrong with the nodes of the simulated world, and who notices when.
namespace stargate::twin {

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
    for (const auto attempt : machines_.lose_clients(node)) gateways_.cut(now_, attempt);
    queue_.push(now_ + scenario_.pace.silence, Happening::node_noticed, node, 0, link.epoch);
    if (link.crashed && faults_.count("node_gone") == 0 && faults_rng_.chance(faults.never_back)) {
        note("node_gone");
        link.gone = true;
        queue_.push(now_ + scenario_.pace.silence * 2, Happening::node_verdict, node, 0, link.epoch);
        return;
    }
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
    if (faults_rng_.chance(scenario_.faults.node_reshaped)) {
        note("node_reshaped");
        machines_.reshape(event.node);
    }
    routes_changed_ = true;       // its replicas are asked again
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

}  // namespace stargate::twin
