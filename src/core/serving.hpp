#pragma once

#include "core/core.hpp"
#include "core/decide.hpp"

/// Services: how many replicas are to serve, which of them sleep, and the life of each between. Called by decide and by
/// the pass.
namespace stargate {

/// A replica counts as able to carry so much of what it can have under way, in percent, when fewer are to serve.
constexpr std::int64_t carried_percent = 80;

/// How many replicas a load asks for.
struct Wanted {
    std::int64_t need = 0;  // that it fills: so many are wanted at once
    std::int64_t keep = 0;  // that could carry it with room to spare, >= need: no fewer are to serve
    friend bool operator==(const Wanted&, const Wanted&) = default;
};

/// By the tokens that are asked for, whatever the number of requests; none where the pace of a replica is not known.
Wanted wanted_by_tokens(const ServiceDemand& told);

/// So long after one more replica serves those that wait should have been taken.
constexpr Duration time_to_help = std::chrono::milliseconds{250};

Answer service_demand(Core& core, Instant now, const ServiceDemand& told);
void replica_ready(Core& core, Instant now, const ReplicaReady& report);
void replica_asleep(Core& core, Instant now, const ReplicaAsleep& report);
void first_answer(Core& core, Instant now, const ReplicaAnswered& report);
void replica_failed(Core& core, Instant now, const ReplicaFailed& report);

/// Scales every service to its demand and starts, wakes, puts to sleep or ends its replicas. Up at once; down only when
/// the demand is known, nobody waits too long, and fewer have been enough for a quiet period. Cost O(replicas) of those
/// services about which something changed since the last time, or that wait for room.
void serve(Core& core, Instant now);

/// Nothing may start: plans to scale that are due are made anew later.
void put_scaling_off(Core& core, Instant now);

/// The claim of a replica that sleeps is free: it wakes in its seat.
void wake(Core& core, Instant now, const Claim& claim);

/// Notes from whom the replica has its GPUs, before its claim is used up.
void note_lenders(Core& core, Instant now, JobId borrower, const Loans& lenders);

/// For which replica this job shrinks, where that is to be a loan; none: it is none. Of several the first by id.
JobId borrower_from(const State& state, JobId lender);

/// The replica lets go of its GPUs: they are the lenders' no more.
void return_loans(Core& core, Instant now, AttemptId attempt);

/// Whether this job is a replica of a service that Stargate starts.
bool is_replica(const State& state, const Job& job);

/// Whether this job stands for servers that run elsewhere: it is routed or held, and nothing else is ever done to it.
bool is_external(const State& state, const Job& job);

/// Of the external services those that requests go to, in order of id. Cost O(services).
std::vector<JobId> routed_services(const State& state);

}  // namespace stargate
