#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/serving_port.hpp"
#include "net/loop.hpp"
#include "steward/asker.hpp"

namespace stargate::steward {

/// How a replica that serves is looked at.
struct WatchLimits {
    Duration between_looks = std::chrono::seconds{2};
    Duration between_doubts = std::chrono::milliseconds{500};  // looks at one that has just failed
    Duration patience = std::chrono::seconds{5};               // with one answer: a server under load answers late
    Duration patience_for_weights = std::chrono::seconds{60};  // with one that wakes
    int failures = 3;                                          // in a row, until it is given no more requests
    Duration lost_after = std::chrono::seconds{30};            // of failures alone, it is reported
};

/// A replica that serves, as State has it.
struct Watched {
    AttemptId attempt;
    std::uint32_t telling = 0;
    std::string host;
    std::int32_t port = 0;
};

/// Looks on at replicas that have become ready: asks GET /health (GET /v1/models where they have none), GET
/// /is_sleeping where they know it, and whose their port is. One that fails a few times in a row is unfit: it should
/// get no requests. One that somebody else has put to sleep is woken, and is unfit until it has. One that stays unfit,
/// or whose port is somebody else's, is reported as failed, again and again until State has it as serving no more.
/// Whatever it answers to clients counts as a good look: who streams is alive. On the loop's thread.
class Watch {
public:
    struct Events {
        std::function<void()> when_changed;  // who is fit; may not call follow() at once
        std::function<void(ReplicaFailed)> on_failed;
        std::function<PortHolder(AttemptId, std::int32_t)> holder_of_port;  // as Serving::Needs has it
    };
    Watch(net::Loop& loop, Events events, WatchLimits limits = {});
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch();

    /// These serve, and no others; but for those of an older State that have been told something since.
    void follow(const std::vector<Watched>& serving);
    /// It is being told something, whatever the newest State says: what it does now is no failure.
    void told(AttemptId attempt, std::uint32_t telling);
    /// Its attempt is over.
    void forget(AttemptId attempt) { told_.erase(attempt); }
    /// The gateway has had something of an answer from it.
    void answered(AttemptId attempt);
    /// The gateway was told by it that it sleeps.
    void refused_asleep(AttemptId attempt);
    /// Whether it should get requests; also of whom we do not know.
    [[nodiscard]] bool is_fit(AttemptId attempt) const;

private:
    struct Replica {
        Watched what;
        std::unique_ptr<Asker> asker;
        net::Loop::Timer timer = 0;
        int failures = 0;             // in a row
        int strangers = 0;            // looks in a row that found somebody else on its port
        std::int64_t failing_us = 0;  // since when; 0: it does not
        bool sleeps = false;          // though it is to serve
        bool is_unfit = false;
        bool lacks_is_sleeping = false;
        std::string why;  // it fails
    };
    void look(AttemptId attempt);
    void look_later(AttemptId attempt, Duration pause);
    void ask_health(AttemptId attempt);
    void ask_whether_it_sleeps(AttemptId attempt);
    void wake(AttemptId attempt);
    void is_well(AttemptId attempt);
    void failed(AttemptId attempt, std::string why);
    void fell_asleep(AttemptId attempt);
    void set_unfit(Replica& replica, bool is_unfit);

    net::Loop& loop_;
    Events events_;
    WatchLimits limits_;
    std::map<AttemptId, Replica> replicas_;
    std::map<AttemptId, std::uint32_t> told_;  // which telling was the last
};

}  // namespace stargate::steward
