#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loop/demand.hpp"
#include "twin/event_queue.hpp"
#include "twin/machines.hpp"
#include "twin/rng.hpp"
#include "twin/scenario.hpp"

namespace stargate::twin {

/// Where requests may go: by service (its place in the scenario), the replicas that serve. Newer tables have a higher
/// (term, version).
struct RouteTable {
    struct Replica {
        AttemptId attempt;
        NodeId node;
        std::uint32_t telling = 0;
    };
    std::uint64_t term = 0;
    std::uint64_t version = 0;
    std::vector<std::vector<Replica>> of;
};

/// What a gateway tells the control plane.
struct DemandWord {
    std::string gateway;
    std::uint64_t boot = 0;
    std::uint64_t seq = 0;
    std::vector<DemandLevel> levels;
    std::vector<ReplicaAnswered> answered;  // replicas that have given the first of an answer since they serve
};

/// Clients and gateways of the simulated world. Each request is taken once and has one end: answered, cut, refused, or
/// lost with its gateway.
class Gateways {
public:
    struct Ports {
        std::function<void(DemandWord)> tell;
        std::function<void(std::size_t)> ask_for_routes;  // this gateway has none, or may have missed some
        std::function<bool(NodeId)> is_reachable;
        std::function<void(const char*)> note;
        std::function<void(std::string)> broken;
    };
    Gateways(EventQueue& queue, const Scenario& scenario, std::uint64_t seed, Machines& machines, Ports ports);

    void begin(Instant now);
    /// Nobody asks any more and nothing goes wrong: what was taken is answered.
    void calm(Instant now);
    /// From now on this is the id of the service.
    void submitted(std::size_t service, JobId first) { ids_[service] = first; }
    /// Nobody is left who could answer, ever.
    void withdrawn(Instant now, std::size_t service);
    [[nodiscard]] JobId id_of(std::size_t service) const { return ids_[service]; }

    void request(Instant now, const Event& event);
    void request_done(Instant now, const Event& event);
    void first_token(Instant now, const Event& event);
    void speak(Instant now, const Event& event);
    void fall_silent(Instant now);
    void heard_again(Instant now, std::size_t gateway);
    void restart(Instant now);
    void routes(Instant now, std::size_t gateway, RouteTable table);
    /// The replica's process is gone, or cannot be reached: what it had begun to answer is cut.
    void cut(Instant now, AttemptId attempt);

    [[nodiscard]] std::size_t size() const { return gateways_.size(); }
    [[nodiscard]] bool is_silent(std::size_t gateway) const { return gateways_[gateway].silent; }
    /// Requests that wait or are being answered.
    [[nodiscard]] std::size_t open() const { return requests_.size(); }
    /// One that is under way or waits, in words; empty: there is none.
    [[nodiscard]] std::string one_open() const;
    /// Requests by how they ended, and `asked` for all.
    [[nodiscard]] const std::map<std::string, std::uint64_t>& counts() const { return counts_; }
    [[nodiscard]] std::optional<std::string> broken() const;

private:
    struct Request {
        std::size_t gateway = 0;
        std::size_t service = 0;
        Instant arrived{};
        Instant begun{};    // to be answered
        AttemptId attempt;  // that answers it; none: it waits
        std::uint32_t telling = 0;
    };
    struct Gateway {
        std::string name;
        std::uint64_t boot = 1;
        std::uint64_t seq = 0;
        bool silent = false;
        RouteTable routes;
        std::vector<std::deque<std::uint64_t>> waiting;  // by service: requests, the oldest first
        std::vector<std::int64_t> in_flight;             // by service
        std::vector<std::deque<Instant>> arrivals;       // by service, of late
        std::vector<std::int64_t> pace;                  // by service: of a full replica, as it was seen last; 0: never
        std::vector<DemandLevel> told;
        std::map<AttemptId, std::uint32_t> answered;  // at which telling each has answered
        std::vector<ReplicaAnswered> untold;
        Instant told_at{};
        Instant speaks_at = never;
    };

    void arrive(Instant now, std::size_t service);
    void plan_request(Instant now, std::size_t service);
    void pump(Instant now, std::size_t service);
    void pump_one(Instant now, std::size_t gateway, std::size_t service);
    [[nodiscard]] std::optional<RouteTable::Replica> choose(Gateway& gateway, std::size_t service);
    void note_pace(Gateway& gateway, std::size_t service, AttemptId attempt);
    [[nodiscard]] double pace_beside(std::size_t service, std::int32_t streams) const;
    void touch(Instant now, std::size_t gateway);
    void speak_by(Instant at, std::size_t gateway);
    [[nodiscard]] Instant limit_of(const Gateway& gateway, std::size_t service) const;
    [[nodiscard]] std::vector<DemandLevel> levels_of(Instant now, const Gateway& gateway) const;
    void over(std::uint64_t id, const char* how);

    EventQueue& queue_;
    const Scenario& scenario_;
    Machines& machines_;
    Ports ports_;
    Rng rng_;
    Instant began_{};
    bool calm_ = false;
    std::vector<JobId> ids_;  // by service
    std::vector<Gateway> gateways_;
    std::map<std::uint64_t, Request> requests_;  // that have no end yet
    std::uint64_t newest_ = 0;
    std::map<std::string, std::uint64_t> counts_;
};

}  // namespace stargate::twin
