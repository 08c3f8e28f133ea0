#pragma once

#include <optional>
#include <vector>

#include "core/policy/place.hpp"
#include "core/policy/reclaim.hpp"

namespace stargate {

/// What one attempt could give for a need: nothing, what it holds above its minimum, or all because it may be
/// preempted.
enum class Gives : std::uint8_t { nothing, surplus, everything };

/// Only attempts give that nobody has warned, whose lease is settled, and all of whose nodes answer: others would be
/// warned for nothing, because a lease is freed as a whole.
Gives gives(const State& state, Instant now, const Need& need, const Attempt& attempt);

/// Whether the attempt has been warned and can be expected to be gone in time.
bool is_leaving(const State& state, Instant now, const Attempt& attempt);

/// What a clearing costs others; less is better, the first member most.
struct ClearingCost {
    std::size_t preempted = 0;          // attempts
    std::int64_t lost_gpu_seconds = 0;  // by those, since they started: an upper bound of what a checkpoint saves
    std::int32_t shrunk = 0;            // GPUs
    friend auto operator<=>(const ClearingCost&, const ClearingCost&) = default;
};

/// One way to make room on some nodes. Takes what is free or about to be let go of, then what elastic attempts can do
/// without, then whole attempts of lower classes, and at last lets go of every victim that turned out not to be needed.
class Clearing {
public:
    Clearing(const State& state, Instant now, const Need& need);

    /// Whether the need can be met on these nodes, which are in order of id and each named once.
    [[nodiscard]] bool make(const std::vector<NodeId>& nodes);
    /// Whether these attempts can return what the quota lacks for a job that has its place, `parts`, already.
    [[nodiscard]] bool make_quota(Parts parts, const std::vector<AttemptId>& from);

    [[nodiscard]] ClearingCost cost() const;
    [[nodiscard]] std::size_t victims() const { return givers_.size(); }
    [[nodiscard]] Reclaim result() &&;

private:
    /// A node looked at, with what is there for the job.
    struct Site {
        const Node* node;
        GpuMask free;   // now
        GpuMask given;  // by victims, or about to be let go of
        MilliCpus cpus;
        Bytes memory;
    };
    struct Candidate {
        const Attempt* attempt;
        const JobSpec* spec;
        Gives gives;
        std::int64_t lost_gpu_seconds;
    };
    /// A victim; `keep` has a part for each of the attempt's, without GPUs where none stay. `preempted`: keeps nothing.
    struct Giver {
        Giver(const Candidate& candidate, const Parts& parts) : who{&candidate}, keep{parts.begin(), parts.end()} {}
        const Candidate* who;
        std::vector<Part> keep;
        bool preempted = false;
    };

    void look_at(const std::vector<NodeId>& nodes);
    void count_leaving(const Site& site);
    void consider(const Attempt& attempt);
    void sort_candidates();
    [[nodiscard]] bool find_givers();
    void shrink_some();
    void preempt_some();
    [[nodiscard]] bool take_one(Giver& giver);
    void drop_useless();
    void take_more();
    void choose_parts();

    [[nodiscard]] Site* site_of(NodeId node);
    [[nodiscard]] std::int32_t room_at(const Site& site) const;
    void give(const Part& part, int sign);
    void give_all(const Giver& giver, int sign);
    [[nodiscard]] Part given_by(const Giver& giver, std::size_t part) const;
    [[nodiscard]] bool is_enough() const { return room_ >= room_needed_ && returned_ >= need_.quota; }

    const State& state_;
    Instant now_;
    const Need& need_;
    const JobSpec& spec_;
    std::vector<Site> sites_;
    std::vector<Candidate> candidates_;
    std::vector<Giver> givers_;
    std::int32_t room_ = 0;  // of all sites: GPUs, or one where the job needs none
    std::int32_t room_needed_;
    std::int64_t returned_ = 0;                                        // thousandths of GPUs, to the quota
    std::vector<std::pair<SharedKey, std::int32_t>> returned_shares_;  // thousandths by GPU
    Reclaim reclaim_;
};

}  // namespace stargate
