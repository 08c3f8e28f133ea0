#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "core/settings.hpp"
#include "fleet/node.hpp"
#include "work/job.hpp"
#include "work/service.hpp"

/// What a simulation is made of, as a scenario file tells it. docs/twin.md has the file's form.
namespace stargate::twin {

/// Machines of one kind.
struct NodeGroup {
    int nodes = 1;
    NodeShape shape;  // of each; its name and place follow from its number
    int nodes_per_rack = 16;
    int racks_per_pod = 8;
};

struct TenantPlan {
    std::string name;
    std::int64_t quota_gpus = -1;
    std::int32_t weight = 1;
    double load = 1;  // of all arrivals, relative to the other tenants
};

/// One kind of job. Its truth (how long, how it ends) is drawn for each job when it is submitted.
struct JobKind {
    std::string name;
    double load = 1;  // of all arrivals, relative to the other kinds
    JobSpec spec;
    std::int32_t count = 1;  // elements of its arrays
    Duration mean = std::chrono::minutes{10};
    double spread = 1;        // of the logarithm of the duration
    double fails = 0;         // ends with status 1
    double never_starts = 0;  // its program is not there
    double after = 0;         // comes after the tenant's job before it
    double held = 0;          // submitted with a hold
};

/// A service, what its replicas are like, and what is asked of it: requests without memory at `rate` a second, and at
/// `burst_rate` for `burst_for` out of each `burst_every`.
struct ServicePlan {
    std::string name;
    std::string tenant;
    JobSpec spec;  // of each replica
    ServiceSpec service;
    double rate = 1, burst_rate = 0;
    Duration burst_every{}, burst_for{};
    double tokens = 100;                              // of a request, mean
    double tokens_per_s = 50;                         // of one stream
    double replica_tokens_per_s = 0;                  // of all streams of a replica together, at most; 0: any number
    Duration start = std::chrono::seconds{10};        // from the process to its first answer, mean
    Duration wake = std::chrono::milliseconds{500};   // mean
    Duration sleep = std::chrono::milliseconds{300};  // from the last request's end, mean
    double cannot_sleep = 0;                          // share of its replicas
};

/// What people do besides submitting, each once in this time on average; 0: never.
struct PeoplePlan {
    Duration cancel{}, hold{}, release{}, resize{}, drain{}, undrain{}, quota{}, edit{};
};

/// Faults, each once in this time on average over the whole world; 0: never. Shares are of all reports.
struct FaultPlan {
    Duration node_loss{};                            // a node answers no more
    double loss_is_crash = 0.5;                      // its work is dead; else only its link
    Duration back_after = std::chrono::seconds{40};  // mean
    double proven_dead = 0.3;                        // of the crashed ones: somebody proves it before the node is back
    Duration control_plane_death{};
    Duration control_plane_down = std::chrono::seconds{2};  // mean
    Duration store_full{};
    Duration full_for = std::chrono::seconds{3};  // mean
    Duration store_unknown{};
    double report_late = 0, report_lost = 0, report_doubled = 0;
    double report_reordered = 0;                  // held back a little, so that later ones overtake it
    Duration late_by = std::chrono::seconds{20};  // mean
    double command_stale = 0;                     // of all commands: a copy arrives after the next takeover
    double start_refused = 0;                     // of all starts: the sandbox cannot be built
    double never_back = 0;                        // of the crashed ones, but one a run: proven dead, and gone for good
    double node_reshaped = 0;                     // of those that come back: with other CPUs and memory
    double settings_changed = 0;                  // of all takeovers: with other settings than before
    double replica_hangs = 0;                     // of all that replicas are told: not done, ever
    double replica_stops = 0;                     // of all that are to serve: they do, and stop answering later
    double replica_dies = 0;                      // and: the replica ends instead
    Duration gateway_silent{};                    // a gateway speaks with its clients alone
    Duration silent_for = std::chrono::seconds{4};    // mean
    Duration gateway_restart{};                       // its requests are lost and counted, another boot goes on
    double demand_doubled = 0, demand_reordered = 0;  // of all words of gateways
};

/// How the world moves, all means.
struct Pace {
    Duration round = std::chrono::milliseconds{2};      // from the first input in the inbox to the commit
    Duration message = std::chrono::microseconds{300};  // one way between control plane and node
    Duration start = std::chrono::milliseconds{800};
    Duration acknowledge = std::chrono::seconds{1};
    Duration silence = std::chrono::seconds{10};  // until a node that does not answer is noticed
    Duration reconcile{};                         // nodes report again so often; 0: only when asked
};

struct Scenario {
    Duration duration = std::chrono::hours{1};         // arrivals and faults end then, and what is left must finish
    std::int64_t max_jobs = 0;                         // arrivals end after so many; 0: no limit
    Duration arrival_every = std::chrono::seconds{1};  // mean
    std::int64_t at_start = 0;                         // jobs submitted in the first instant
    std::uint64_t check_every = 1'000;                 // events between two whole-state checks; 0: no checks at all
    std::uint64_t snapshot_every = 100'000;            // facts; older ones leave a log in memory
    bool keep_log = false;                             // a log in memory keeps all facts
    std::vector<NodeGroup> fleet;
    std::vector<TenantPlan> tenants;
    std::vector<JobKind> kinds;
    std::vector<ServicePlan> services;
    std::int32_t gateways = 1;
    PeoplePlan people;
    FaultPlan faults;
    Pace pace;
    Settings settings;
};

/// Reads a scenario. `overrides` are `path=value` with the file's words, as `faults.node_loss=0` or
/// `workload.kinds.0.mean=5s`. Errors (Fault::malformed) read `FILE:LINE: path: what; remedy`, those of an override
/// `--set: path: what; remedy`.
[[nodiscard]] Result<Scenario> read_scenario(const std::string& text, const std::vector<std::string>& overrides,
                                             std::string_view file = "scenario.yaml");

}  // namespace stargate::twin
