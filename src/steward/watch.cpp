#include "steward/watch.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>
#include <utility>

namespace stargate::steward {

namespace {
/// A process that is just becoming a child of another may look like nobody's.
constexpr int sure_of_strangers = 3;

/// Of `{"is_sleeping": true}`, as vLLM answers.
bool says_that_it_sleeps(std::string body) {
    std::erase_if(body, [](unsigned char c) { return std::isspace(c) != 0; });
    return body.find("\"is_sleeping\":true") != std::string::npos;
}
}  // namespace

Watch::Watch(net::Loop& loop, Events events, WatchLimits limits)
    : loop_{loop}, events_{std::move(events)}, limits_{limits} {}

Watch::~Watch() { follow({}); }

void Watch::follow(const std::vector<Watched>& serving) {
    std::set<AttemptId> stay;
    for (const auto& each : serving) {
        if (const auto told = told_.find(each.attempt); told != told_.end() && told->second > each.telling) continue;
        stay.insert(each.attempt);
        auto& replica = replicas_[each.attempt];
        if (replica.asker && replica.what.telling == each.telling) continue;
        loop_.cancel(replica.timer);
        replica = {};
        replica.what = each;
        replica.asker = std::make_unique<Asker>(loop_, each.host, each.port);
        look_later(each.attempt, limits_.between_looks);
    }
    std::erase_if(replicas_, [&](const auto& known) {
        if (stay.contains(known.first)) return false;
        loop_.cancel(known.second.timer);
        return true;
    });
}

void Watch::told(AttemptId attempt, std::uint32_t telling) {
    told_[attempt] = telling;
    const auto found = replicas_.find(attempt);
    if (found == replicas_.end()) return;
    loop_.cancel(found->second.timer);
    replicas_.erase(found);
}

void Watch::look_later(AttemptId attempt, Duration pause) {
    auto& replica = replicas_.at(attempt);
    loop_.cancel(replica.timer);
    replica.timer = loop_.after(pause, [this, attempt] { look(attempt); });
}

void Watch::look(AttemptId attempt) {
    auto& replica = replicas_.at(attempt);
    replica.timer = 0;
    const auto holder = events_.holder_of_port ? events_.holder_of_port(attempt, replica.what.port) : PortHolder{};
    if (holder.who != PortHolder::Who::somebody_else) {
        replica.strangers = 0;
        return replica.sleeps ? wake(attempt) : ask_health(attempt);
    }
    if (++replica.strangers >= sure_of_strangers) {
        replica.why = holder.detail;
        set_unfit(replica, true);
        events_.on_failed({attempt, replica.what.telling, replica.why});
    }
    look_later(attempt, limits_.between_doubts);
}

void Watch::ask_health(AttemptId attempt) {
    auto& replica = replicas_.at(attempt);
    replica.asker->ask_health(limits_.patience, [this, attempt](const Asker::Health& health) {
        if (is_good(health.status)) {
            return replicas_.at(attempt).lacks_is_sleeping ? is_well(attempt) : ask_whether_it_sleeps(attempt);
        }
        const std::string asked = std::string{"GET "} + health.target;
        failed(attempt, health.status == 0 ? "it does not answer " + asked
                                           : "it answers " + asked + " with " + std::to_string(health.status));
    });
}

void Watch::ask_whether_it_sleeps(AttemptId attempt) {
    replicas_.at(attempt).asker->ask("GET", "/is_sleeping", limits_.patience,
                                     [this, attempt](int status, const std::string& body) {
                                         auto& asked = replicas_.at(attempt);
                                         asked.lacks_is_sleeping = has_no_such_route(status);
                                         const bool sleeps = is_good(status) && says_that_it_sleeps(body);
                                         sleeps ? fell_asleep(attempt) : is_well(attempt);
                                     });
}

void Watch::fell_asleep(AttemptId attempt) {
    auto& replica = replicas_.at(attempt);
    if (std::exchange(replica.sleeps, true)) return;  // it is being woken
    if (replica.failing_us == 0) replica.failing_us = net::Loop::now_us();
    replica.why = "somebody has put it to sleep";
    set_unfit(replica, true);
    wake(attempt);
}

void Watch::wake(AttemptId attempt) {
    auto& replica = replicas_.at(attempt);
    loop_.cancel(std::exchange(replica.timer, 0));
    replica.asker->ask("POST", "/wake_up", limits_.patience_for_weights,
                       [this, attempt](int status, const std::string&) {
                           if (!is_good(status))
                               return failed(attempt, "somebody has put it to sleep, and it does not wake");
                           replicas_.at(attempt).sleeps = false;
                           ask_health(attempt);
                       });
}

void Watch::is_well(AttemptId attempt) {
    auto& replica = replicas_.at(attempt);
    replica.failures = 0;
    replica.failing_us = 0;
    set_unfit(replica, false);
    look_later(attempt, limits_.between_looks);
}

void Watch::failed(AttemptId attempt, std::string why) {
    auto& replica = replicas_.at(attempt);
    const auto now = net::Loop::now_us();
    if (replica.failing_us == 0) replica.failing_us = now;
    replica.why = std::move(why);
    if (++replica.failures >= limits_.failures) set_unfit(replica, true);
    if (replica.is_unfit && now - replica.failing_us >= limits_.lost_after.count()) {
        events_.on_failed({attempt, replica.what.telling, replica.why});
    }
    look_later(attempt, limits_.between_doubts);
}

void Watch::answered(AttemptId attempt) {
    const auto found = replicas_.find(attempt);
    if (found == replicas_.end() || found->second.sleeps || found->second.strangers > 0) return;
    found->second.failures = 0;
    found->second.failing_us = 0;
    set_unfit(found->second, false);
}

void Watch::refused_asleep(AttemptId attempt) {
    if (replicas_.contains(attempt)) fell_asleep(attempt);
}

bool Watch::is_fit(AttemptId attempt) const {
    const auto found = replicas_.find(attempt);
    return found == replicas_.end() || !found->second.is_unfit;
}

void Watch::set_unfit(Replica& replica, bool is_unfit) {
    if (std::exchange(replica.is_unfit, is_unfit) == is_unfit) return;
    const auto id = static_cast<unsigned long long>(replica.what.attempt.value);
    if (is_unfit) {
        std::fprintf(stderr, "stargate: attempt %llu gets no requests: %s\n", id, replica.why.c_str());
    } else {
        std::fprintf(stderr, "stargate: attempt %llu gets requests again\n", id);
    }
    events_.when_changed();
}

}  // namespace stargate::steward
