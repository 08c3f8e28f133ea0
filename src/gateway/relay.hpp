#pragma once

#include <memory>
#include <string>

#include "gateway/errand.hpp"
#include "gateway/events.hpp"
#include "gateway/request.hpp"
#include "gateway/service.hpp"
#include "gateway/usage.hpp"
#include "net/client.hpp"
#include "net/server.hpp"

namespace stargate::gateway {

/// How patient a relay is, and with how many replicas.
struct RelayLimits {
    Duration silence = std::chrono::seconds{300};  // of a replica, before and within an answer
    /// That whoever asks for a stream hears nothing, until an event has come: then it gets the head and comments, so
    /// that nobody on the way takes the request for dead. Long, because after the head no status can be told any more;
    /// well below the 30 s to 60 s of common proxies.
    Duration quiet = std::chrono::seconds{10};
    std::size_t most_replicas = 3;           // that are tried for one request
    std::size_t longest_answer = 64U << 20;  // bytes, of one that comes whole
    std::size_t most_waiting = 256U << 10;   // bytes that the client has not taken: the replica is read no further
};

/// What a relay is made of.
struct RelayNeeds {
    std::shared_ptr<net::Exchange> exchange;
    CompletionRequest request;
    std::string target;  // "/v1/chat/completions"
    net::Fields upstream_fields;
    net::Fields reply_fields;  // of every answer: the request's id
    std::shared_ptr<Service> service;
    UsageBook* usage = nullptr;
    UsageBook::Account account = 0;
    const RelayLimits* limits = nullptr;
};

/// One request on its way: to a replica and, until the first byte of an answer has reached the client, to the next one
/// when that fails; and its answer back, whole or event by event.
class Relay : public Errand, public std::enable_shared_from_this<Relay> {
public:
    explicit Relay(RelayNeeds needs);
    /// Hands it to its service. Called once.
    void begin();

    void start(std::unique_ptr<Load> load) override;
    void refuse(const Refusal& refusal) override;
    void cut(const std::string& why) override;
    /// Called every second or so: ends what is silent for too long.
    void look_at_time(std::int64_t now_us);  // and says that a stream is still waited for
    [[nodiscard]] bool is_over() const { return is_over_; }

private:
    void on_head(const net::ResponseHead& head);
    void on_body(std::string_view part);
    void on_end();
    void on_failure(const net::CallFailure& failure);
    void on_gone();

    void judge_whole();
    void pass_on(std::string body);
    void pass_events(std::string_view part);
    void send(std::string_view events);
    void open(net::Fields fields, std::string_view type);
    void ping_when_quiet(std::int64_t now_us);
    void answer(const net::Reply& reply);
    void try_another(Refusal otherwise);
    void break_off(const std::string& why);
    void end_stream();
    void settle(bool is_interrupted);
    void over(int status);
    void let_go_of_call();
    [[nodiscard]] net::Fields passed_fields() const;

    RelayNeeds needs_;
    std::shared_ptr<net::Call> call_;
    std::unique_ptr<Load> load_;
    net::ResponseHead head_;
    std::string answer_;  // that comes whole, so far
    EventCutter cutter_;
    std::string last_error_;  // JSON of a replica that refused, which is told when nobody else can take it
    TokenUsage told_{};
    std::int64_t deltas_ = 0;
    std::int64_t given_tokens_ = 0;  // of the answer, when it is over
    std::int64_t moved_us_ = 0;
    std::int64_t spoke_us_ = 0;  // when the client last heard something, or asked
    std::uint64_t sent_bytes_ = 0;
    bool has_told_usage_ = false;
    bool is_stream_ = false;   // the answer comes as events
    bool is_open_ = false;     // the head has gone to the client: what fails now is told among the events
    bool has_begun_ = false;   // something of an answer has
    bool is_done_ = false;     // `[DONE]` has
    bool has_failed_ = false;  // an error has, within the stream
    bool is_paused_ = false;
    bool is_over_ = false;
};

}  // namespace stargate::gateway
