#include "engine/local/shim/kill_children.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "engine/local/posix.hpp"

namespace stargate::local {

void kill_children(int signals) {
    const auto list = "/proc/self/task/" + std::to_string(getpid()) + "/children";
    while (true) {
        const auto children = read_kernel_file(list.c_str(), 1U << 20);
        for (std::size_t at = 0; at < children.size();) {
            const auto end = std::min(children.find(' ', at), children.size());
            const auto pid = std::atoi(children.c_str() + at);
            if (pid > 1) kill(pid, SIGKILL);
            at = end + 1;
        }
        pid_t reaped = 0;
        while ((reaped = waitpid(-1, nullptr, WNOHANG)) > 0) {}
        if (reaped < 0 && errno == ECHILD) return;
        pollfd wait{signals, POLLIN, 0};
        constexpr int next_look_ms = 20;
        if (poll(&wait, 1, next_look_ms) > 0) {
            signalfd_siginfo about;
            while (read(signals, &about, sizeof about) > 0) {}
        }
    }
}

}  // namespace stargate::local
