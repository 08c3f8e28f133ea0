#include "gateway/relay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "gateway/json_scan.hpp"

namespace stargate::gateway {

namespace {

constexpr Duration after_failure = std::chrono::seconds{1};  // when to ask again, where nothing better is known
constexpr std::int64_t bytes_per_token = 4;                  // of an answer, where its replica does not tell
constexpr std::string_view asleep_field = "x-stargate-asleep";

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

/// Fields of a response that are about its connection or its bytes, or that we say ourselves.
bool stays_behind(const std::string& name) {
    constexpr std::array<std::string_view, 12> those{
        "connection", "keep-alive",     "proxy-authenticate", "proxy-connection", "te",   "trailer",
        "upgrade",    "content-length", "transfer-encoding",  "content-type",     "date", "x-request-id"};
    const auto lower = lower_case(name);
    return std::find(those.begin(), those.end(), lower) != those.end() || lower.starts_with("x-stargate-");
}

bool is_event_stream(const net::ResponseHead& head) {
    return lower_case(std::string{net::field(head.fields, "Content-Type")}).starts_with("text/event-stream");
}

/// What a busy replica asks for by `Retry-After`, in seconds; a date, or nonsense, is nothing.
Duration asked_wait(const net::ResponseHead& head) {
    const auto text = net::field(head.fields, "Retry-After");
    std::uint16_t seconds = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    return bad == std::errc{} && end == text.data() + text.size() ? std::chrono::seconds{seconds} : Duration{};
}

/// Where no head can say any more when to ask again.
Refusal with_advice(Refusal refusal) {
    if (refusal.wait) {
        const auto wait = std::max<Duration>(*refusal.wait, std::chrono::seconds{1});
        refusal.message += fmt::format("; ask again in {} s", std::chrono::ceil<std::chrono::seconds>(wait).count());
    }
    return refusal;
}

/// Of JSON, where line breaks stand between values alone.
std::string on_one_line(std::string json) {
    std::replace_if(
        json.begin(), json.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return json;
}

/// A JSON object that OpenAI's clients can read an error from.
bool is_error_answer(std::string_view body) {
    if (!is_json(body)) return false;
    const auto error = member_of(body, "error");
    return error && is_json_object(*error);
}

}  // namespace

Relay::Relay(RelayNeeds needs) : needs_{std::move(needs)} {
    since_us = net::Loop::now_us();
    spoke_us_ = since_us;
    bytes = static_cast<std::int64_t>(needs_.exchange->body.size());
    const auto usual = needs_.service->usual_answer();
    const auto most = needs_.request.limit.value_or(usual);
    tokens = needs_.request.prompt_tokens + most;
    answer_tokens = std::min(most, usual);
}

void Relay::begin() {
    needs_.service->meters().bytes_in += needs_.exchange->body.size();
    needs_.exchange->when_gone = [self = weak_from_this()] {
        if (const auto relay = self.lock()) relay->on_gone();
    };
    needs_.service->submit(shared_from_this());
}

void Relay::start(std::unique_ptr<Load> load) {
    load_ = std::move(load);
    moved_us_ = net::Loop::now_us();
    head_ = {};
    answer_.clear();
    is_stream_ = false;
    needs_.usage->began(needs_.account);
    auto& client = *load_->replica().client;
    const auto body = upstream_body(needs_.request, needs_.exchange->body, needs_.service->entry().model);
    auto self = shared_from_this();
    net::CallEvents events;
    events.on_head = [self](const net::ResponseHead& head) { self->on_head(head); };
    events.on_body = [self](std::string_view part) { self->on_body(part); };
    events.on_end = [self] { self->on_end(); };
    events.on_failure = [self](const net::CallFailure& failure) { self->on_failure(failure); };
    call_ = client.start(net::request_bytes("POST", needs_.target, client.host(), needs_.upstream_fields, body),
                         std::move(events));
}

void Relay::refuse(const Refusal& refusal) {
    if (is_over_) return;
    auto reply = reply_of(is_open_ ? with_advice(refusal) : refusal, needs_.reply_fields);
    if (refusal.status == 503 && !last_error_.empty()) reply.body = last_error_;
    answer(reply);
}

/// Whole; in a stream that is open, which only a failure can come to, as an event: its head can say nothing any more.
void Relay::answer(const net::Reply& reply) {
    needs_.service->meters().bytes_out += reply.body.size();
    const auto exchange = needs_.exchange;
    over(reply.status);
    if (!is_open_) return exchange->respond(reply);
    exchange->write("data: " + on_one_line(reply.body) + "\n\n");
    exchange->end();
}

void Relay::cut(const std::string& why) {
    if (is_over_) return;
    if (has_begun_) return break_off(why);
    try_another(overloaded(why, after_failure));
}

void Relay::look_at_time(std::int64_t now_us) {
    if (is_over_) return;
    ping_when_quiet(now_us);
    if (is_paused_ || !load_ || Duration{now_us - moved_us_} < needs_.limits->silence) return;
    if (has_begun_) return break_off("the replica fell silent");
    settle(true);
    refuse(bad_replica("the replica said nothing for too long"));
}

/// Whoever is asked may still change: nothing of an answer has gone.
void Relay::ping_when_quiet(std::int64_t now_us) {
    if (!needs_.request.streams || has_begun_ || Duration{now_us - spoke_us_} < needs_.limits->quiet) return;
    spoke_us_ = now_us;
    if (!is_open_) open(needs_.reply_fields, "text/event-stream");
    needs_.exchange->write(": ping\n\n");
}

void Relay::open(net::Fields fields, std::string_view type) {
    is_open_ = true;
    fields.emplace_back("Content-Type", type);
    needs_.exchange->begin(200, fields);
}

void Relay::on_head(const net::ResponseHead& head) {
    head_ = head;
    moved_us_ = net::Loop::now_us();
    is_stream_ = needs_.request.streams && head.status == 200 && is_event_stream(head);
}

void Relay::on_body(std::string_view part) {
    if (is_over_) return;
    moved_us_ = net::Loop::now_us();
    if (head_.status == 200) load_->heard();
    if (is_stream_) return pass_events(part);
    if (answer_.size() + part.size() > needs_.limits->longest_answer) {
        settle(true);
        return refuse(bad_replica("the replica's answer is too large"));
    }
    answer_.append(part);
}

void Relay::on_end() {
    if (is_over_) return;
    if (!is_stream_) return judge_whole();
    if (!is_done_ && !has_begun_) return on_failure({"its stream was empty", true, true});
    if (!is_done_ && !has_failed_) return break_off("the replica ended its stream early");
    end_stream();
}

void Relay::on_failure(const net::CallFailure& failure) {
    if (is_over_) return;
    load_->unreachable();
    if (has_begun_) return break_off("the replica broke off: " + failure.why);
    try_another(bad_replica("the replica cannot be reached: " + failure.why));
}

void Relay::on_gone() {
    if (is_over_) return;
    needs_.service->withdraw(*this);
    if (load_) settle(true);
    over(client_gone_status);
}

/// An answer is there that is no stream.
void Relay::judge_whole() {
    const int status = head_.status;
    if (status == 503) {
        if (!net::field(head_.fields, asleep_field).empty()) {
            load_->asleep();
        } else {
            load_->answered();
            tried.push_back(load_->replica().entry.id);
            if (is_error_answer(answer_)) last_error_ = answer_;
        }
        const auto wait = std::max(needs_.service->wait_for_room(), asked_wait(head_));
        return try_another(overloaded("no replica can take it", wait));
    }
    load_->answered();
    const auto text = json_trimmed(answer_);
    if (status == 200 && !needs_.request.streams && is_json_object(text) && is_json(answer_)) {
        if (const auto usage = usage_of(text)) {
            told_ = *usage;
            has_told_usage_ = true;
        } else if (const auto choices = member_of(text, "choices")) {
            deltas_ = std::max<std::int64_t>(static_cast<std::int64_t>(choices->size()) / bytes_per_token, 1);
        }
        return pass_on(std::move(answer_));
    }
    const bool is_our_fault = status == 401 || status == 403 || status == 407;
    if (status >= 400 && !is_our_fault && is_error_answer(answer_)) return pass_on(std::move(answer_));
    needs_.usage->came_to_nothing(needs_.account);
    load_.reset();
    refuse(bad_replica(fmt::format("the replica answered with status {} and what is no answer to this", status)));
}

void Relay::pass_on(std::string body) {
    const int status = head_.status;
    net::Reply reply{status, "application/json", passed_fields(), std::move(body)};
    if (status == 200) {
        load_->begun();
        needs_.service->meters().note_ttft(Duration{net::Loop::now_us() - since_us});
        settle(false);
    } else {
        needs_.usage->came_to_nothing(needs_.account);
        load_.reset();
    }
    answer(reply);
}

void Relay::pass_events(std::string_view part) {
    std::string_view run;  // of events that lie side by side and go on together
    const auto flush = [&] {
        if (!run.empty()) send(run);
        run = {};
    };
    const bool is_good = cutter_.put(part, [&](std::string_view event) {
        const auto sight = look_at(event);
        if (sight.is_delta) {
            ++deltas_;
            load_->progress();
        }
        if (sight.usage) {
            told_ = *sight.usage;
            has_told_usage_ = true;
        }
        is_done_ = is_done_ || sight.is_done;
        has_failed_ = has_failed_ || sight.is_error;
        if (sight.is_usage_alone && !needs_.request.asks_usage) return flush();
        run = run.empty() ? event : std::string_view{run.data(), run.size() + event.size()};
    });
    flush();
    if (!is_good) return break_off("an event of the replica is too long");
    if (!is_over_ && needs_.exchange->waiting() > needs_.limits->most_waiting && !std::exchange(is_paused_, true)) {
        call_->pause();
    }
}

void Relay::send(std::string_view events) {
    auto& exchange = *needs_.exchange;
    auto& meters = needs_.service->meters();
    if (!std::exchange(has_begun_, true)) {
        load_->answered();
        load_->begun();
        exchange.body = {};  // no other replica will be asked
        exchange.when_taken = [self = weak_from_this()] {
            const auto relay = self.lock();
            if (!relay || !std::exchange(relay->is_paused_, false) || !relay->call_) return;
            relay->moved_us_ = net::Loop::now_us();
            relay->call_->resume();
        };
        if (!is_open_) open(passed_fields(), net::field(head_.fields, "Content-Type"));
        meters.note_ttft(Duration{net::Loop::now_us() - since_us});
    }
    sent_bytes_ += events.size();
    exchange.write(events);
}

/// Before anything has reached the client: elsewhere, where there is somebody, else the client is told.
void Relay::try_another(Refusal otherwise) {
    let_go_of_call();
    if (load_) {
        const auto& replica = load_->replica();
        const bool was_asleep = !net::field(head_.fields, asleep_field).empty();
        if (!was_asleep && std::find(tried.begin(), tried.end(), replica.entry.id) == tried.end()) {
            tried.push_back(replica.entry.id);
        }
        needs_.usage->came_to_nothing(needs_.account);
        load_.reset();
    }
    if (tried.size() < needs_.limits->most_replicas && needs_.service->submit_again(shared_from_this())) return;
    otherwise.wait = otherwise.wait.value_or(after_failure);
    refuse(otherwise);
}

/// In the middle of a stream, as clients expect it: an error among the events, then the end, without [DONE].
void Relay::break_off(const std::string& why) {
    Refusal refusal = bad_replica(why);
    refusal.code = "stream_interrupted";
    ++needs_.service->meters().broken_streams;
    settle(true);
    const auto exchange = needs_.exchange;
    over(200);
    exchange->write("data: " + error_body(refusal) + "\n\n");
    exchange->end();
}

void Relay::end_stream() {
    if (has_failed_) ++needs_.service->meters().broken_streams;
    settle(has_failed_);
    const auto exchange = needs_.exchange;
    over(200);
    exchange->end();
}

/// What it used is written down, and its place is free.
void Relay::settle(bool is_interrupted) {
    let_go_of_call();
    auto& meters = needs_.service->meters();
    UsageBook::Answer answer{told_.prompt_tokens, told_.completion_tokens, is_interrupted && !has_told_usage_};
    if (!has_told_usage_) {
        answer.prompt_tokens = needs_.request.prompt_tokens;
        answer.completion_tokens = deltas_;
        answer.is_interrupted = true;
    } else {
        needs_.service->note_answer(told_.completion_tokens);
    }
    meters.prompt_tokens += static_cast<std::uint64_t>(answer.prompt_tokens);
    meters.completion_tokens += static_cast<std::uint64_t>(answer.completion_tokens);
    meters.bytes_out += sent_bytes_;
    needs_.usage->ended(needs_.account, answer);
    given_tokens_ = answer.completion_tokens;
    if (!is_interrupted) load_->finished(given_tokens_);
    load_.reset();
}

void Relay::over(int status) {
    is_over_ = true;
    let_go_of_call();
    load_.reset();
    ++needs_.service->meters().requests[status];
    needs_.service->put_right(answer_tokens, given_tokens_);
    needs_.exchange->when_gone = nullptr;
    needs_.exchange->when_taken = nullptr;
}

void Relay::let_go_of_call() {
    if (const auto call = std::exchange(call_, nullptr)) call->cancel();
}

net::Fields Relay::passed_fields() const {
    auto fields = needs_.reply_fields;
    for (const auto& [name, value] : head_.fields) {
        if (!stays_behind(name)) fields.emplace_back(name, value);
    }
    return fields;
}

}  // namespace stargate::gateway
