#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/units.hpp"

namespace stargate::twin {

/// What can happen in the simulated world.
enum class Happening : std::uint8_t {
    arrival,             // somebody submits
    person,              // somebody cancels, holds, resizes or drains
    round,               // the control plane decides what has piled up
    wake,                // its timer
    input,               // something reaches its inbox; a: slot
    command,             // a command reaches a node; a: slot
    stale_command,       // one of an earlier term does, after the takeover; a: slot
    ranks_up,            // a node's ranks have been executed; a: attempt, b: epoch of the record
    gang_done,           // all ranks of a gang have done their work; a: attempt, b: epoch of the gang
    ranks_exit,          // a node's ranks end by themselves; a: attempt, b: epoch of the record
    ranks_left,          // warned ranks are gone; a: attempt, b: epoch of the record
    node_lost,           // a fault
    node_noticed,        // it has not answered for some time; b: its epoch
    node_verdict,        // somebody proves it dead; b: its epoch
    node_back,           // it answers again; b: its epoch
    stray_ended,         // work that the store does not know ends; b: which
    control_plane_dies,  // at one of its next steps
    control_plane_back,
    store_fails,
    replica_acts,      // a replica has done what it was told; a: attempt, b: epoch of what it does
    request,           // a client asks; a: service, b: 0 for the beginning or end of a burst
    request_done,      // a: request, b: attempt that answers it
    first_token,       // the same
    gateway_speaks,    // a gateway tells its demand; a: which
    gateway_silent,    // a fault
    gateway_heard,     // a: which
    gateway_restarts,  // a fault
    demand,            // a word of a gateway reaches the control plane; a: slot
    demand_silence,    // a gateway may have been silent for too long
    routes,            // a route table reaches a gateway; a: which, b: slot
    services_close,    // faults are long over: do all services have what they need?
    reconcile,         // a node reports again what has not been forgotten
    check,
};

/// Something to happen. Plain data, because a run has millions of them.
struct Event {
    Instant at{};
    std::uint64_t sequence = 0;  // breaks ties: what was planned first happens first
    Happening what = Happening::check;
    NodeId node;
    std::uint64_t a = 0;
    std::uint64_t b = 0;
};

/// A binary heap by (instant, sequence).
class EventQueue {
public:
    void push(Instant at, Happening what, NodeId node = {}, std::uint64_t a = 0, std::uint64_t b = 0) {
        heap_.push_back({at, ++sequence_, what, node, a, b});
        std::push_heap(heap_.begin(), heap_.end(), later);
    }
    [[nodiscard]] bool empty() const { return heap_.empty(); }
    [[nodiscard]] const Event& top() const { return heap_.front(); }
    Event pop() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        const auto event = heap_.back();
        heap_.pop_back();
        return event;
    }

private:
    static bool later(const Event& a, const Event& b) { return a.at != b.at ? a.at > b.at : a.sequence > b.sequence; }
    std::vector<Event> heap_;
    std::uint64_t sequence_ = 0;
};

/// Things on their way, by slot, so that events stay plain.
template <class Thing>
class InFlight {
public:
    std::uint64_t put(Thing thing) {
        if (free_.empty()) {
            things_.push_back(std::move(thing));
            return things_.size() - 1;
        }
        const auto slot = free_.back();
        free_.pop_back();
        things_[slot] = std::move(thing);
        return slot;
    }
    Thing take(std::uint64_t slot) {
        free_.push_back(slot);
        return std::move(things_[slot]);
    }

private:
    std::vector<Thing> things_;
    std::vector<std::uint64_t> free_;
};

}  // namespace stargate::twin
