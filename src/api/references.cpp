#include "api/references.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "api/job_rows.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t most_looked_at = 20'000;  // of the history, for a name: some 50 ms

/// A number as we write it ourselves, so that a job has one name: `0`, `12`, but neither `012` nor `-0`.
template <class Number>
bool read_whole(std::string_view text, Number& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool begins_well = text == "0" || (!text.empty() && text[0] >= '1' && text[0] <= '9');
    return begins_well && error == std::errc{} && end == text.data() + text.size();
}

bool is_finished(const State& state, JobId job) {
    const auto* row = state.find<Job>(job);
    return row == nullptr || std::holds_alternative<Finished>(row->phase);
}

/// `NAME[i]` taken apart; task -1: all elements.
struct Parts {
    std::string name;
    std::int32_t task = -1;
    bool fits = true;
};
Parts taken_apart(std::string_view reference) {
    Parts parts;
    const auto bracket = reference.find('[');
    parts.name = reference.substr(0, bracket);
    if (bracket == std::string_view::npos) return parts;
    parts.fits = reference.back() == ']' &&
                 read_whole(reference.substr(bracket + 1, reference.size() - bracket - 2), parts.task);
    return parts;
}

/// The elements that are meant of one array, and whether one of them has not ended.
struct Elements {
    std::vector<JobId> jobs;
    bool unfinished = false;
};
Elements elements_of(const State& state, const Spec& spec, std::int32_t task) {
    Elements found;
    for (std::int32_t i = std::max(task, 0); i < (task < 0 ? spec.count : std::min(task + 1, spec.count)); ++i) {
        const JobId element{spec.first.value + static_cast<std::uint64_t>(i)};
        if (state.find<Job>(element) == nullptr) continue;
        found.jobs.push_back(element);
        found.unfinished = found.unfinished || !is_finished(state, element);
    }
    return found;
}

}  // namespace

Named jobs_of(const Sight& sight, std::string_view reference) {
    const auto& state = sight.state();
    if (std::uint64_t id = 0; read_whole(reference, id)) {
        const auto* job = state.find<Job>(JobId{id});
        if (job == nullptr || !sight.may_see(state.spec_of(*job))) return {};
        return {{JobId{id}}, {}};
    }
    if (std::uint64_t first = 0;
        reference.ends_with("[]") && read_whole(reference.substr(0, reference.size() - 2), first)) {
        const auto* spec = state.find<Spec>(JobId{first});
        if (spec == nullptr || !sight.may_see(spec->spec)) return {};
        return {elements_of(state, *spec, -1).jobs, {}};
    }
    const auto parts = taken_apart(reference);
    if (!parts.fits) return {};
    // The best array of each owner: the newest unfinished, else the newest.
    std::map<std::uint32_t, Elements> of_owner;
    const auto& named = state.named(parts.name);
    for (auto first = named.rbegin(); first != named.rend(); ++first) {
        const auto& spec = state.at<Spec>(*first);
        if (!sight.may_see(spec.spec)) continue;
        auto& best = of_owner[spec.spec.owner];
        if (best.unfinished) continue;
        auto elements = elements_of(state, spec, parts.task);
        if (elements.unfinished || best.jobs.empty()) best = std::move(elements);
    }
    std::erase_if(of_owner, [](const auto& entry) { return entry.second.jobs.empty(); });
    if (const auto own = of_owner.find(sight.caller().uid); own != of_owner.end()) return {own->second.jobs, {}};
    const auto unfinished = [](const auto& entry) { return entry.second.unfinished; };
    if (std::any_of(of_owner.begin(), of_owner.end(), unfinished)) std::erase_if(of_owner, std::not_fn(unfinished));
    if (of_owner.size() == 1) return {of_owner.begin()->second.jobs, {}};
    Named several;
    for (const auto& [owner, elements] : of_owner) several.rivals.push_back(elements.jobs.front());
    return several;
}

std::optional<JobId> one_of(const State& state, const std::vector<JobId>& jobs) {
    if (jobs.empty()) return std::nullopt;
    const auto unfinished =
        std::find_if(jobs.rbegin(), jobs.rend(), [&](JobId job) { return !is_finished(state, job); });
    return unfinished == jobs.rend() ? jobs.back() : *unfinished;
}

bool is_named(const RetiredJob& job, std::string_view reference) {
    const auto parts = taken_apart(reference);
    return parts.fits && job.spec.name == parts.name && (parts.task < 0 || parts.task == job.job.task);
}

Result<std::optional<RetiredJob>> retired_of(const Control& control, const Caller& caller, std::string_view reference) {
    std::optional<RetiredJob> found;
    const auto may_see = [&](const JobSpec& spec) {
        bool may = false;
        control.read([&](const State& state, Instant, std::uint64_t) { may = Sight{caller, state}.may_see(spec); });
        return may;
    };
    if (std::uint64_t id = 0; read_whole(reference, id)) {
        auto retired = control.find_retired(JobId{id});
        if (retired && *retired && !may_see((*retired)->spec)) return found;
        return retired;
    }
    const auto read = control.read_retired(most_looked_at, [&](const RetiredJob& job) {
        if (!is_named(job, reference)) return true;
        const bool is_own = job.spec.owner == caller.uid;
        if (is_own || (!found && may_see(job.spec))) found = job;
        return !is_own;
    });
    if (!read) return tl::unexpected<Error>(read.error());
    return found;
}

}  // namespace stargate::api
