#include "steward/replicas.hpp"

#include <algorithm>
#include <string_view>

#include "net/message.hpp"

namespace stargate::steward {

namespace {
constexpr Duration first_pause = std::chrono::milliseconds{5};
constexpr Duration longest_pause = std::chrono::milliseconds{200};
/// A replica that has taken a connection and says nothing is asked anew. Moving a model's weights takes time.
constexpr Duration patience = std::chrono::seconds{5};
constexpr Duration patience_for_weights = std::chrono::seconds{60};

bool is_good(int status) { return status >= 200 && status < 300; }
bool has_no_such_route(int status) { return status == 404 || status == 405 || status == 501; }
}  // namespace

Replicas::Replicas(net::Loop& loop, std::function<void(Report)> on_reply)
    : loop_{loop}, on_reply_{std::move(on_reply)} {}

Replicas::~Replicas() {
    *is_here_ = false;
    while (!told_.empty()) forget(told_.begin()->first);
}

void Replicas::tell(const TellReplica& command, const std::string& host) {
    forget(command.attempt);
    auto& told = told_[command.attempt];
    told.command = command;
    net::ClientSetting setting;
    setting.host = host;
    setting.port = static_cast<std::uint16_t>(command.port);
    told.client = std::make_unique<net::Client>(loop_, std::move(setting));
    ask(command.attempt);
}

void Replicas::forget(AttemptId attempt) {
    const auto found = told_.find(attempt);
    if (found == told_.end()) return;
    loop_.cancel(found->second.timer);
    if (found->second.call) found->second.call->cancel();
    told_.erase(found);
}

std::vector<AttemptId> Replicas::told() const {
    std::vector<AttemptId> all;
    for (const auto& [attempt, told] : told_) all.push_back(attempt);
    return all;
}

void Replicas::ask(AttemptId attempt) {
    const auto& told = told_.at(attempt);
    if (told.command.what == Telling::sleep) return request(attempt, "POST", "/sleep?level=1");
    if (told.command.what == Telling::wake && !told.has_woken) return request(attempt, "POST", "/wake_up");
    request(attempt, "GET", told.lacks_health ? "/v1/models" : "/health");
}

void Replicas::request(AttemptId attempt, const char* method, const char* target) {
    auto& told = told_.at(attempt);
    told.asked = ++last_asked_;
    // What comes of it is looked at on a turn of the loop of its own, where the call may be let go of.
    const auto later = [this, attempt, asked = told.asked, is_here = is_here_](int status) {
        loop_.post([this, attempt, asked, status, is_here] {
            if (*is_here) came_of_it(attempt, asked, status);
        });
    };
    net::CallEvents events;
    events.on_head = [later](const net::ResponseHead& head) { later(head.status); };
    events.on_failure = [later](const net::CallFailure&) { later(0); };
    const bool moves_weights = std::string_view{method} == "POST";
    told.timer = loop_.after(moves_weights ? patience_for_weights : patience,
                             [this, attempt, asked = told.asked] { came_of_it(attempt, asked, 0); });
    told.call = told.client->start(net::request_bytes(method, target, told.client->host(), {}, ""), std::move(events));
}

/// status  0: no answer
void Replicas::came_of_it(AttemptId attempt, std::uint64_t asked, int status) {
    const auto found = told_.find(attempt);
    if (found == told_.end() || found->second.asked != asked || !found->second.call) return;
    loop_.cancel(found->second.timer);
    found->second.call->cancel();  // what else it says is of no interest
    found->second.call.reset();
    status == 0 ? again(attempt) : answered(attempt, status);
}

void Replicas::answered(AttemptId attempt, int status) {
    auto& told = told_.at(attempt);
    if (told.command.what == Telling::sleep) {
        if (is_good(status)) return done(attempt, ReplicaAsleep{attempt, true, told.command.telling});
        if (has_no_such_route(status)) return done(attempt, ReplicaAsleep{attempt, false, told.command.telling});
        return again(attempt);
    }
    if (told.command.what == Telling::wake && !told.has_woken) {
        told.has_woken = is_good(status) || has_no_such_route(status);
        return told.has_woken ? ask(attempt) : again(attempt);
    }
    if (is_good(status)) return done(attempt, ReplicaReady{attempt, told.command.telling});
    told.lacks_health = told.lacks_health || has_no_such_route(status);
    again(attempt);
}

void Replicas::again(AttemptId attempt) {
    auto& told = told_.at(attempt);
    const auto pause = std::min(longest_pause, first_pause * (1 << std::min(told.tries++, 10)));
    told.timer = loop_.after(pause, [this, attempt] { ask(attempt); });
}

void Replicas::done(AttemptId attempt, Report reply) {
    forget(attempt);
    on_reply_(std::move(reply));
}

}  // namespace stargate::steward
