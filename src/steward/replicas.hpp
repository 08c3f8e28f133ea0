#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/command.hpp"
#include "engine/port.hpp"
#include "net/client.hpp"
#include "net/loop.hpp"

namespace stargate::steward {

/// Tells replicas, over HTTP, to prove that they answer, to sleep and to wake, again and again until they have done it.
/// What they are asked: GET /health (GET /v1/models where they have none), POST /sleep?level=1 and POST /wake_up, as
/// vLLM has them. On the loop's thread.
class Replicas {
public:
    Replicas(net::Loop& loop, std::function<void(Report)> on_reply);
    Replicas(const Replicas&) = delete;
    Replicas& operator=(const Replicas&) = delete;
    ~Replicas();

    /// Stands in for whatever this replica was told before.
    void tell(const TellReplica& command, const std::string& host);
    void forget(AttemptId attempt);
    [[nodiscard]] std::vector<AttemptId> told() const;

private:
    struct Told {
        TellReplica command;
        std::unique_ptr<net::Client> client;
        std::shared_ptr<net::Call> call;
        net::Loop::Timer timer = 0;
        int tries = 0;
        bool has_woken = false;     // of one that is to wake: now it is to prove it
        bool lacks_health = false;  // it has no /health
        std::uint64_t asked = 0;    // which request this is: what comes of an earlier one means nothing
    };
    void ask(AttemptId attempt);
    void request(AttemptId attempt, const char* method, const char* target);
    void came_of_it(AttemptId attempt, std::uint64_t asked, int status);
    void answered(AttemptId attempt, int status);
    void again(AttemptId attempt);
    void done(AttemptId attempt, Report reply);

    net::Loop& loop_;
    std::function<void(Report)> on_reply_;
    std::map<AttemptId, Told> told_;
    std::uint64_t last_asked_ = 0;
    std::shared_ptr<bool> is_here_ = std::make_shared<bool>(true);
};

}  // namespace stargate::steward
