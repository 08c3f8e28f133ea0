#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/local/posix.hpp"

namespace stargate::local {

/// Removes the folders of attempts on a thread of its own: a job may have filled its part with any number of files,
/// and nothing else should wait for that.
class Trash {
public:
    /// attempts  STATE/attempts, opened. What an earlier process left in the trash goes as well.
    explicit Trash(Fd attempts);
    Trash(const Trash&) = delete;
    Trash& operator=(const Trash&) = delete;
    ~Trash();

    /// The attempt's folder has another name, which is no attempt's, when this returns, and is gone some time later.
    void take(std::uint64_t attempt);

private:
    void work();

    Fd attempts_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::string> waiting_;
    bool is_over_ = false;
    std::thread thread_;
};

/// Removes `name` in `folder` and all beneath, without ever following a link or entering by a path: what is moved or
/// linked meanwhile by its owner leads nowhere else (compare CVE-2023-41914). False with errno when something stays.
bool remove_tree(int folder, const std::string& name);

}  // namespace stargate::local
