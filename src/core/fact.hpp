#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/units.hpp"
#include "core/rows.hpp"
#include "core/settings.hpp"

/// What is true from now on. Each fact is complete in itself: folding it chooses nothing. The instant it happened is
/// that of the input that caused it and is logged beside it. New facts and members are appended, never reordered.
namespace stargate {

struct Configured {
    Settings settings;
};
BOOST_DESCRIBE_STRUCT(Configured, (), (settings))

struct TenantSet {
    Tenant tenant;
};
BOOST_DESCRIBE_STRUCT(TenantSet, (), (tenant))

struct NodeJoined {
    NodeId node;
    NodeShape shape;
    std::string boot;
};
BOOST_DESCRIBE_STRUCT(NodeJoined, (), (node, shape, boot))

struct NodeChanged {
    NodeId node;
    Reach reach = Reach::up;
    bool draining = false;
    std::string boot;
};
BOOST_DESCRIBE_STRUCT(NodeChanged, (), (node, reach, draining, boot))

struct Submitted {
    JobId first;
    std::int32_t count = 1;
    JobSpec spec;
    bool held = false;
    std::optional<ServiceSpec> service{};  // then the elements are its replicas
};
BOOST_DESCRIBE_STRUCT(Submitted, (), (first, count, spec, held, service))

struct HoldChanged {
    JobId job;
    bool held = false;
};
BOOST_DESCRIBE_STRUCT(HoldChanged, (), (job, held))

/// The back-off after an infrastructure failure is over.
struct BackoffOver {
    JobId job;
};
BOOST_DESCRIBE_STRUCT(BackoffOver, (), (job))

/// The head of an equivalence class was tried and could not be placed. `spec` is its array.
struct BlockedBecause {
    JobId spec;
    JobId job;
    Refusal why;
};
BOOST_DESCRIBE_STRUCT(BlockedBecause, (), (spec, job, why))

struct Reserved {
    JobId job;
    Instant at{};
    std::int32_t spare = 0;
    Level level = Level::fleet;
    std::uint64_t domain = 0;
};
BOOST_DESCRIBE_STRUCT(Reserved, (), (job, at, spare, level, domain))

struct ReservationDropped {
    JobId job;
};
BOOST_DESCRIBE_STRUCT(ReservationDropped, (), (job))

struct Claimed {
    Claim claim;
};
BOOST_DESCRIBE_STRUCT(Claimed, (), (claim))

struct ClaimDropped {
    JobId job;
};
BOOST_DESCRIBE_STRUCT(ClaimDropped, (), (job))

/// A lease is granted; the job's claim, if it had one, is used up.
struct Started {
    JobId job;
    AttemptId attempt;
    Parts parts;
    Instant limit{};
    Instant gang_deadline{};
    Instant settled{};
    std::int32_t port = 0;  // of a replica
    Instant reply_by{};     // by when it must serve
};
BOOST_DESCRIBE_STRUCT(Started, (), (job, attempt, parts, limit, gang_deadline, settled, port, reply_by))

/// The ranks of this generation run on this node.
struct Running {
    AttemptId attempt;
    NodeId node;
    std::uint32_t generation = 1;
};
BOOST_DESCRIBE_STRUCT(Running, (), (attempt, node, generation))

/// The ranks are told to end; a resize when `next` is not empty.
struct Warned {
    AttemptId attempt;
    std::uint32_t generation = 1;
    Ending ending;
    JobId for_job;
};
BOOST_DESCRIBE_STRUCT(Warned, (), (attempt, generation, ending, for_job))

/// The ranks of this generation on this node are gone. `acknowledged`: they ended because they were warned.
struct PartEnded {
    AttemptId attempt;
    NodeId node;
    std::uint32_t generation = 1;
    Exit exit;
    bool acknowledged = false;
    bool infrastructure = false;
    std::int64_t step = -1;
    std::int32_t left = 0;   // ranks that go on in place
    std::int64_t saved = 0;  // GPU-milliseconds of its job that are not lost from here on; 0: as many as before
};
BOOST_DESCRIBE_STRUCT(PartEnded, (), (attempt, node, generation, exit, acknowledged, infrastructure, step, left, saved))

/// A new generation with a new lease; GPUs that it no longer holds are free, or go to the claim that waits for them.
struct Resized {
    AttemptId attempt;
    std::uint32_t generation = 1;
    Parts parts;
    EndCause cause = EndCause::resize;
    std::int32_t gpus_before = 0;
    std::int32_t gpus = 0;
    std::int64_t step = -1;
    Instant gang_deadline{};
    Instant settled{};
    std::int64_t charge = 0;
    JobId lender{};    // of a loan: the job that shrank
    JobId borrower{};  // and the replica that it shrank for
    JobAccount account{};
};
BOOST_DESCRIBE_STRUCT(Resized, (),
                      (attempt, generation, parts, cause, gpus_before, gpus, step, gang_deadline, settled, charge,
                       lender, borrower, account))

/// A resize that was under way goes on to another size, or the warning now means the end.
struct SizeWanted {
    AttemptId attempt;
    std::int32_t gpus = 0;
};
BOOST_DESCRIBE_STRUCT(SizeWanted, (), (attempt, gpus))

struct Progressed {
    AttemptId attempt;
    std::int64_t step = -1;
    std::int64_t saved = 0;  // as of PartEnded
};
BOOST_DESCRIBE_STRUCT(Progressed, (), (attempt, step, saved))

/// The attempt is over, its lease is free and its charge made; its job waits again.
struct Requeued {
    AttemptId attempt;
    JobId job;
    EndCause cause = EndCause::none;
    std::int32_t failures = 0;
    Instant not_before{};
    std::int64_t charge = 0;
    std::string detail;
    JobAccount account{};
};
BOOST_DESCRIBE_STRUCT(Requeued, (), (attempt, job, cause, failures, not_before, charge, detail, account))

/// The attempt is over and so is its job.
struct Ended {
    AttemptId attempt;
    JobId job;
    Outcome outcome = Outcome::succeeded;
    std::int32_t exit_status = 0;
    std::int64_t charge = 0;
    std::string detail;
    Instant started{};          // of the attempt
    NodeIds nodes;              // that it held last
    std::int32_t failures = 0;  // infrastructure failures of the job, this one included
    JobAccount account{};
};
BOOST_DESCRIBE_STRUCT(Ended, (),
                      (attempt, job, outcome, exit_status, charge, detail, started, nodes, failures, account))

/// A job that never ran, or waits between attempts, is over.
struct Dropped {
    JobId job;
    Outcome outcome = Outcome::cancelled;
    std::string detail;
};
BOOST_DESCRIBE_STRUCT(Dropped, (), (job, outcome, detail))

/// An ended job leaves State for the history table.
struct Retired {
    JobId job;
};
BOOST_DESCRIBE_STRUCT(Retired, (), (job))

/// A control plane took office: a new term of this store. Deadlines of gangs and claims that lie before `fresh` move
/// there, because nobody was there to hear that they were met. Attempts are numbered from above `newest_attempt`.
struct TookOffice {
    std::uint64_t term = 0;
    Instant fresh{};
    std::uint64_t newest_attempt = 0;
};
BOOST_DESCRIBE_STRUCT(TookOffice, (), (term, fresh, newest_attempt))

/// A resized lease has been kept for a quiet period: it may be resized again.
struct Settled {
    AttemptId attempt;
};
BOOST_DESCRIBE_STRUCT(Settled, (), (attempt))

/// Spare GPUs go to elastic attempts at `at`, unless someone else takes them first; the zero instant: not at all.
struct GrowthPlanned {
    Instant at{};
};
BOOST_DESCRIBE_STRUCT(GrowthPlanned, (), (at))

/// Work that this store does not know holds these GPUs of the node; nobody else gets them until it lets go. The ids of
/// its attempts are never given to ours.
struct ForeignNoted {
    NodeId node;
    GpuMask gpus = 0;
    std::vector<AttemptId> attempts;
    std::int32_t running = 0;
    MilliCpus cpus{};
    Bytes memory{};
};
BOOST_DESCRIBE_STRUCT(ForeignNoted, (), (node, gpus, attempts, running, cpus, memory))

/// What the gateways say is asked of a service, as replicas.
struct DemandNoted {
    JobId service;
    bool is_known = false;
    std::int32_t need = 0;
    std::int32_t keep = 0;
    bool over_limit = false;
    bool by_tokens = false;  // tokens fill more than requests do
};
BOOST_DESCRIBE_STRUCT(DemandNoted, (), (service, is_known, need, keep, over_limit, by_tokens))

/// Why another number of replicas is to serve.
enum class ScaleCause : std::uint8_t { minimum, demand, over_limit, quiet, tokens };
BOOST_DESCRIBE_ENUM(ScaleCause, minimum, demand, over_limit, quiet, tokens)

/// So many replicas are to serve from now on.
struct Scaled {
    JobId service;
    std::int32_t awake = 0;
    ScaleCause why = ScaleCause::minimum;
};
BOOST_DESCRIBE_STRUCT(Scaled, (), (service, awake, why))

/// Fewer replicas are to serve at `at` if fewer are enough until then; the zero instant: they are not.
struct ShrinkPlanned {
    JobId service;
    Instant at{};
};
BOOST_DESCRIBE_STRUCT(ShrinkPlanned, (), (service, at))

struct Wished {
    JobId job;
    Wish wish = Wish::awake;
};
BOOST_DESCRIBE_STRUCT(Wished, (), (job, wish))

/// A replica has proved that it answers.
struct Ready {
    AttemptId attempt;
    JobId job;
};
BOOST_DESCRIBE_STRUCT(Ready, (), (attempt, job))

/// A replica is told to sleep: no new request goes there.
struct SleepBegun {
    AttemptId attempt;
    JobId job;
    Instant reply_by{};
};
BOOST_DESCRIBE_STRUCT(SleepBegun, (), (attempt, job, reply_by))

/// A replica sleeps: it keeps `seat`, and of its lease only what `parts` says, which is no GPU.
struct Seated {
    AttemptId attempt;
    JobId job;
    Parts parts;
    Parts seat;
    std::int64_t charge = 0;
    JobAccount account{};
};
BOOST_DESCRIBE_STRUCT(Seated, (), (attempt, job, parts, seat, charge, account))

/// A replica holds the GPUs of its seat again and is told to wake.
struct Woken {
    AttemptId attempt;
    JobId job;
    Parts parts;
    Instant reply_by{};
    std::int64_t charge = 0;
    JobAccount account{};
};
BOOST_DESCRIBE_STRUCT(Woken, (), (attempt, job, parts, reply_by, charge, account))

/// The replicas of this service do not know how to sleep: it has no standby.
struct SleepRefused {
    JobId service;
};
BOOST_DESCRIBE_STRUCT(SleepRefused, (), (service))

/// A replica computes on GPUs that `lender` let go of for it.
struct Lent {
    JobId lender;
    JobId borrower;
    AttemptId attempt;  // of the borrower
    std::int32_t gpus = 0;
};
BOOST_DESCRIBE_STRUCT(Lent, (), (lender, borrower, attempt, gpus))

/// And has let go of them.
struct Returned {
    JobId lender;
    JobId borrower;
    AttemptId attempt;
    std::int32_t gpus = 0;
};
BOOST_DESCRIBE_STRUCT(Returned, (), (lender, borrower, attempt, gpus))

/// One more replica is to serve at `at` if somebody waits too long until then, though all serve that the numbers ask
/// for; the zero instant: nobody does.
struct HelpPlanned {
    JobId service;
    Instant at{};
};
BOOST_DESCRIBE_STRUCT(HelpPlanned, (), (service, at))

/// The pass had more to try than it may: besides its first, the next one tries the shape of this job and those after
/// it. So many shapes have not been tried since something last changed. None and 0: it came to its end.
struct PassCutOff {
    JobId job;
    std::uint64_t left = 0;
};
BOOST_DESCRIBE_STRUCT(PassCutOff, (), (job, left))

/// A replica does not do what it must: the warning that follows ends it, and `detail` says why.
struct Failing {
    AttemptId attempt;
    JobId job;
    std::string detail;
};
BOOST_DESCRIBE_STRUCT(Failing, (), (attempt, job, detail))

/// The first of an answer has come from a replica since it became ready.
struct Answered {
    AttemptId attempt;
    JobId job;
};
BOOST_DESCRIBE_STRUCT(Answered, (), (attempt, job))

/// A job, or an array as a whole, asks for something else from now on: `job` is its first element. Those of its
/// elements that run keep what they have, and their time limit moves.
struct Edited {
    JobId job;
    JobSpec spec;
};
BOOST_DESCRIBE_STRUCT(Edited, (), (job, spec))

using Fact =
    std::variant<Configured, TenantSet, NodeJoined, NodeChanged, Submitted, HoldChanged, BackoffOver, BlockedBecause,
                 Reserved, ReservationDropped, Claimed, ClaimDropped, Started, Running, Warned, PartEnded, Resized,
                 SizeWanted, Progressed, Requeued, Ended, Dropped, Retired, TookOffice, Settled, GrowthPlanned,
                 ForeignNoted, DemandNoted, Scaled, ShrinkPlanned, Wished, Ready, SleepBegun, Seated, Woken,
                 SleepRefused, Lent, Returned, HelpPlanned, PassCutOff, Failing, Answered, Edited>;

/// The word of a fact's type in `events` and in docs/events.md, in the order of Fact.
constexpr std::array<std::string_view, std::variant_size_v<Fact>> fact_names{
    "configured",     "tenant_set",    "node_joined", "node_changed", "submitted",
    "hold_changed",   "backoff_over",  "blocked",     "reserved",     "reservation_dropped",
    "claimed",        "claim_dropped", "started",     "running",      "warned",
    "part_ended",     "resized",       "size_wanted", "progressed",   "requeued",
    "ended",          "dropped",       "retired",     "took_office",  "settled",
    "growth_planned", "foreign_noted", "demand",      "scaled",       "shrink_planned",
    "wished",         "ready",         "sleep_begun", "seated",       "woken",
    "sleep_refused",  "lent",          "returned",    "help_planned", "pass_cut_off",
    "failing",        "answered",      "edited"};

}  // namespace stargate
