#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gateway/refusal.hpp"
#include "net/loop.hpp"

namespace stargate::gateway {

class Load;

/// One request for a completion, from when it may be sent to a replica until it is over.
class Errand {
public:
    virtual ~Errand() = default;

    std::string tenant;                  // who asks
    std::int64_t tokens = 1;             // estimated, of prompt and answer
    std::int64_t answer_tokens = 1;      // that its answer is expected to have: what a client allows is seldom used up
    std::int64_t bytes = 0;              // that it holds while it waits
    std::int64_t since_us = 0;           // when it arrived, by Loop::now_us()
    Duration patience{};                 // after which it waits no longer
    std::vector<std::uint64_t> tried{};  // replicas that failed it

    /// It has a place at a replica, until it lets go of the load.
    virtual void start(std::unique_ptr<Load> load) = 0;
    /// It gets none.
    virtual void refuse(const Refusal& refusal) = 0;
    /// Its replica is taken away while it is served.
    virtual void cut(const std::string& why) = 0;

    net::Loop::Timer patience_timer = 0;  // while it waits: the service's
};

}  // namespace stargate::gateway
