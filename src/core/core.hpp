#pragma once

#include <vector>

#include "core/evolve.hpp"
#include "core/fact.hpp"
#include "core/input.hpp"
#include "core/state.hpp"

namespace stargate {

/// A job that leaves State, as it was: its row for the history table.
struct RetiredJob {
    Job job;
    JobSpec spec;
    Instant submitted{};
    std::int32_t count = 0;  // elements of its array; 0 in rows of before this was kept
};
BOOST_DESCRIBE_STRUCT(RetiredJob, (), (job, spec, submitted, count))

/// State and what the current batch has done to it. One thread owns it. Deciding changes State only through apply, at
/// once, so that a later decision in the batch sees it; commit() forgets how to go back, undo_to() goes back.
class Core {
public:
    /// How far the batch had come: for a probe, or to go back.
    struct Mark {
        std::size_t edits = 0, facts = 0, retired = 0;
    };

    Core() = default;
    explicit Core(State state) : state_{std::move(state)} {}
    Core(Core&&) = default;
    Core& operator=(Core&&) = default;

    void apply(Instant at, const Fact& fact) {
        if (const auto* retiring = std::get_if<Retired>(&fact)) note_retired(retiring->job);
        state_.attach(&undo_);
        evolve(state_, at, fact);
        state_.attach(nullptr);
        batch_.push_back(fact);
    }
    [[nodiscard]] const State& state() const { return state_; }
    [[nodiscard]] const std::vector<Fact>& batch() const { return batch_; }
    [[nodiscard]] const std::vector<RetiredJob>& retired() const { return retired_; }

    /// Cost of undo_to: what was done since, again.
    [[nodiscard]] Mark mark() const { return {undo_.size(), batch_.size(), retired_.size()}; }
    void undo_to(Mark mark) {
        while (undo_.size() > mark.edits) {
            state_.take_back(std::move(undo_.back()));
            undo_.pop_back();
        }
        batch_.erase(batch_.begin() + static_cast<std::ptrdiff_t>(mark.facts), batch_.end());
        retired_.erase(retired_.begin() + static_cast<std::ptrdiff_t>(mark.retired), retired_.end());
    }
    /// The batch is in the store: it cannot be undone any more.
    void commit() {
        forget(undo_);
        forget(batch_);
        forget(retired_);
    }

private:
    /// The room of a usual batch is kept, that of a large one given back.
    template <class Rows>
    static void forget(Rows& rows) {
        constexpr std::size_t usual = 10'000;
        if (rows.capacity() > usual) rows = {};
        rows.clear();
    }
    void note_retired(JobId id) {
        const auto& job = state_.at<Job>(id);
        const auto& spec = state_.at<Spec>(job.spec);
        retired_.push_back({job, spec.spec, spec.submitted, spec.count});
        retired_.back().spec.after.clear();  // what it came after is over
        retired_.back().spec.comes_after.clear();
    }

    State state_;
    State::UndoLog undo_;
    std::vector<Fact> batch_;
    std::vector<RetiredJob> retired_;
};

}  // namespace stargate
