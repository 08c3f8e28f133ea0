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
    if (told.command.what == Telling::sleep) return order(attempt, "/sleep?level=1");
    if (told.command.what == Telling::wake && !told.has_woken) return order(attempt, "/wake_up");
    told.asker->ask_health(patience, [this, attempt](const Asker::Health& health) {
        const auto telling = told_.at(attempt).command.telling;
        is_good(health.status) ? done(attempt, ReplicaReady{attempt, telling}) : again(attempt);
    });
}

void Replicas::order(AttemptId attempt, const char* target) {
    told_.at(attempt).asker->ask("POST", target, patience_for_weights, [this, attempt](int status, const std::string&) {
        status == 0 ? again(attempt) : obeyed(attempt, status);
    });
}

void Replicas::obeyed(AttemptId attempt, int status) {
    auto& told = told_.at(attempt);
    if (!is_good(status) && !has_no_such_route(status)) return again(attempt);
    if (told.command.what == Telling::sleep) {
        return done(attempt, ReplicaAsleep{attempt, is_good(status), told.command.telling});
    }
    told.has_woken = true;  // also one that knows no sleep
    ask(attempt);
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
