#include "engine/local/packet.hpp"

#include <sys/socket.h>

#include <cstring>

namespace stargate::local {

namespace {
constexpr std::size_t longest_packet = 16 << 10;  // a sentence and a few numbers
constexpr std::size_t most_descriptors = 128;     // two a rank, a rank a GPU (kernel: 253 a message)
}  // namespace

PacketPair make_packet_pair() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return {};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

bool send_packet(int link, const std::string& message, const std::vector<int>& descriptors) {
    alignas(cmsghdr) char beside[CMSG_SPACE(most_descriptors * sizeof(int))];
    iovec part{const_cast<char*>(message.data()), message.size()};
    msghdr packet{};
    packet.msg_iov = &part;
    packet.msg_iovlen = 1;
    if (descriptors.size() > most_descriptors) return false;
    if (!descriptors.empty()) {
        const auto length = descriptors.size() * sizeof(int);
        packet.msg_control = beside;
        packet.msg_controllen = CMSG_SPACE(length);
        cmsghdr* head = CMSG_FIRSTHDR(&packet);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(length);
        std::memcpy(CMSG_DATA(head), descriptors.data(), length);
    }
    return sendmsg(link, &packet, MSG_NOSIGNAL) == static_cast<ssize_t>(message.size());
}

std::optional<Packet> receive_packet(int link, bool& closed) {
    char text[longest_packet];
    alignas(cmsghdr) char beside[CMSG_SPACE(most_descriptors * sizeof(int))];
    iovec part{text, sizeof text};
    msghdr packet{};
    packet.msg_iov = &part;
    packet.msg_iovlen = 1;
    packet.msg_control = beside;
    packet.msg_controllen = sizeof beside;
    const auto got = recvmsg(link, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        closed = got == 0 || (errno != EAGAIN && errno != EINTR);
        return std::nullopt;
    }
    Packet received;
    received.message.assign(text, static_cast<std::size_t>(got));
    for (cmsghdr* head = CMSG_FIRSTHDR(&packet); head != nullptr; head = CMSG_NXTHDR(&packet, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
        const auto count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(head) + i * sizeof(int), sizeof number);
            received.descriptors.emplace_back(number);
        }
    }
    return received;
}

}  // namespace stargate::local
