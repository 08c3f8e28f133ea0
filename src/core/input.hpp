#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/units.hpp"
#include "core/report.hpp"
#include "core/settings.hpp"
#include "fleet/node.hpp"
#include "work/job.hpp"
#include "work/service.hpp"
#include "work/tenant.hpp"

/// What comes in from the world. Inputs are logged beside the facts they caused, so that a replay can decide again.
/// An input that changes nothing is not logged.
namespace stargate {

/// A control plane starts: raises the term, and gives every deadline that passed while it was away a fresh start.
struct TakeOffice {
    std::uint64_t term = 0;
    Settings settings;
    std::uint64_t newest_attempt = 0;  // of old logs; ForeignFound now says which numbers are taken outside the log
};
BOOST_DESCRIBE_STRUCT(TakeOffice, (), (term, settings, newest_attempt))

struct SetTenant {
    std::string name;
    std::int64_t quota = -1;
    std::int32_t weight = 1;
    std::uint32_t may_use = 0b1111;
    std::vector<Member> members{};
    // What stays as it is, or at its default in a new tenant.
    bool keeps_quota = false;
    bool keeps_weight = false;
    bool keeps_classes = false;
    bool keeps_members = false;
};
BOOST_DESCRIBE_STRUCT(SetTenant, (),
                      (name, quota, weight, may_use, members, keeps_quota, keeps_weight, keeps_classes, keeps_members))

/// A node reports for work. Another boot id than before proves that what ran on it is dead.
struct NodeUp {
    NodeShape shape;
    std::string boot;
};
BOOST_DESCRIBE_STRUCT(NodeUp, (), (shape, boot))

/// A node does not answer: its work is unknown, not failed.
struct NodeSilent {
    NodeId node;
};
BOOST_DESCRIBE_STRUCT(NodeSilent, (), (node))

/// Proof that a node and all that ran on it are dead: power off, or the engine's verdict.
struct NodeDead {
    NodeId node;
};
BOOST_DESCRIBE_STRUCT(NodeDead, (), (node))

struct Drain {
    NodeId node;
    bool draining = true;
};
BOOST_DESCRIBE_STRUCT(Drain, (), (node, draining))

/// `tenant` and `after` come as names, resolved here because only the writer's State is up to date.
struct Submit {
    JobSpec spec;
    std::string tenant;
    std::vector<std::string> after;
    std::int32_t count = 1;
    bool held = false;
    std::optional<ServiceSpec> service{};  // then `count` is its largest number of replicas
};
BOOST_DESCRIBE_STRUCT(Submit, (), (spec, tenant, after, count, held, service))

struct Cancel {
    JobId job;
};
BOOST_DESCRIBE_STRUCT(Cancel, (), (job))

struct Hold {
    JobId job;
    bool held = true;
};
BOOST_DESCRIBE_STRUCT(Hold, (), (job, held))

/// A person asks an elastic job to run at so many GPUs; 0: as many as can be had.
struct Resize {
    JobId job;
    std::int32_t gpus = 0;
};
BOOST_DESCRIBE_STRUCT(Resize, (), (job, gpus))

/// As many GPUs at least, and at most.
struct GpuRange {
    GpuCount least{1};
    GpuCount most{1};
    friend bool operator==(const GpuRange&, const GpuRange&) = default;
};
BOOST_DESCRIBE_STRUCT(GpuRange, (), (least, most))

/// What is to be different about a job, or about the array that it is an element of. What is not said stays as it is.
struct Edit {
    JobId job;
    std::optional<PriorityClass> priority{};
    std::optional<Duration> time_limit{};
    std::optional<GpuRange> gpus{};
    std::optional<std::vector<std::string>> after{};  // names, as of a Submit
};
BOOST_DESCRIBE_STRUCT(Edit, (), (job, priority, time_limit, gpus, after))

/// A deadline in State may have come.
struct Due {};
BOOST_DESCRIBE_STRUCT(Due, (), ())

/// Ends each batch: schedule what can be scheduled.
struct Pass {
    bool starts_nothing = false;  // no room for the records of new work: what is ripe waits for a later pass
    bool goes_on = false;         // the last one was cut off, and nothing has changed since
    std::int32_t retires = 0;     // so many ended jobs leave State at most; 0: all that are to, as in older logs
};
BOOST_DESCRIBE_STRUCT(Pass, (), (starts_nothing, goes_on, retires))

/// What one gateway has of one service right now.
struct DemandLevel {
    JobId service;
    std::int64_t queued = 0;
    std::int64_t in_flight = 0;
    bool over_limit = false;
    std::int64_t wanted_tokens_per_s = 0;
    std::int64_t replica_tokens_per_s = 0;
    friend bool operator==(const DemandLevel&, const DemandLevel&) = default;
};

/// What is asked of a service, over all gateways: absolute levels, told again whenever they change. Soft: one that
/// changes nothing in State is lost without harm.
struct ServiceDemand {
    JobId service;
    bool is_known = false;                  // false: a gateway has been silent for too long
    std::int64_t queued = 0;                // requests that wait in gateways
    std::int64_t in_flight = 0;             // requests that replicas have
    bool over_limit = false;                // one waits longer than the objective
    std::int64_t wanted_tokens_per_s = 0;   // that answers are asked to have
    std::int64_t replica_tokens_per_s = 0;  // that one replica computes when it is full; 0: not known
};
BOOST_DESCRIBE_STRUCT(ServiceDemand, (),
                      (service, is_known, queued, in_flight, over_limit, wanted_tokens_per_s, replica_tokens_per_s))

using Input = std::variant<TakeOffice, SetTenant, NodeUp, NodeSilent, NodeDead, Drain, Submit, Cancel, Hold, Resize,
                           Due, Pass, RanksRunning, RanksEnded, AttemptLost, Progress, ForeignFound, ServiceDemand,
                           ReplicaReady, ReplicaAsleep, ReplicaFailed, ReplicaAnswered, Edit>;

constexpr std::array<std::string_view, std::variant_size_v<Input>> input_names{
    "take_office",   "set_tenant",     "node_up",        "node_silent",      "node_dead",     "drain",
    "submit",        "cancel",         "hold",           "resize",           "due",           "pass",
    "ranks_running", "ranks_ended",    "attempt_lost",   "progress",         "foreign_found", "service_demand",
    "replica_ready", "replica_asleep", "replica_failed", "replica_answered", "edit"};

}  // namespace stargate
