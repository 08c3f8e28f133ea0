#include "engine/local/shim/zygote.hpp"

#include <linux/sched.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "engine/local/packet.hpp"
#include "engine/local/shim/shim.hpp"
#include "engine/local/zygote.hpp"

namespace stargate::local {

namespace {

/// `ps` and `pgrep -f` find it by this.
void be_called(char** words, std::uint64_t attempt) {
    char* const room = words[1];
    const auto length = static_cast<std::size_t>(words[2] + std::strlen(words[2]) - room);
    const auto number = std::to_string(attempt);
    constexpr char verb[] = "attempt";
    if (sizeof verb + number.size() + 1 > length) return;
    std::memset(room, 0, length);
    std::memcpy(room, verb, sizeof verb);
    std::memcpy(room + sizeof verb, number.c_str(), number.size() + 1);
}

}  // namespace

int be_zygote(Fd link, char** words) {
    while (true) {
        pollfd order{link.get(), POLLIN, 0};
        if (poll(&order, 1, -1) < 0) continue;
        bool is_closed = false;
        auto packet = receive_packet(link.get(), is_closed);
        if (is_closed) return 0;
        const auto asked = packet ? decode<ZygoteOrder>(packet->message) : std::nullopt;
        if (!asked || packet->descriptors.size() != 1) continue;
        int process = -1;
        clone_args arguments{};
        // A child of who asks, who reaps it, and tells by it who has started what.
        arguments.flags = CLONE_PARENT | CLONE_PIDFD;
        arguments.pidfd = reinterpret_cast<std::uint64_t>(&process);
        const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
        if (pid == 0) {
            link.reset();
            setsid();
            be_called(words, std::get<ForkShim>(*asked).attempt);
            return Shim{std::move(packet->descriptors.front())}.run();
        }
        const int error = errno;
        const Fd forked{process};
        if (pid > 0) {
            send_packet(link.get(), encode(ZygoteAnswer{Forked{pid, 0}}), {forked.get()});
        } else {
            send_packet(link.get(), encode(ZygoteAnswer{Forked{0, error}}));
        }
    }
}

}  // namespace stargate::local
