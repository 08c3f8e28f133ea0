#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/command.hpp"
#include "engine/serving_port.hpp"
#include "net/loop.hpp"
#include "steward/asker.hpp"

namespace stargate::steward {

/// Tells replicas, over HTTP, to prove that they answer, to sleep and to wake, again and again until they have done it.
/// What they are asked: GET /health (GET /v1/models where they have none), POST /sleep?level=1 and POST /wake_up, as
/// vLLM has them. What answers counts only where it is the replica's own; where somebody else listens on its port the
/// replica is reported as failed. On the loop's thread.
class Replicas {
public:
    /// holder_of_port  as Serving::Needs has it
    Replicas(net::Loop& loop, std::function<void(Report)> on_reply,
             std::function<PortHolder(AttemptId, std::int32_t)> holder_of_port);
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
        std::unique_ptr<Asker> asker;
        net::Loop::Timer timer = 0;
        int tries = 0;
        int strangers = 0;       // looks in a row that found somebody else on its port
        bool has_woken = false;  // of one that is to wake: now it is to prove it
    };
    void ask(AttemptId attempt);
    void order(AttemptId attempt, const char* target);
    void obeyed(AttemptId attempt, int status);
    void again(AttemptId attempt);
    void done(AttemptId attempt, Report reply);

    net::Loop& loop_;
    std::function<void(Report)> on_reply_;
    std::function<PortHolder(AttemptId, std::int32_t)> holder_of_port_;
    std::map<AttemptId, Told> told_;
};

}  // namespace stargate::steward
