#include "api/follow.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/dynamic_bitset.hpp>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "api/frame.hpp"
#include "api/job_rows.hpp"
#include "api/query.hpp"
#include "base/json_text.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t piece_bytes = 128U << 10;      // of output in one pull: a slow client holds no more than this
constexpr std::size_t looks_per_pull = 4'096;        // elements of an array looked at under the view's lock at once
constexpr std::size_t history_reads_per_pull = 100;  // of elements that left State, one by one

/// How one element stood when it was last looked at.
struct Seen {
    AttemptId attempt;
    bool is_active = false;
    bool is_finished = false;
    bool is_gone = false;  // no longer in State: its end is in the history
    JobState state = JobState::waiting;
    std::int32_t exit_status = 0;
    std::string detail;
};

std::optional<Heard> read_one(std::string_view text, std::size_t count) {
    const auto take = [&](char mark) {  // what stands before it, or all there is
        const auto end = std::min(text.find(mark), text.size());
        const auto word = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        return word;
    };
    auto tasks = take(':');
    const auto dash = tasks.find('-');
    const auto first = whole_number(tasks.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : whole_number(tasks.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= count) return std::nullopt;
    Heard heard{.first = *first, .last = *last};
    if (text == "done") {
        heard.done = true;
        return heard;
    }
    const auto attempt = whole_number(take(':'));
    const auto offset = whole_number(text);
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    if (dash != std::string_view::npos || !attempt || !offset || *offset > most) return std::nullopt;
    heard.attempt = AttemptId{*attempt};
    heard.offset = static_cast<std::int64_t>(*offset);
    return heard;
}

class JobStream final : public Stream {
public:
    JobStream(const Control& control, JobId first, std::int32_t count, const FollowOptions& options)
        : control_{control}, options_{options}, first_{first}, open_(static_cast<std::size_t>(count)) {
        open_.set();
        for (const auto& heard : std::exchange(options_.heard, {})) go_on_from(heard);
        std::erase_if(begun_, [&](const auto& each) { return !open_.test(each.first); });
    }

    Pulled pull(std::string& out) override {
        const auto before = out.size();
        if (!greeted_ && !options_.accepted.empty()) frame(out, Frame::Kind::accepted, 0, options_.accepted);
        greeted_ = true;
        bool cut_off = false;
        std::size_t history_reads = 0;
        for (auto& look : looks()) {
            if (out.size() - before >= piece_bytes) {
                cut_off = true;
                next_look_ = look.task;
                break;
            }
            if (look.seen.is_gone) {
                if (history_reads++ == history_reads_per_pull) {
                    cut_off = true;
                    next_look_ = look.task;
                    break;
                }
                look.seen = seen_in_history(job_of(look.task));
            }
            cut_off = serve(look, out) || cut_off;
            if (broken_) return Pulled::broken;
        }
        const bool sent = out.size() != before;
        const auto shortest = options_.is_typed_at ? shortest_at_terminal_ms : shortest_poll_ms;
        const auto longest = options_.is_typed_at ? longest_at_terminal_ms : longest_poll_ms;
        if (sent) looks_since_ = 0;
        // At a terminal somebody goes on typing for a while.
        const bool is_lively = options_.is_typed_at && looks_since_++ < lively_looks;
        idle_ms_ = sent || is_lively ? shortest : std::min<std::int64_t>(idle_ms_ * 2, longest);
        if (open_.none()) return Pulled::ended;
        if (cut_off) return Pulled::more;
        return options_.until_end ? Pulled::nothing_yet : Pulled::ended;
    }
    [[nodiscard]] std::size_t keeps() const override {
        constexpr std::size_t node_of_map = 48;  // about what one takes beside its value
        return open_.num_blocks() * sizeof(std::uint64_t) +
               begun_.size() * (sizeof(std::pair<std::uint32_t, Place>) + node_of_map);
    }
    [[nodiscard]] std::optional<std::chrono::milliseconds> poll_after() const override {
        if (!any_active_ && open_.count() <= looks_per_pull) return std::nullopt;
        return std::chrono::milliseconds{idle_ms_};
    }
    [[nodiscard]] std::string heartbeat() const override {
        std::string beat;
        if (options_.framing == Framing::frames) Frame{}.append_to(beat);
        return beat;
    }
    [[nodiscard]] std::string_view type() const override {
        return options_.framing == Framing::frames ? "application/x-stargate-frames" : "text/plain; charset=utf-8";
    }

private:
    // Output is a file that grows without a word to us: looked at often while it does, less often while it does not.
    static constexpr std::int64_t shortest_poll_ms = 5;
    static constexpr std::int64_t longest_poll_ms = 100;
    static constexpr std::int64_t shortest_at_terminal_ms = 1;
    static constexpr std::int64_t longest_at_terminal_ms = 20;
    static constexpr int lively_looks = 2'000;

    /// How far an element has been read that has begun.
    struct Place {
        AttemptId attempt{};
        std::int64_t offset = 0;
        bool is_active = false;  // at the last look
    };
    struct Look {
        std::uint32_t task = 0;
        Seen seen{};
    };

    [[nodiscard]] JobId job_of(std::size_t task) const { return JobId{first_.value + task}; }

    void go_on_from(const Heard& heard) {
        if (heard.done) {
            for (auto task = heard.first; task <= heard.last; ++task) open_.reset(task);
        } else {
            begun_[static_cast<std::uint32_t>(heard.first)] = {heard.attempt, heard.offset, false};
        }
    }

    /// Looks at all elements that were active at the last look, and at a window of the others; returns those that there
    /// may be something to say of, in order.
    std::vector<Look> looks() {
        std::vector<Look> all;
        control_.read([&](const State& state, Instant, std::uint64_t) {
            for (const auto& [task, place] : begun_) {
                if (place.is_active) all.push_back({task, seen(state, job_of(task))});
            }
            auto task = next_look_ == 0 ? open_.find_first() : open_.find_next(next_look_ - 1);
            for (auto left = std::min(looks_per_pull, open_.count()); left > 0; --left) {
                if (task == open_.npos) task = open_.find_first();
                look_at(state, static_cast<std::uint32_t>(task), all);
                task = open_.find_next(task);
            }
            next_look_ = task == open_.npos ? 0 : task;
        });
        std::sort(all.begin(), all.end(), [](const Look& a, const Look& b) { return a.task < b.task; });
        any_active_ = std::any_of(all.begin(), all.end(), [](const Look& look) { return look.seen.is_active; });
        return all;
    }
    void look_at(const State& state, std::uint32_t task, std::vector<Look>& all) const {
        const auto* job = state.find<Job>(job_of(task));
        const bool has_begun = job == nullptr || job->last_attempt || !std::holds_alternative<Waiting>(job->phase);
        if (!has_begun && !begun_.contains(task)) return;
        if (const auto known = begun_.find(task); known != begun_.end() && known->second.is_active) return;
        all.push_back({task, seen(state, job_of(task))});
    }
    static Seen seen(const State& state, JobId id) {
        Seen seen;
        const auto* job = state.find<Job>(id);
        if (job == nullptr) {
            seen.is_gone = true;
            return seen;
        }
        seen.attempt = job->last_attempt;
        seen.is_active = std::holds_alternative<Active>(job->phase);
        if (std::holds_alternative<Finished>(job->phase)) finish(seen, *job);
        if (seen.is_finished) seen.state = state_of(state, *job);
        return seen;
    }
    static void finish(Seen& seen, const Job& job) {
        const auto& finished = std::get<Finished>(job.phase);
        seen.is_finished = true;
        seen.attempt = job.last_attempt;
        seen.exit_status = finished.exit_status;
        seen.detail = finished.detail;
        seen.state = finished.outcome == Outcome::succeeded ? JobState::succeeded
                     : finished.outcome == Outcome::failed  ? JobState::failed
                                                            : JobState::cancelled;
    }
    Seen seen_in_history(JobId id) const {
        Seen seen;
        const auto retired = control_.find_retired(id);
        if (retired && *retired && std::holds_alternative<Finished>((*retired)->job.phase)) {
            finish(seen, (*retired)->job);
        } else {
            seen.is_finished = true;
            seen.state = JobState::failed;
            seen.exit_status = 1;
            seen.detail = "its end is no longer in the history";
        }
        return seen;
    }

    /// True when there was more than one piece's worth.
    bool serve(const Look& look, std::string& out) {
        auto& place = begun_[look.task];
        place.is_active = look.seen.is_active;
        const auto newest = options_.attempt ? options_.attempt : look.seen.attempt;
        while (true) {
            if (place.attempt && drain(look.task, place, out)) return true;
            if (broken_) return false;
            if (place.attempt == newest || !newest) break;
            place.attempt = newest;
            place.offset = 0;
            frame(out, Frame::Kind::attempt, look.task, fmt::format(R"({{"attempt":{}}})", newest.value));
        }
        if (!look.seen.is_finished) return false;
        std::string end = R"({"state":)";
        json_text(end, look.seen.state);
        end += fmt::format(R"(,"exit_status":{},"detail":)", look.seen.exit_status);
        json_string(end, look.seen.detail);
        end += "}";
        frame(out, Frame::Kind::finished, look.task, end);
        open_.reset(look.task);
        begun_.erase(look.task);
        return false;
    }
    /// Sends what the attempt has written since; true when it was cut off at a piece's worth.
    bool drain(std::uint32_t task, Place& place, std::string& out) {
        std::size_t sent = 0;
        while (true) {
            const auto pieces = control_.read_output(job_of(task), place.attempt, place.offset, piece_bytes);
            // Output that was thrown away is none; what cannot be read must not look like the end of it.
            broken_ = !pieces && pieces.error().fault != Fault::not_found;
            if (!pieces || pieces->empty()) return false;
            for (const auto& piece : *pieces) {
                place.offset = piece.next_offset;
                sent += piece.bytes.size();
                if (options_.framing == Framing::plain) {
                    out += piece.bytes;
                } else {
                    Frame{piece.is_errors ? Frame::Kind::errors : Frame::Kind::output, task,
                          static_cast<std::uint32_t>(piece.rank), static_cast<std::uint64_t>(piece.next_offset),
                          piece.bytes}
                        .append_to(out);
                }
            }
            if (sent >= piece_bytes) return true;
        }
    }
    void frame(std::string& out, Frame::Kind kind, std::uint32_t task, std::string_view bytes) const {
        if (options_.framing == Framing::frames) Frame{kind, task, 0, 0, bytes}.append_to(out);
    }

    const Control& control_;
    FollowOptions options_;
    JobId first_;
    boost::dynamic_bitset<std::uint64_t> open_;  // elements whose end was not told, by task
    std::map<std::uint32_t, Place> begun_;       // of these those that have had an attempt
    std::size_t next_look_ = 0;
    bool greeted_ = false;
    bool any_active_ = false;
    bool broken_ = false;
    std::int64_t idle_ms_ = shortest_poll_ms;
    int looks_since_ = 0;  // output was found
};

template <class Value>
void append_value(std::string& out, const Value& value) {
    json_text(out, value);
}
/// Zero is the instant of what does not apply.
void append_value(std::string& out, const Instant& at) { json_text(out, at == Instant{} ? never : at); }

/// A fact's own members after those that every fact has.
template <class Members>
void append_members(std::string& out, const Members& members) {
    boost::mp11::mp_for_each<codec::members_of<Members>>([&](auto member) {
        out.push_back(',');
        json_string(out, event_word(member.name));
        out.push_back(':');
        append_value(out, members.*member.pointer);
    });
}

class FactStream final : public Stream {
public:
    FactStream(const Control& control, const Caller& caller, std::uint64_t from, EventFormat format,
               std::optional<std::size_t> most)
        : control_{control}, reader_{control, caller, from}, from_{from}, format_{format}, left_{most} {}

    Pulled pull(std::string& out) override {
        if (std::exchange(is_first_, false)) begin(out);
        const auto pulled = pull_some(out);
        if (format_ == EventFormat::list && pulled == Pulled::ended) out += "]\n";
        return pulled;
    }
    [[nodiscard]] std::string heartbeat() const override {
        return format_ == EventFormat::server_sent ? ":\n\n" : " ";  // white space before the next object is still JSON
    }
    [[nodiscard]] std::string_view type() const override {
        switch (format_) {
            case EventFormat::lines:
                return "application/jsonl";
            case EventFormat::list:
                return "application/json";
            case EventFormat::server_sent:
                break;
        }
        return "text/event-stream";
    }

private:
    Pulled pull_some(std::string& out) {
        constexpr std::size_t at_once = 500;
        const auto wanted = std::min(at_once, left_.value_or(at_once));
        facts_.clear();
        const auto read = reader_.read(wanted, facts_);
        if (!read) return Pulled::broken;
        for (const auto& fact : facts_) append(out, fact);
        looked_at_ += *read;
        if (left_) *left_ -= facts_.size();
        if (*read < wanted) return left_ ? Pulled::ended : Pulled::nothing_yet;
        constexpr std::size_t most_looked_at = 100'000;  // for a list
        const bool is_enough = format_ == EventFormat::list && looked_at_ >= most_looked_at;
        return is_enough || (left_ && *left_ == 0) ? Pulled::ended : Pulled::more;
    }
    void append(std::string& out, const LoggedFact& fact) {
        if (format_ == EventFormat::list && std::exchange(has_one_, true)) out.push_back(',');
        if (format_ == EventFormat::server_sent) {
            out += fmt::format("id: {}\nevent: {}\ndata: ", fact.seq, fact_names[fact.fact.index()]);
        }
        append_fact(out, fact);
        if (format_ == EventFormat::lines) out += "\n";
        if (format_ == EventFormat::server_sent) out += "\n\n";
    }
    /// JSON has no room for remarks on what is gone: whoever reads that asks `info` for first_fact.
    void begin(std::string& out) const {
        if (format_ == EventFormat::list) out += "[";
        if (format_ != EventFormat::server_sent) return;
        const auto first = control_.figures().first_fact;
        if (from_ < first) out += fmt::format(": facts {} to {} are no longer in the log\n\n", from_, first - 1);
    }

    const Control& control_;
    FactReader reader_;
    std::uint64_t from_;
    bool is_first_ = true;
    std::vector<LoggedFact> facts_;
    EventFormat format_;
    std::optional<std::size_t> left_;  // to be given yet; nothing: for ever
    std::size_t looked_at_ = 0;
    bool has_one_ = false;
};

}  // namespace

Result<std::vector<Heard>> read_heard(std::string_view text, std::int32_t count) {
    std::vector<Heard> all;
    while (!text.empty()) {
        const auto end = std::min(text.find(','), text.size());
        const auto one = read_one(text.substr(0, end), static_cast<std::size_t>(count));
        if (!one) {
            return fail(Fault::malformed,
                        fmt::format("resume: {:.40} is no place in {} tasks; write TASK:ATTEMPT:OFFSET, TASK:done or "
                                    "FIRST-LAST:done, commas between, tasks from 0",
                                    text.substr(0, end), count));
        }
        all.push_back(*one);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return all;
}

std::unique_ptr<Stream> follow_jobs(const Control& control, JobId first, std::int32_t count,
                                    const FollowOptions& options) {
    return std::make_unique<JobStream>(control, first, count, options);
}

std::unique_ptr<Stream> follow_facts(const Control& control, const Caller& caller, std::uint64_t from,
                                     EventFormat format, std::optional<std::size_t> most) {
    return std::make_unique<FactStream>(control, caller, from, format, most);
}

std::string_view event_word(std::string_view member) {
    if (member == "at") return "planned_at";
    if (member == "cause") return "ending_cause";
    return member;
}

Result<std::size_t> FactReader::read(std::size_t most, std::vector<LoggedFact>& out) {
    const auto kept = out.size();
    sight_.look_again();
    const auto read = control_.read_facts(next_, most, [&](const LoggedFact& fact) { out.push_back(fact); });
    if (!read) return tl::unexpected<Error>(read.error());
    const auto looked_at = out.size() - kept;
    if (looked_at > 0) next_ = out.back().seq + 1;
    // Only now, since whose a fact is may ask the store, which is being read above.
    auto shown = kept;
    for (auto i = kept; i < out.size(); ++i) {
        if (!sight_.may_see(out[i].fact)) continue;
        if (shown != i) out[shown] = std::move(out[i]);
        ++shown;
    }
    out.resize(shown);
    return looked_at;
}

void append_fact(std::string& out, const LoggedFact& fact) {
    out += fmt::format(R"({{"seq":{},"at":{},"type":"{}","cause":"{}","cause_seq":{})", fact.seq,
                       fact.at.time_since_epoch().count(), fact_names[fact.fact.index()],
                       fact.cause < input_names.size() ? input_names[fact.cause] : "?", fact.cause_seq);
    std::visit([&](const auto& members) { append_members(out, members); }, fact.fact);
    out += "}";
}

}  // namespace stargate::api
