#include "engine/local/shim/links.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/local/attempt_folder.hpp"

namespace stargate::local {

namespace {
/// Two control planes at most speak at a time (one that hangs, one that takes over); the rest is room for curiosity.
constexpr std::size_t most_links = 4;

bool may_connect(int socket) {
    ucred peer{};
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}
}  // namespace

void Links::adopt(Fd link, FrameReader reader) { links_.push_back({std::move(link), std::move(reader), true}); }

bool Links::listen() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_name, std::strlen(socket_name) + 1);
    door_ = Fd{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const auto before = umask(0177);  // the shim's own is 0, and who may connect has its uid
    const bool is_bound = door_ && bind(door_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    umask(before);
    return is_bound && ::listen(door_.get(), static_cast<int>(most_links)) == 0;
}

void Links::list(std::vector<pollfd>& polled) const {
    polled.push_back({door_.get(), POLLIN, 0});  // -1 is passed over
    for (const auto& link : links_) polled.push_back({link.socket.get(), POLLIN, 0});
}

void Links::take_ready(const std::vector<pollfd>& polled, std::size_t first,
                       const std::function<bool(const Order&)>& obey) {
    const auto known = links_.size();
    for (std::size_t i = 0; i < known; ++i) {
        if (polled[first + 1 + i].revents != 0) read_from(links_[i], obey);
    }
    if (polled[first].revents != 0) accept_one();
    std::erase_if(links_, [](const Link& link) { return !link.socket; });
}

void Links::accept_one() {
    Fd socket{accept4(door_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket || links_.size() >= most_links || !may_connect(socket.get())) return;
    links_.push_back({std::move(socket), {}, false});
}

void Links::read_from(Link& link, const std::function<bool(const Order&)>& obey) {
    char bytes[4096];
    const auto got = recv(link.socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return link.socket.reset();
    link.reader.append({bytes, static_cast<std::size_t>(got)});
    obey_frames(link, obey);
}

void Links::take_early(const std::function<bool(const Order&)>& obey) {
    for (auto& link : links_) obey_frames(link, obey);
}

void Links::obey_frames(Link& link, const std::function<bool(const Order&)>& obey) {
    while (const auto payload = link.reader.next()) {
        const auto order = decode<Order>(*payload);
        if (!order) return link.socket.reset();
        // A listener before it is obeyed: what the order brings about is told to the one that gave it.
        const bool was_listener = std::exchange(link.is_listener, true);
        if (!obey(*order)) {
            // Outranked was told while it could hear; a stranger hears no more.
            link.is_listener = was_listener;
        }
        if (!link.socket) return;
    }
    if (link.reader.is_broken()) link.socket.reset();
}

bool Links::send(Link& link, const Answer& answer) {
    const auto bytes = frame(encode(answer));
    return ::send(link.socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           static_cast<ssize_t>(bytes.size());
}

void Links::tell(const Answer& answer) {
    for (auto& link : links_) {
        if (link.socket && link.is_listener && !send(link, answer)) link.socket.reset();
    }
}

bool Links::has_listener() const {
    return std::any_of(links_.begin(), links_.end(), [](const Link& link) { return link.socket && link.is_listener; });
}

}  // namespace stargate::local
