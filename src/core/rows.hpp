#pragma once

#include <algorithm>
#include <bit>
#include <boost/container/small_vector.hpp>
#include <boost/describe.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/units.hpp"
#include "core/command.hpp"
#include "core/reason.hpp"
#include "core/report.hpp"
#include "fleet/node.hpp"
#include "work/job.hpp"
#include "work/service.hpp"
#include "work/tenant.hpp"

/// The rows of State. A row is a plain value: everything that a snapshot holds is in rows, and everything else in
/// State (queues, buckets, sums) is derived from them and rebuilt with them.
namespace stargate {

/// A machine and what is promised of it. A GPU is free when it is in no mask. Of a machine that came back smaller more
/// may be leased than there is.
struct Node {
    NodeId id;
    NodeShape shape;
    Reach reach = Reach::up;
    bool draining = false;
    std::string boot;     // boot id of the running system; another one proves the old work dead
    GpuMask leased = 0;   // held by an attempt's part, or opened for shares
    GpuMask claimed = 0;  // promised to a claim; may still be leased to the one who lets go
    MilliCpus cpus_leased;
    MilliCpus cpus_claimed;
    Bytes memory_leased;
    Bytes memory_claimed;
    GpuMask foreign = 0;                      // held by work that this store does not know
    std::vector<AttemptId> foreign_attempts;  // whose folders are there: not ours to use or to remove
    std::int32_t foreign_running = 0;         // how many of these are alive
    MilliCpus cpus_foreign;                   // that these hold
    Bytes memory_foreign;
    GpuMask seats = 0;  // on which a replica sleeps; anyone may compute there meanwhile
    friend bool operator==(const Node&, const Node&) = default;

    [[nodiscard]] GpuMask all() const {
        const auto count = shape.gpus.count();
        return count >= max_gpus_per_node ? ~GpuMask{0} : (GpuMask{1} << count) - 1;
    }
    [[nodiscard]] GpuMask free() const { return all() & ~leased & ~claimed & ~foreign; }
    [[nodiscard]] MilliCpus free_cpus() const { return shape.cpus - cpus_leased - cpus_claimed - cpus_foreign; }
    [[nodiscard]] Bytes free_memory() const { return shape.memory - memory_leased - memory_claimed - memory_foreign; }
    [[nodiscard]] bool takes_work() const { return reach == Reach::up && !draining; }
};
BOOST_DESCRIBE_STRUCT(Node, (),
                      (id, shape, reach, draining, boot, leased, claimed, cpus_leased, cpus_claimed, memory_leased,
                       memory_claimed, foreign, foreign_attempts, foreign_running, cpus_foreign, memory_foreign, seats))

/// Where a part of an attempt stands: its ranks are owed to the engine, run, or have ended; `thinned`: those that a
/// resize in place takes away have ended, the others run.
enum class PartPhase : std::uint8_t { owed, running, ended, thinned };
BOOST_DESCRIBE_ENUM(PartPhase, owed, running, ended, thinned)

/// What an attempt or a claim holds on one node.
struct Part {
    NodeId node;
    GpuMask gpus = 0;
    std::int32_t share = 0;  // thousandths of the one GPU in `gpus`; 0: whole GPUs
    std::int32_t ranks = 1;
    MilliCpus cpus;
    Bytes memory;
    PartPhase phase = PartPhase::owed;
    bool first = true;  // no generation of this attempt has run on this node yet
    friend bool operator==(const Part&, const Part&) = default;

    [[nodiscard]] std::int32_t gpu_count() const { return share > 0 ? 0 : std::popcount(gpus); }
    [[nodiscard]] std::int64_t milli_gpus() const {
        return share > 0 ? share : std::int64_t{1000} * std::popcount(gpus);
    }
};
BOOST_DESCRIBE_STRUCT(Part, (), (node, gpus, share, ranks, cpus, memory, phase, first))
using Parts = boost::container::small_vector<Part, 1>;
inline Part nothing_on(NodeId node) {
    Part part;
    part.node = node;
    return part;
}

using NodeIds = boost::container::small_vector<NodeId, 1>;

/// The specification that the elements of an array share. Leaves State with its last element.
struct Spec {
    JobId first;  // the array's first element is its id
    JobSpec spec;
    std::int32_t count = 1;
    std::int32_t left = 1;  // elements still in State
    Instant submitted{};
    std::int32_t failed = 0;  // elements that have left State and had not succeeded
    friend bool operator==(const Spec&, const Spec&) = default;
};
BOOST_DESCRIBE_STRUCT(Spec, (), (first, spec, count, left, submitted, failed))

/// Where a job stands. Each phase carries only what is true in that phase.
struct Waiting {
    Instant since{};
    Instant not_before{};  // after an infrastructure failure: back off until then
    friend bool operator==(const Waiting&, const Waiting&) = default;
};
BOOST_DESCRIBE_STRUCT(Waiting, (), (since, not_before))
struct Active {
    AttemptId attempt;
    friend bool operator==(const Active&, const Active&) = default;
};
BOOST_DESCRIBE_STRUCT(Active, (), (attempt))
struct Finished {
    Instant at{};
    Outcome outcome = Outcome::succeeded;
    std::int32_t exit_status = 0;  // as a shell tells it: the exit code, or 128 + the signal
    std::string detail;            // one sentence, empty when all went well
    Instant started{};             // of its last attempt; zero when it ended while it waited, or long ago
    NodeIds nodes;                 // that this attempt held last
    friend bool operator==(const Finished&, const Finished&) = default;
};
BOOST_DESCRIBE_STRUCT(Finished, (), (at, outcome, exit_status, detail, started, nodes))
/// Of a service whose servers run elsewhere: requests go to them. It has no attempt and holds nothing.
struct Routed {
    Instant since{};
    friend bool operator==(const Routed&, const Routed&) = default;
};
BOOST_DESCRIBE_STRUCT(Routed, (), (since))
using Phase = std::variant<Waiting, Active, Finished, Routed>;

/// What a replica is to be: not there, asleep in its seat, or serving. Of all other jobs: awake.
enum class Wish : std::uint8_t { off, asleep, awake };
BOOST_DESCRIBE_ENUM(Wish, off, asleep, awake)

/// What a job has used and what became of it, over all of its attempts. As told by the last fact that charged it: of
/// older logs nothing is known.
struct JobAccount {
    std::int64_t charged = 0;  // GPU-milliseconds of its leases; of a share its part
    std::int64_t saved = 0;    // as many had been charged when it told the last step, or left in time as it was warned
    std::int64_t lost = 0;     // GPU-milliseconds after the last of these, of runs that ended without success
    std::int32_t recovered = 0;  // starts that follow a failure of the infrastructure
    std::int32_t preempted = 0;  // starts that follow its making room, or leaving a node that was drained
    friend bool operator==(const JobAccount&, const JobAccount&) = default;
};
BOOST_DESCRIBE_STRUCT(JobAccount, (), (charged, saved, lost, recovered, preempted))

struct Job {
    JobId id;
    JobId spec;
    std::int32_t task = 0;       // index in its array
    std::int32_t failures = 0;   // infrastructure failures so far
    std::int32_t want_gpus = 0;  // asked for by a person's resize; 0: up to max_gpus
    bool held = false;
    Wish wish = Wish::awake;
    std::int64_t step = -1;  // last step it can resume from, -1 unknown
    AttemptId last_attempt;  // newest attempt, running or ended
    std::uint32_t last_generation = 0;
    std::int32_t last_gpus = 0;  // GPUs that the newest attempt held last
    Phase phase;
    JobAccount account;
    friend bool operator==(const Job&, const Job&) = default;
};
BOOST_DESCRIBE_STRUCT(Job, (),
                      (id, spec, task, held, failures, step, last_attempt, last_generation, last_gpus, phase, want_gpus,
                       wish, account))

/// A generation on its way out: warned, and ended by its executor at the deadline.
struct Ending {
    EndCause cause = EndCause::cancel;
    Parts next;  // what the next generation holds; empty when none follows
    Instant deadline{};
    friend bool operator==(const Ending&, const Ending&) = default;
};
BOOST_DESCRIBE_STRUCT(Ending, (), (cause, next, deadline))

/// Whether a replica computes. Asleep it holds host memory and its seat, and no GPU; what goes to sleep still holds
/// them, and what wakes holds them again.
enum class Presence : std::uint8_t { awake, falling_asleep, asleep, waking };
BOOST_DESCRIBE_ENUM(Presence, awake, falling_asleep, asleep, waking)

/// GPUs that a replica computes on because somebody's job shrank or went for it. A label: the lease is the replica's.
struct Loan {
    JobId lender;
    std::int32_t gpus = 0;
    friend bool operator==(const Loan&, const Loan&) = default;
};
BOOST_DESCRIBE_STRUCT(Loan, (), (lender, gpus))
using Loans = std::vector<Loan>;

/// One run of a job. Only live attempts have a row; what is left of an ended one stands in its job.
struct Attempt {
    AttemptId id;
    JobId job;
    std::uint32_t generation = 1;
    Parts parts;
    std::optional<Ending> ending;
    Instant started{};           // of the attempt
    Instant leased_since{};      // of this generation's lease: what is charged next counts from here
    Instant limit{};             // end by time limit
    Instant gang_deadline{};     // all parts run by then; `never` once they do
    Instant settled{};           // no resize takes back or grows before this
    std::int32_t want_gpus = 0;  // as the job's
    std::optional<Exit> exit;    // worst unwarned end so far
    bool infrastructure_failed = false;
    bool interrupted = false;  // a part of this generation ended because it was warned
    // Of a replica alone:
    Presence presence = Presence::awake;
    bool is_ready = false;  // it has proved that it answers, since it was started or woken
    Instant reply_by{};     // by when it must have done what it was told; zero: it was told nothing
    std::int32_t port = 0;  // that it listens on
    Parts seat;             // while it sleeps: what it computes on when it wakes
    Loans loans;
    std::uint32_t tellings = 0;  // how often it has been told to sleep or to wake
    std::string trouble{};       // why it is ended as one that failed, where it has been seen; a sentence
    bool has_answered = false;   // a gateway has had something of an answer from it since it became ready
    friend bool operator==(const Attempt&, const Attempt&) = default;

    [[nodiscard]] std::int32_t gpu_count() const {
        std::int32_t sum = 0;
        for (const auto& part : parts) sum += part.gpu_count();
        return sum;
    }
    /// What the ending that is under way lets go of on this part's node; nothing where none is.
    [[nodiscard]] Part leaving(const Part& part) const {
        if (!ending) return nothing_on(part.node);
        auto gone = part;
        for (const auto& next : ending->next) {
            if (next.node != part.node) continue;
            gone.gpus &= ~next.gpus;
            gone.cpus = std::max(MilliCpus{}, gone.cpus - next.cpus);
            gone.memory = std::max(Bytes{}, gone.memory - next.memory);
        }
        return gone;
    }
};
BOOST_DESCRIBE_STRUCT(Attempt, (),
                      (id, job, generation, parts, ending, started, leased_since, limit, gang_deadline, settled,
                       want_gpus, exit, infrastructure_failed, interrupted, presence, is_ready, reply_by, port, seat,
                       loans, tellings, trouble, has_answered))

/// GPUs promised to a job while others still let go of them, to an attempt that is about to grow into them, or to a
/// replica that is about to wake.
/// A claim waits on leases, never on another claim, and ends whole by its deadline.
struct Claim {
    JobId job;
    AttemptId grows;  // none: the job starts with `parts`
    Parts parts;
    Instant deadline{};
    AttemptId wakes{};  // none: it starts or grows
    Loans lenders{};    // who lets go for a replica
    friend bool operator==(const Claim&, const Claim&) = default;
};
BOOST_DESCRIBE_STRUCT(Claim, (), (job, grows, parts, deadline, wakes, lenders))

/// How the last attempt of a replica failed, until it has become ready again.
struct Trouble {
    JobId job;
    std::string detail;
    friend bool operator==(const Trouble&, const Trouble&) = default;
};
BOOST_DESCRIBE_STRUCT(Trouble, (), (job, detail))

/// A service and what is asked of it. Its replicas are the elements of the array `first`.
struct Service {
    JobId first;
    ServiceSpec spec;
    std::int32_t awake = 0;   // replicas that are to serve
    bool is_known = false;    // whether the demand is: of one that is not known nothing is taken away
    std::int32_t need = 0;    // replicas that the demand fills
    std::int32_t keep = 0;    // replicas that could carry it with room to spare
    bool over_limit = false;  // somebody waits longer than the objective
    Instant shrink_at{};      // when fewer may serve, if fewer are still enough; zero: not planned
    bool cannot_sleep = false;
    Instant help_at{};  // when one more is to serve, if somebody waits too long until then; zero: not planned
    std::vector<Trouble> troubles{};  // at most one a replica, the newest last
    bool by_tokens = false;           // when `need` or `keep` changed last, tokens filled more than requests did
    friend bool operator==(const Service&, const Service&) = default;
};
BOOST_DESCRIBE_STRUCT(Service, (),
                      (first, spec, awake, is_known, need, keep, over_limit, shrink_at, cannot_sleep, help_at, troubles,
                       by_tokens))

/// One GPU cut into shares, all of one tenant.
struct SharedGpu {
    NodeId node;
    std::int32_t gpu = 0;
    TenantId tenant;
    std::int32_t used = 0;  // thousandths, 1..1000
    friend bool operator==(const SharedGpu&, const SharedGpu&) = default;
};
BOOST_DESCRIBE_STRUCT(SharedGpu, (), (node, gpu, tenant, used))

/// What a tenant holds and has had, its descendants' included.
struct TenantRow {
    Tenant tenant;
    std::int64_t used = 0;     // thousandths of GPUs held now
    std::int64_t charged = 0;  // GPU-milliseconds charged, ever
    std::int64_t claimed = 0;  // thousandths of GPUs promised to claims: they count against the quota too
    friend bool operator==(const TenantRow&, const TenantRow&) = default;
};
BOOST_DESCRIBE_STRUCT(TenantRow, (), (tenant, used, charged, claimed))

/// Why the elements of an array wait: what the last Pass that tried one of them, `job`, met.
struct Blocked {
    JobId spec;
    JobId job;
    Refusal why;
    friend bool operator==(const Blocked&, const Blocked&) = default;
};
BOOST_DESCRIBE_STRUCT(Blocked, (), (spec, job, why))

/// The earliest instant at which a blocked gang can count on its GPUs, by others' time limits. Lower work may start
/// only if it does not move it.
struct Reservation {
    JobId job;
    Instant at{};
    std::int32_t spare = 0;      // GPUs beyond the gang's need that are free at that instant
    Level level = Level::fleet;  // of the domain that it lies in, kept from others whole; fleet: any GPUs do
    std::uint64_t domain = 0;    // its index; of a node: its id
    friend bool operator==(const Reservation&, const Reservation&) = default;
};
BOOST_DESCRIBE_STRUCT(Reservation, (), (job, at, spare, level, domain))

/// What is counted or set once for the whole fleet. Ids are handed out here.
struct Counters {
    std::uint64_t jobs = 0;
    std::uint64_t attempts = 0;
    std::uint64_t tenants = 0;
    std::uint64_t nodes = 0;
    std::uint64_t term = 0;  // of the control plane in office
    Instant grow_at{};       // spare GPUs go to elastic attempts then; zero: not planned
    Instant now{};           // of the newest fact
    JobId cut_off;           // where the next pass goes on; none: the last one came to its end
    std::uint64_t left = 0;  // shapes that it did not come to since something last changed
    friend bool operator==(const Counters&, const Counters&) = default;
};
BOOST_DESCRIBE_STRUCT(Counters, (), (jobs, attempts, tenants, nodes, term, grow_at, now, cut_off, left))

}  // namespace stargate
