#include "cli/watch.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#include "base/print_error.hpp"
#include "cli/client.hpp"
#include "cli/follow.hpp"
#include "cli/listings.hpp"
#include "cli/run.hpp"

namespace stargate::cli {

namespace {

/// Whether to ask once more after a stream that did not come to its end.
class Patience {
public:
    void ask() { asked_ = Clock::now(); }
    void got_on() { failing_since_.reset(); }
    /// False: it has been too long. A first request that nobody answers is not waited for.
    [[nodiscard]] bool once_more(const Error& why) {
        constexpr std::chrono::seconds fair_while{1};  // a stream that lasted so long did work
        const auto now = Clock::now();
        any_ = any_ || why.fault == Fault::unknown_outcome;
        if (!failing_since_ || now - asked_ > fair_while) failing_since_ = now;
        if (!any_ || now - *failing_since_ > longest_absence) return false;
        std::this_thread::sleep_for(pause_between_tries);
        return true;
    }

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point asked_{};
    std::optional<Clock::time_point> failing_since_;
    bool any_ = false;
};

/// A reply that asks to come again, as while the control plane goes down.
std::optional<Error> come_again(const Result<HttpReply>& reply) {
    if (!reply) return reply.error();
    if (reply->status == 503) return Error{Fault::unavailable, "the control plane is going down"};
    return std::nullopt;
}

}  // namespace

int logs(const LogsAsked& asked) {
    Followed followed;
    Patience patience;
    auto job = escaped(asked.reference);
    followed.accepted = [&](std::uint64_t id, int) { job = std::to_string(id); };
    followed.output = [&](const api::Frame& frame) {
        patience.got_on();
        if (!write_all(STDOUT_FILENO, frame.bytes)) {
            print_error("stargate: standard output did not take all of it: {}\n", std::strerror(errno));
            std::_Exit(1);
        }
    };
    while (true) {
        auto target = fmt::format("/api/v1/jobs/{}/logs?frames=1&follow={}", job, asked.follow ? 1 : 0);
        if (asked.attempt != 0) target += fmt::format("&attempt={}", asked.attempt);
        if (const auto resume = followed.resume(); !resume.empty()) target += "&resume=" + escaped(resume);
        patience.ask();
        const auto reply = Client{asked.state}.stream("GET", target, {}, {},
                                                      [&](std::string_view piece) { return followed.take(piece); });
        if (const auto failed = come_again(reply)) {
            if (!patience.once_more(*failed))
                return reply ? explain_failure(reply->status, reply->body) : fail_with(*failed);
            followed.reconnect();
            continue;
        }
        return reply->status >= 300 ? explain_failure(reply->status, reply->body) : 0;
    }
}

namespace {

/// Takes the log's lines as they come and prints them as asked.
class EventPrinter {
public:
    EventPrinter(Output output, std::uint64_t from) : output_{output}, seen_{from - 1} {
        if (output_ == Output::json) std::fputs("[", stdout);
    }
    /// False: nobody reads any more.
    bool take(std::string_view piece) {
        pending_ += piece;
        std::size_t from = 0;
        for (std::size_t end = 0; (end = pending_.find('\n', from)) != std::string::npos; from = end + 1) {
            print(std::string_view{pending_}.substr(from, end - from));
        }
        pending_.erase(0, from);
        return std::fflush(stdout) == 0;
    }
    void reconnect() { pending_.clear(); }
    void end() const {
        if (output_ == Output::json) std::fputs("]\n", stdout);
    }
    /// Seq of the newest one printed.
    [[nodiscard]] std::uint64_t seen() const { return seen_; }

private:
    void print(std::string_view line) {
        const auto seq = line.find("\"seq\":");
        if (seq == std::string_view::npos) return;
        seen_ = std::strtoull(line.data() + seq + 6, nullptr, 10);
        if (output_ == Output::jsonl || output_ == Output::json) {
            if (output_ == Output::json && !first_) std::fputs(",", stdout);
            std::fwrite(line.data(), 1, line.size(), stdout);
            std::fputs("\n", stdout);
        } else if (const auto event = api::parse_json(line)) {
            print_event_line(*event);
        }
        first_ = false;
    }

    Output output_;
    std::uint64_t seen_;
    std::string pending_;
    bool first_ = true;
};

/// Facts that have left the log for sealed segments are missing in front: on standard error, once.
void say_what_is_gone(const EventsAsked& asked) {
    const auto reply = Client{asked.state}.call("GET", "/api/v1/info");
    if (!reply || reply->status != 200) return;
    const auto first = api::parse_json(reply->body).value_or(api::Json{})["first_fact"].whole;
    if (static_cast<std::int64_t>(asked.from) >= first) return;
    print_error(
        "stargate: facts {} to {} are no longer in the log, so this begins with {}; they lie in sealed segments "
        "in the state folder\n",
        asked.from, first - 1, first);
}

}  // namespace

int events(const EventsAsked& asked) {
    say_what_is_gone(asked);
    EventPrinter printer{asked.output, asked.from};
    Patience patience;
    while (true) {
        const auto target = fmt::format("/api/v1/events?format=jsonl&from={}{}", printer.seen() + 1,
                                        asked.follow ? "&follow=1" : "&limit=1000000000");
        patience.ask();
        const auto reply = Client{asked.state}.stream("GET", target, {}, {}, [&](std::string_view piece) {
            patience.got_on();
            return printer.take(piece);
        });
        if (const auto failed = come_again(reply)) {
            if (!patience.once_more(*failed))
                return reply ? explain_failure(reply->status, reply->body) : fail_with(*failed);
            printer.reconnect();
            continue;
        }
        if (reply->status >= 300) return explain_failure(reply->status, reply->body);
        printer.end();
        return 0;
    }
}

}  // namespace stargate::cli
