#include "steward/replicas.hpp"

#include <algorithm>
#include <string_view>

namespace stargate::steward {

namespace {
constexpr Duration first_pause = std::chrono::milliseconds{5};
constexpr Duration longest_pause = std::chrono::milliseconds{200};
/// A replica that has taken a connection and says nothing is asked anew. Moving a model's weights takes time.
constexpr Duration patience = std::chrono::seconds{5};
constexpr Duration patience_for_weights = std::chrono::seconds{60};
/// A process that is just becoming a child of another may look like nobody's.
constexpr int sure_of_strangers = 3;

bool is_good(int status) { return status >= 200 && status < 300; }
bool has_no_such_route(int status) { return status == 404 || status == 405 || status == 501; }
}  // namespace

Replicas::Replicas(net::Loop& loop, std::function<void(Report)> on_reply,
                   std::function<PortHolder(AttemptId, std::int32_t)> holder_of_port)
    : loop_{loop}, on_reply_{std::move(on_reply)}, holder_of_port_{std::move(holder_of_port)} {}

Replicas::~Replicas() {
    while (!told_.empty()) forget(told_.begin()->first);
}

void Replicas::tell(const TellReplica& command, const std::string& host) {
    forget(command.attempt);
    auto& told = told_[command.attempt];
    told.command = command;
    told.asker = std::make_unique<Asker>(loop_, host, command.port);
    ask(command.attempt);
}

void Replicas::forget(AttemptId attempt) {
    const auto found = told_.find(attempt);
    if (found == told_.end()) return;
    loop_.cancel(found->second.timer);
    told_.erase(found);
}

std::vector<AttemptId> Replicas::told() const {
    std::vector<AttemptId> all;
    for (const auto& [attempt, told] : told_) all.push_back(attempt);
    return all;
}

/// Nobody else is told to sleep or to wake, and nobody else's answer counts.
void Replicas::ask(AttemptId attempt) {
    auto& told = told_.at(attempt);
    const auto holder = holder_of_port_ ? holder_of_port_(attempt, told.command.port) : PortHolder{};
    if (holder.who != PortHolder::Who::somebody_else) {
        told.strangers = 0;
    } else if (++told.strangers < sure_of_strangers) {
        return again(attempt);
    } else {
        return done(attempt, ReplicaFailed{attempt, told.command.telling, holder.detail});
    }
    if (told.command.what == Telling::sleep) return request(attempt, "POST", "/sleep?level=1");
    if (told.command.what == Telling::wake && !told.has_woken) return request(attempt, "POST", "/wake_up");
    request(attempt, "GET", told.lacks_health ? "/v1/models" : "/health");
}

void Replicas::request(AttemptId attempt, const char* method, const char* target) {
    const bool moves_weights = std::string_view{method} == "POST";
    told_.at(attempt).asker->ask(
        method, target, moves_weights ? patience_for_weights : patience,
        [this, attempt](int status, const std::string&) { status == 0 ? again(attempt) : answered(attempt, status); });
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
