#include "serving/load.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <set>

#include "api/json.hpp"
#include "base/json_text.hpp"
#include "net/client.hpp"

namespace stargate::serving {

namespace {

double ms(std::int64_t us) { return static_cast<double>(us) / 1e3; }

Times times_of(std::vector<double>& all) {
    Times times;
    if (all.empty()) return times;
    std::sort(all.begin(), all.end());
    const auto at = [&](double share) {
        return all[std::min(all.size() - 1, static_cast<std::size_t>(share * static_cast<double>(all.size())))];
    };
    double sum = 0;
    for (const double each : all) sum += each;
    return {at(0.5), at(0.9), at(0.99), sum / static_cast<double>(all.size()), all.back()};
}

/// What has been seen of one tier.
struct Seen {
    LoadResult result;
    std::vector<double> ttft, tpot, whole;
    std::uint64_t good = 0;
    std::uint64_t tokens = 0;
};

/// Whether an event of a stream holds a choice, however its JSON is spaced.
bool has_choice(std::string_view event) {
    constexpr std::string_view name = "\"choices\":";
    auto at = event.find(name);
    if (at == std::string_view::npos) return false;
    at = event.find_first_not_of(' ', at + name.size());
    if (at == std::string_view::npos || event[at] != '[') return false;
    at = event.find_first_not_of(' ', at + 1);
    return at != std::string_view::npos && event[at] == '{';
}

class Load;

/// One request under way.
class Asked : public std::enable_shared_from_this<Asked> {
public:
    Asked(Load& load, Arrival arrival, std::string tier, std::int64_t due_us)
        : load_{load}, arrival_{arrival}, tier_{std::move(tier)}, due_us_{due_us} {}
    void send();
    /// It has had its time.
    void give_up() {
        std::exchange(call_, nullptr)->cancel();
        over("no end in time");
    }

private:
    void head(const net::ResponseHead& head) {
        status_ = head.status;
        has_advice_ =
            !net::field(head.fields, "retry-after").empty() || !net::field(head.fields, "retry-after-ms").empty();
    }
    /// Counts the frames that hold a token, and looks for the end and for an error.
    void body(std::string_view part) {
        rest_.append(part);
        if (status_ != 200) return;
        std::size_t from = 0;
        for (std::size_t end = 0; (end = rest_.find('\n', from)) != std::string::npos; from = end + 1) {
            const auto line = std::string_view{rest_}.substr(from, end - from);
            constexpr std::string_view data = "data: ";
            if (!line.starts_with(data)) continue;
            if (line.starts_with("data: [DONE]")) {
                is_done_ = true;
            } else if (line.starts_with("data: {\"error\"")) {
                why_ = "error in the stream";
            } else if (has_choice(line)) {
                last_us_ = net::Loop::now_us();
                if (frames_++ == 0) first_us_ = last_us_;
            }
        }
        rest_.erase(0, from);
    }
    void over(const std::string& failure);

    Load& load_;
    Arrival arrival_;
    std::string tier_;
    std::int64_t due_us_;
    std::shared_ptr<net::Call> call_;
    std::string rest_;
    std::string why_;
    int status_ = 0;
    bool has_advice_ = false;
    bool is_done_ = false;
    std::uint64_t frames_ = 0;
    std::int64_t first_us_ = 0;
    std::int64_t last_us_ = 0;
};

class Load {
public:
    Load(net::Loop& on, const LoadOptions& how, const std::vector<Arrival>& what,
         const std::function<void(const LoadResult&)>& told)
        : loop{on},
          options{how},
          client{on, {.host = how.host, .port = how.port, .most_idle = 10'000}},
          arrivals_{what},
          progress_{told} {}

    std::map<std::string, LoadResult> run() {
        begin_us_ = net::Loop::now_us();
        send_due();
        tell();
        loop.run();
        loop.restart();
        loop.cancel(patience_);
        loop.cancel(teller_);
        while (!under_way_.empty()) {
            const auto asked = *under_way_.begin();
            asked->give_up();
        }
        const double seconds = static_cast<double>(net::Loop::now_us() - begin_us_) / 1e6;
        std::map<std::string, LoadResult> results;
        for (auto& [tier, seen] : seen_) {
            seen.result.ttft_ms = times_of(seen.ttft);
            seen.result.tpot_ms = times_of(seen.tpot);
            seen.result.whole_ms = times_of(seen.whole);
            seen.result.good = static_cast<double>(seen.good) / seconds;
            seen.result.tokens = static_cast<double>(seen.tokens) / seconds;
            results[tier] = std::move(seen.result);
        }
        return results;
    }
    template <class Note>
    void note(const std::string& tier, Note what) {
        what(seen_[""]);
        if (!tier.empty()) what(seen_[tier]);
    }
    void is_over(const std::shared_ptr<Asked>& asked) {
        under_way_.erase(asked);
        if (next_ == arrivals_.size() && under_way_.empty()) loop.stop();
    }

    net::Loop& loop;
    const LoadOptions& options;
    net::Client client;

private:
    void send_due() {
        const auto now = net::Loop::now_us();
        for (; next_ < arrivals_.size() && begin_us_ + arrivals_[next_].at.count() <= now; ++next_) {
            const auto& arrival = arrivals_[next_];
            const auto& tiers = options.tiers;
            const auto tier = tiers.empty() ? std::string{} : tiers[next_ % tiers.size()];
            note(tier, [](Seen& seen) { ++seen.result.sent; });
            const auto asked = std::make_shared<Asked>(*this, arrival, tier, begin_us_ + arrival.at.count());
            under_way_.insert(asked);
            asked->send();
        }
        if (next_ < arrivals_.size()) {
            loop.after(Duration{begin_us_ + arrivals_[next_].at.count() - now}, [this] { send_due(); });
        } else {
            patience_ = loop.after(options.patience, [this] { loop.stop(); });
            if (under_way_.empty()) loop.stop();
        }
    }
    void tell() {
        if (!progress_) return;
        progress_(seen_[""].result);
        teller_ = loop.after(std::chrono::seconds{1}, [this] { tell(); });
    }

    const std::vector<Arrival>& arrivals_;
    const std::function<void(const LoadResult&)>& progress_;
    std::map<std::string, Seen> seen_;
    std::size_t next_ = 0;
    std::set<std::shared_ptr<Asked>> under_way_;
    net::Loop::Timer patience_ = 0;
    net::Loop::Timer teller_ = 0;
    std::int64_t begin_us_ = 0;
};

void Asked::send() {
    const auto& options = load_.options;
    constexpr std::int64_t bytes_per_token = 4;
    std::string body = R"({"model":)";
    json_string(body, options.model);
    body += fmt::format(R"(,"stream":true,"max_tokens":{},)", arrival_.tokens);
    if (!tier_.empty()) {
        body += R"("service_tier":)";
        json_string(body, tier_);
        body += ',';
    }
    body += R"("messages":[{"role":"user","content":")";
    body.append(static_cast<std::size_t>(std::max<std::int64_t>(arrival_.prompt_tokens * bytes_per_token, 1)), 'a');
    body += R"("}]})";
    net::Fields fields{{"Content-Type", "application/json"}};
    if (!options.key.empty()) fields.emplace_back("Authorization", "Bearer " + options.key);
    if (options.waits.count() > 0) fields.emplace_back("x-stainless-timeout", std::to_string(options.waits.count()));
    const auto self = shared_from_this();
    call_ = load_.client.start(
        net::request_bytes("POST", options.path + "/chat/completions", load_.client.host(), fields, body),
        {[self](const net::ResponseHead& head) { self->head(head); },
         [self](std::string_view part) { self->body(part); }, [self] { self->over({}); },
         [self](const net::CallFailure& failure) { self->over(failure.why); }});
}

void Asked::over(const std::string& failure) {
    const auto now = net::Loop::now_us();
    const bool is_whole = failure.empty() && status_ == 200 && is_done_ && why_.empty();
    const bool is_rejected = status_ == 429 || status_ == 503;
    auto reason = !failure.empty() ? failure
                  : !why_.empty()  ? why_
                  : is_whole       ? ""
                                   : "status " + std::to_string(status_);
    if (status_ == 200 && reason == "status 200") reason = "no end in the stream";
    load_.note(tier_, [&](Seen& seen) {
        auto& result = seen.result;
        result.frames += frames_;
        seen.tokens += frames_;
        if (!reason.empty()) ++result.reasons[reason];
        if (is_rejected) {
            ++result.rejected;
            result.rejected_with_advice += has_advice_ ? 1U : 0U;
        } else if (!is_whole) {
            ++result.failed;
        } else {
            ++result.completed;
            const auto wanted = static_cast<std::uint64_t>(arrival_.tokens);
            result.frames_lost += wanted > frames_ ? wanted - frames_ : 0;
            const bool is_good = frames_ > 0 && Duration{first_us_ - due_us_} <= load_.options.slo;
            seen.good += is_good ? 1U : 0U;
            if (frames_ > 0) seen.ttft.push_back(ms(first_us_ - due_us_));
            if (frames_ > 1) seen.tpot.push_back(ms(last_us_ - first_us_) / static_cast<double>(frames_ - 1));
            seen.whole.push_back(ms(now - due_us_));
        }
    });
    const auto self = shared_from_this();
    call_.reset();  // which holds us until its loop turns again, and that may be never
    load_.is_over(self);
}

}  // namespace

std::vector<Arrival> random_arrivals(double rate, Duration duration, std::int64_t prompt_tokens, std::int64_t tokens,
                                     std::uint64_t seed) {
    std::vector<Arrival> arrivals;
    std::mt19937_64 random{seed};
    const auto end = static_cast<double>(duration.count());
    for (double at = 0;;) {
        // By the inverse of its distribution, which is the same in every library.
        const double uniform = (static_cast<double>(random() >> 11) + 0.5) / 9007199254740992.0;
        at += -std::log(uniform) / rate * 1e6;
        if (at >= end) return arrivals;
        arrivals.push_back({Duration{static_cast<std::int64_t>(at)}, prompt_tokens, tokens});
    }
}

Result<std::vector<Arrival>> read_trace(const std::string& text, Duration duration) {
    std::vector<Arrival> arrivals;
    std::size_t line = 0;
    for (std::size_t from = 0; from < text.size();) {
        const auto end = std::min(text.find('\n', from), text.size());
        ++line;
        if (end > from) {
            const auto row = api::parse_json(std::string_view{text}.substr(from, end - from));
            if (!row) return fail(Fault::malformed, fmt::format("line {}: {}", line, row.error().detail));
            const auto& at = (*row)["timestamp"];
            const auto tokens = (*row)["output_length"].whole;
            if (at.kind != api::Json::Kind::number || at.number < 0 || tokens < 1) {
                return fail(Fault::malformed,
                            fmt::format("line {}: wants `timestamp` in ms, and `output_length` of at least 1", line));
            }
            const Duration when{static_cast<std::int64_t>(at.number * 1e3)};
            if (when < duration)
                arrivals.push_back({when, std::max<std::int64_t>((*row)["input_length"].whole, 1), tokens});
        }
        from = end + 1;
    }
    std::stable_sort(arrivals.begin(), arrivals.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
    return arrivals;
}

std::map<std::string, LoadResult> run_load(net::Loop& loop, const LoadOptions& options,
                                           const std::vector<Arrival>& arrivals,
                                           const std::function<void(const LoadResult&)>& progress) {
    return Load{loop, options, arrivals, progress}.run();
}

std::string to_json(const std::map<std::string, LoadResult>& results, Duration took) {
    const auto times = [](const Times& all) {
        return fmt::format(R"({{"p50":{:.3f},"p90":{:.3f},"p99":{:.3f},"mean":{:.3f},"max":{:.3f}}})", all.p50, all.p90,
                           all.p99, all.mean, all.longest);
    };
    const auto one = [&](const LoadResult& result) {
        auto out = fmt::format(
            R"("sent":{},"completed":{},"rejected":{},"rejected_with_retry_after":{},"failed":{},"frames":{},)"
            R"("frames_lost":{},"goodput_per_s":{:.3f},"tokens_per_s":{:.3f},"ttft_ms":{},"tpot_ms":{},"whole_ms":{},)"
            R"("reasons":{{)",
            result.sent, result.completed, result.rejected, result.rejected_with_advice, result.failed, result.frames,
            result.frames_lost, result.good, result.tokens, times(result.ttft_ms), times(result.tpot_ms),
            times(result.whole_ms));
        bool is_first = true;
        for (const auto& [why, count] : result.reasons) {
            if (!std::exchange(is_first, false)) out += ',';
            json_string(out, why);
            out += fmt::format(":{}", count);
        }
        return out + "}";
    };
    const auto all = results.find("");
    std::string out = fmt::format(R"({{"duration_s":{:.3f},)", static_cast<double>(took.count()) / 1e6);
    out += one(all == results.end() ? LoadResult{} : all->second) + R"(,"tiers":{)";
    bool is_first = true;
    for (const auto& [tier, result] : results) {
        if (tier.empty()) continue;
        if (!std::exchange(is_first, false)) out += ',';
        json_string(out, tier);
        out += ":{" + one(result) + "}";
    }
    return out + "}}";
}

}  // namespace stargate::serving
