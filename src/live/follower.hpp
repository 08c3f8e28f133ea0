#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "live/writer.hpp"

namespace stargate::live {

/// Has a child process fold the log and write a snapshot whenever enough facts have come since the last one. The
/// child reads the log like any other reader and never sees the writer's memory.
class Follower {
public:
    Follower(std::string program, std::string folder, Writer& writer, std::uint64_t last_snapshot);
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;
    ~Follower();

    /// From any thread: the log now ends with this fact.
    void log_reached(std::uint64_t fact);

private:
    void work();
    void make_one();

    std::string program_;
    std::string folder_;
    Writer& writer_;
    std::mutex mutex_;
    std::condition_variable reached_;
    std::uint64_t snapshot_ = 0;
    std::uint64_t newest_ = 0;
    bool stopping_ = false;
    std::thread thread_;
};

/// What the child does: writes a snapshot and prints its row for the parent. Returns an exit status.
int follow_once(const std::string& folder);

}  // namespace stargate::live
