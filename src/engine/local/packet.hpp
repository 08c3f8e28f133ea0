#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/local/posix.hpp"

// Messages over a SOCK_SEQPACKET pair, with descriptors beside them.
namespace stargate::local {

/// A pair of connected ends. Empty with errno.
struct PacketPair {
    Fd ours;
    Fd theirs;
};
[[nodiscard]] PacketPair make_packet_pair();

bool send_packet(int link, const std::string& message, const std::vector<int>& descriptors = {});

/// One message and the descriptors beside it. Nothing when none has come; `closed` is set at the end of the link.
struct Packet {
    std::string message;
    std::vector<Fd> descriptors;
};
[[nodiscard]] std::optional<Packet> receive_packet(int link, bool& closed);

}  // namespace stargate::local
