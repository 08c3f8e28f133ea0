#include "twin/replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json_text.hpp"
#include "core/decide.hpp"
#include "core/log.hpp"

namespace stargate::twin {

namespace {
/// Inputs read at a time: a reader must not be asked while it reads.
constexpr std::size_t inputs_at_a_time = 4096;

struct LoggedInputRow {
    std::uint64_t seq = 0;
    Instant at{};
    Input input;
};
struct LoggedFactRow {
    std::uint64_t seq = 0;
    std::uint64_t input_seq = 0;
    std::string body;
};

std::string json_of(std::string_view body) {
    const auto entry = decode_entry(body);
    if (!entry) return "\"unreadable\"";
    std::string out = fmt::format("{{\"type\":\"{}\",\"at\":", fact_names[entry->fact.index()]);
    json_text(out, entry->at);
    std::visit([&](const auto& fact) { json_members(out, fact, false); }, entry->fact);
    out += '}';
    return out;
}

class Replay {
public:
    Replay(store::Reader& store, Folded from, const ReplayOptions& options)
        : store_{store},
          options_{options},
          core_{std::move(from.state)},
          fact_{from.last_fact},
          input_{from.last_input} {
        report_.from_fact = fact_ + 1;
    }

    Result<ReplayReport> run() {
        // Read first: what a live control plane writes meanwhile is compared too, but not missed.
        const auto extent = store_.extent();
        if (!extent) return tl::unexpected(extent.error());
        while (!report_.difference && report_.compared < options_.most_facts) {
            auto inputs = read_inputs();
            if (!inputs) return tl::unexpected(inputs.error());
            if (inputs->empty()) break;
            auto facts = read_facts(inputs->back().seq);
            if (!facts) return tl::unexpected(facts.error());
            std::size_t next = 0;
            for (auto& row : *inputs) {
                decide_again(row, *facts, next);
                if (report_.difference) break;
            }
            input_ = inputs->back().seq;
        }
        if (!report_.difference && report_.compared < options_.most_facts && fact_ + 1 < extent->end_fact) {
            if (const auto left = note_fact_without_input(); !left) return tl::unexpected(left.error());
        }
        return report_;
    }

private:
    Result<std::vector<LoggedInputRow>> read_inputs() {
        std::vector<LoggedInputRow> rows;
        std::optional<Error> damage;
        const auto read = store_.read_inputs(input_ + 1, [&](const store::InputRow& row) {
            auto input = decoded<Input>(row.body);
            if (!input || row.seq != input_ + 1 + rows.size()) {
                damage = Error{Fault::malformed,
                               fmt::format("input {} cannot be read, or one before it is missing", row.seq)};
                return false;
            }
            rows.push_back({row.seq, row.at, std::move(*input)});
            return rows.size() < inputs_at_a_time;
        });
        if (!read) return tl::unexpected(read.error());
        if (damage) return tl::unexpected(*damage);
        return rows;
    }

    Result<std::vector<LoggedFactRow>> read_facts(std::uint64_t last_input) {
        std::vector<LoggedFactRow> rows;
        bool gap = false;
        const auto read = store_.read_facts(fact_ + 1, [&](const store::FactRow& row) {
            if (row.input_seq > last_input) return false;
            gap = gap || row.seq != fact_ + 1 + rows.size();
            rows.push_back({row.seq, row.input_seq, std::string{row.body}});
            return true;
        });
        if (!read) return tl::unexpected(read.error());
        if (gap) return fail(Fault::malformed, fmt::format("facts are missing after {}", fact_));
        return rows;
    }

    void decide_again(LoggedInputRow& row, const std::vector<LoggedFactRow>& facts, std::size_t& next) {
        bool other_policy = false;
        if (auto* office = std::get_if<TakeOffice>(&row.input); office != nullptr && options_.settings) {
            office->settings = *options_.settings;
            other_policy = true;
        }
        const auto begun = next;
        bool is_older = false;
        (void)decide(core_, row.at, row.input);
        ++report_.inputs;
        for (const auto& fact : core_.batch()) {
            if (other_policy && std::holds_alternative<Configured>(fact)) {  // it is meant to differ
                if (next < facts.size() && facts[next].input_seq == row.seq) skip_configured(facts, next);
                continue;
            }
            const auto body = encode_entry(row.at, type_of(row.input), fact);
            const bool there = next < facts.size() && facts[next].input_seq == row.seq;
            if (!there || !says_the_same(facts[next].body, body, is_older)) {
                report_.difference = Difference{fact_ + 1, there ? json_of(facts[next].body) : "", json_of(body)};
                return;
            }
            ++next;
            ++fact_;
            ++report_.compared;
        }
        if (next < facts.size() && facts[next].input_seq == row.seq) {
            report_.difference = Difference{facts[next].seq, json_of(facts[next].body), ""};
        }
        if (is_older && !other_policy) take_as_logged(row.at, facts, begun, next);
        core_.commit();
    }

    /// What an older version did not note its State did not have, nor has ours when it goes on from there.
    void take_as_logged(Instant at, const std::vector<LoggedFactRow>& facts, std::size_t from, std::size_t to) {
        core_.undo_to({});
        for (; from < to; ++from) {
            if (const auto entry = decode_entry(facts[from].body)) core_.apply(at, entry->fact);
        }
    }

    /// The log's inputs are at an end and its facts are not.
    Result<void> note_fact_without_input() {
        return store_.read_facts(fact_ + 1, [&](const store::FactRow& row) {
            report_.difference = Difference{row.seq, json_of(row.body), ""};
            return false;
        });
    }

    /// An older version wrote less of a fact: members that were appended since had no other value than their first, but
    /// for the loan that a resize is for and the account of a job, of which it said nothing. And it named what a job
    /// comes after element by element.
    [[nodiscard]] bool says_the_same(const std::string& logged, const std::string& decided, bool& is_older) const {
        if (logged == decided) return true;
        auto entry = decode_entry(logged);
        if (!entry) return false;
        if (logged.size() < encode_entry(entry->at, entry->cause, entry->fact).size()) {
            is_older = true;
            if (const auto now = decode_entry(decided); now && now->fact.index() == entry->fact.index()) {
                std::visit([&](auto& fact) { add_what_is_new(fact, now->fact); }, entry->fact);
            }
        }
        if (auto* submitted = std::get_if<Submitted>(&entry->fact)) name_arrays(submitted->spec);
        return encode_entry(entry->at, entry->cause, entry->fact) == decided;
    }

    template <class Members>
    static void add_what_is_new(Members& logged, const Fact& decided) {
        const auto& says = std::get<Members>(decided);
        if constexpr (requires { logged.account; }) logged.account = says.account;
        if constexpr (requires { logged.saved; }) logged.saved = says.saved;
        if constexpr (std::is_same_v<Members, Resized>) {
            if (!logged.borrower) std::tie(logged.lender, logged.borrower) = std::tie(says.lender, says.borrower);
        }
    }

    void name_arrays(JobSpec& spec) const {
        const auto& state = core_.state();
        for (const auto element : std::exchange(spec.after, {})) {
            const auto* job = state.find<Job>(element);
            if (job == nullptr) return;  // it names what is not there: it does not say the same
            const Elements array{job->spec, state.at<Spec>(job->spec).count};
            auto& known = spec.comes_after;
            if (std::find(known.begin(), known.end(), array) == known.end()) known.push_back(array);
        }
    }

    void skip_configured(const std::vector<LoggedFactRow>& facts, std::size_t& next) {
        const auto entry = decode_entry(facts[next].body);
        if (!entry || !std::holds_alternative<Configured>(entry->fact)) return;
        ++next;
        ++fact_;
    }

    store::Reader& store_;
    const ReplayOptions& options_;
    Core core_;
    std::uint64_t fact_;
    std::uint64_t input_;
    ReplayReport report_;
};
}  // namespace

Result<Folded> where_to_begin(store::Reader& store, const std::string& folder) {
    const auto extent = store.extent();
    if (!extent) return tl::unexpected(extent.error());
    if (extent->first_input == 1 && extent->first_fact == 1) return Folded{};
    auto snapshots = store.snapshots();
    if (!snapshots) return tl::unexpected(snapshots.error());
    // The oldest leaves most to compare; one that nobody has compared with the log itself only where there is no other.
    std::reverse(snapshots->begin(), snapshots->end());
    std::stable_partition(snapshots->begin(), snapshots->end(), [](const auto& row) { return row.verified; });
    for (const auto& row : *snapshots) {
        if (row.input_seq + 1 < extent->first_input || row.fact_seq + 1 < extent->first_fact) continue;
        if (auto found = read_snapshot(folder, row)) return std::move(*found);
    }
    return fail(Fault::not_found,
                fmt::format("the log begins with input {} and fact {}, and no snapshot leads up to them",
                            extent->first_input, extent->first_fact));
}

Result<ReplayReport> replay(store::Reader& store, Folded from, const ReplayOptions& options) {
    return Replay{store, std::move(from), options}.run();
}

std::string replay_json(const ReplayReport& report) {
    auto out = fmt::format("{{\"from_fact\":{},\"inputs\":{},\"compared\":{},\"difference\":", report.from_fact,
                           report.inputs, report.compared);
    if (report.difference) {
        const auto or_null = [](const std::string& text) { return text.empty() ? std::string{"null"} : text; };
        out += fmt::format("{{\"seq\":{},\"logged\":{},\"decided\":{}}}", report.difference->seq,
                           or_null(report.difference->logged), or_null(report.difference->decided));
    } else {
        out += "null";
    }
    out += '}';
    return out;
}

}  // namespace stargate::twin
