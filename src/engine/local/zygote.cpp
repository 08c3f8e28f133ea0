#include "engine/local/zygote.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "engine/local/packet.hpp"

namespace stargate::local {

namespace {
constexpr int link_descriptor = 3;
constexpr int patience_ms = 1'000;  // a fork takes microseconds, and everything else waits meanwhile
}  // namespace

bool Zygote::begin() {
    auto pair = make_packet_pair();
    if (!pair.ours) return false;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, pair.theirs.get(), link_descriptor);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, link_descriptor + 1);

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    // The last word is room for what each shim is called.
    std::string words[] = {"stargate-shim", "zygote", std::string(24, ' ')};
    char* const arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    char* const environment[] = {nullptr};
    const int error = posix_spawn(&pid_, program_.c_str(), &files, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
        pid_ = 0;
        errno = error;
        return false;
    }
    link_ = std::move(pair.ours);
    return true;
}

void Zygote::end() {
    link_.reset();
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);  // it holds nothing
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
}

std::optional<SpawnedShim> Zygote::spawn_shim(std::uint64_t attempt) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return std::nullopt;
    Fd ours{ends[0]};
    const Fd theirs{ends[1]};
    if (!link_ && !begin()) return std::nullopt;

    std::optional<Packet> packet;
    pollfd answer{link_.get(), POLLIN, 0};
    if (send_packet(link_.get(), encode(ZygoteOrder{ForkShim{attempt}}), {theirs.get()})) {
        while (poll(&answer, 1, patience_ms) < 0 && errno == EINTR) {}
        bool is_closed = false;
        packet = receive_packet(link_.get(), is_closed);
    }
    const auto told = packet ? decode<ZygoteAnswer>(packet->message) : std::nullopt;
    if (!told) {  // a shim that it may have forked all the same sees the end of its link and leaves
        end();
        errno = std::exchange(has_answered_, false) ? EAGAIN : ECHILD;
        return std::nullopt;
    }
    has_answered_ = true;
    const auto& forked = std::get<Forked>(*told);
    if (forked.error != 0) {
        errno = forked.error;
        return std::nullopt;
    }
    if (packet->descriptors.size() != 1) {  // no descriptor is left here: nobody would notice its end
        kill(forked.pid, SIGKILL);          // without its Spec it has done nothing
        waitpid(forked.pid, nullptr, 0);
        errno = EMFILE;
        return std::nullopt;
    }
    return SpawnedShim{forked.pid, std::move(packet->descriptors.front()), ShimLink{std::move(ours)}};
}

}  // namespace stargate::local
