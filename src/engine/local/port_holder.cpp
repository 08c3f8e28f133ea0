#include "engine/local/port_holder.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/posix.hpp"
#include "engine/local/attempt_records.hpp"

namespace stargate {

namespace {

using namespace local;

constexpr int listening = 10;  // TCP_LISTEN, which <netinet/tcp.h> and <linux/tcp.h> both have, but not together

/// Whether a connection to 127.0.0.1 may end at a socket that is bound to this. One for IPv6 alone is counted too: the
/// kernel does not say that of it to everyone.
bool takes_loopback(const inet_diag_msg& socket) {
    const auto* words = socket.id.idiag_src;
    if (socket.idiag_family == AF_INET) return words[0] == 0 || words[0] == htonl(INADDR_LOOPBACK);
    const bool is_mapped = words[0] == 0 && words[1] == 0 && words[2] == htonl(0xFFFF);
    const bool is_any = words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == 0;
    return is_any || (is_mapped && (words[3] == 0 || words[3] == htonl(INADDR_LOOPBACK)));
}

Result<void> ask_kernel(int link, std::uint8_t family, std::int32_t port) {
    struct Question {
        nlmsghdr head;
        inet_diag_req_v2 what;
    } question{};
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    question.what.sdiag_family = family;
    question.what.sdiag_protocol = IPPROTO_TCP;
    question.what.idiag_states = 1U << listening;
    question.what.id.idiag_sport = htons(static_cast<std::uint16_t>(port));
    if (::send(link, &question, sizeof question, 0) < 0) return fail_with_errno("ask the kernel about", "sockets");
    return {};
}

/// Reads until the kernel has told all.
Result<void> read_answer(int link, std::int32_t port, std::vector<ListeningSocket>& found) {
    alignas(nlmsghdr) std::array<char, 32 << 10> bytes{};
    while (true) {
        const auto got = ::recv(link, bytes.data(), bytes.size(), 0);
        if (got < 0) return fail_with_errno("hear from the kernel about", "sockets");
        auto left = static_cast<unsigned>(got);
        for (const auto* head = reinterpret_cast<nlmsghdr*>(bytes.data()); NLMSG_OK(head, left);
             head = NLMSG_NEXT(head, left)) {
            if (head->nlmsg_type == NLMSG_DONE) return {};
            if (head->nlmsg_type == NLMSG_ERROR) {
                errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(head))->error;
                return fail_with_errno("hear from the kernel about", "sockets");
            }
            if (head->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
            const auto& socket = *static_cast<const inet_diag_msg*>(NLMSG_DATA(head));
            const bool is_there = socket.idiag_state == listening && ntohs(socket.id.idiag_sport) == port;
            if (is_there && takes_loopback(socket)) found.push_back({socket.idiag_inode, socket.idiag_uid});
        }
        if (got == 0) return {};
    }
}

std::optional<int> number_of(const char* text) {
    int number = 0;
    const auto* end = text + std::strlen(text);
    const auto read = std::from_chars(text, end, number);
    return read.ec == std::errc{} && read.ptr == end ? std::optional{number} : std::nullopt;
}

/// Calls with each name in the folder; false when it cannot be read.
bool for_each_in(const std::string& folder, const std::function<void(const char*)>& visit) {
    const std::unique_ptr<DIR, int (*)(DIR*)> listing{::opendir(folder.c_str()), ::closedir};
    if (!listing) return false;
    while (const dirent* found = ::readdir(listing.get())) visit(found->d_name);
    return true;
}

std::string proc_of(int pid) { return "/proc/" + std::to_string(pid); }

/// What stands in /proc/PID/stat after the program's name, which may hold anything.
int parent_of(int pid) {
    const auto text = read_kernel_file((proc_of(pid) + "/stat").c_str());
    const auto name_ends = text.rfind(')');
    constexpr std::size_t to_parent = 4;  // ") S "
    if (name_ends == std::string::npos || name_ends + to_parent >= text.size()) return 0;
    int parent = 0;
    std::from_chars(text.data() + name_ends + to_parent, text.data() + text.size(), parent);
    return parent;
}

/// All processes that descend from this one, and at the front itself.
std::vector<int> family_of(int ancestor) {
    std::multimap<int, int> children;
    for_each_in("/proc", [&](const char* name) {
        if (const auto pid = number_of(name)) children.emplace(parent_of(*pid), *pid);
    });
    std::vector<int> family{ancestor};
    for (std::size_t i = 0; i < family.size(); ++i) {
        const auto [from, to] = children.equal_range(family[i]);
        for (auto child = from; child != to; ++child) family.push_back(child->second);
    }
    return family;
}

/// The sockets that the process has open, by inode; nothing when we may not look.
std::optional<std::vector<std::uint32_t>> sockets_of(int pid) {
    std::vector<std::uint32_t> inodes;
    const auto folder = proc_of(pid) + "/fd";
    bool is_closed = false;  // root may list what it may not look at
    const bool could = for_each_in(folder, [&](const char* name) {
        if (name[0] == '.') return;
        std::array<char, 64> link{};
        const auto length = ::readlink((folder + "/" + name).c_str(), link.data(), link.size() - 1);
        is_closed = is_closed || (length < 0 && (errno == EACCES || errno == EPERM));
        constexpr std::string_view prefix = "socket:[";
        const std::string_view target{link.data(), length < 0 ? 0 : static_cast<std::size_t>(length)};
        if (!target.starts_with(prefix)) return;
        std::uint32_t inode = 0;
        std::from_chars(target.data() + prefix.size(), target.data() + target.size(), inode);
        inodes.push_back(inode);
    });
    return could && !is_closed ? std::optional{std::move(inodes)} : std::nullopt;
}

std::optional<std::uint32_t> user_of(int pid) {
    struct stat status {};
    if (::stat(proc_of(pid).c_str(), &status) != 0) return std::nullopt;
    return status.st_uid;
}

/// The init of the ranks that run; 0 where none does.
int init_of(const std::string& state, AttemptId attempt) {
    const auto record = AttemptRecords{state, attempt.value}.shim();
    if (!record || record->boot_id != boot_id()) return 0;
    return is_alive(record->init.pid, record->init.start_ticks) ? record->init.pid : 0;
}

/// The first of these that no process of the family has. One into which we may not look may have those of its user; but
/// not the init, the family's first: it is ours, takes no connections, and hides from ordinary users as it executes
/// nothing in their namespace.
std::optional<ListeningSocket> stranger_among(const std::vector<ListeningSocket>& sockets,
                                              const std::vector<int>& family) {
    std::set<std::uint32_t> inodes;
    std::set<std::uint32_t> closed_users;  // into whose processes we may not look
    for (const auto pid : family) {
        if (const auto open = sockets_of(pid)) {
            inodes.insert(open->begin(), open->end());
        } else if (const auto user = user_of(pid); user && pid != family.front()) {
            closed_users.insert(*user);
        }
    }
    const auto found = std::find_if(sockets.begin(), sockets.end(), [&](const ListeningSocket& socket) {
        return !inodes.contains(socket.inode) && !closed_users.contains(socket.uid);
    });
    return found == sockets.end() ? std::nullopt : std::optional{*found};
}

}  // namespace

Result<std::vector<ListeningSocket>> listening_on(std::int32_t port) {
    const Fd link{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (!link) return fail_with_errno("ask the kernel about", "sockets");
    std::vector<ListeningSocket> found;
    for (const auto family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
        if (auto asked = ask_kernel(link.get(), family, port); !asked) return tl::unexpected(asked.error());
        if (auto heard = read_answer(link.get(), port, found); !heard) return tl::unexpected(heard.error());
    }
    return found;
}

std::string words_of(const ListeningSocket& socket, std::int32_t port) {
    std::string who = "a process";
    for_each_in("/proc", [&](const char* name) {
        const auto pid = number_of(name);
        if (!pid) return;
        const auto open = sockets_of(*pid);
        if (!open || std::find(open->begin(), open->end(), socket.inode) == open->end()) return;
        auto program = read_kernel_file((proc_of(*pid) + "/comm").c_str());
        while (program.ends_with('\n')) program.pop_back();
        who = program + " (pid " + std::to_string(*pid) + ")";
    });
    return who + " of user " + std::to_string(socket.uid) + " listens on port " + std::to_string(port) + " already";
}

PortHolder PortHolders::holder_of(AttemptId attempt, std::int32_t port) {
    const auto sockets = listening_on(port);
    if (!sockets) {
        if (!std::exchange(has_said_unseen_, true)) {
            std::fprintf(stderr,
                         "stargate: whose the ports of replicas are cannot be seen here (%s): whoever answers on "
                         "one counts as the replica\n",
                         sockets.error().detail.c_str());
        }
        return {PortHolder::Who::unseen, sockets.error().detail};
    }
    const std::set<ListeningSocket> now{sockets->begin(), sockets->end()};
    const auto proof = proved_.find(port);
    if (proof != proved_.end() && proof->second.attempt == attempt && proof->second.sockets == now) {
        return {PortHolder::Who::the_replica, {}};
    }
    proved_.erase(port);
    if (now.empty()) return {};
    const int init = init_of(state_, attempt);
    if (init == 0) return {};  // about to begin, or about to be over
    if (const auto stranger = stranger_among(*sockets, family_of(init))) {
        return {PortHolder::Who::somebody_else, words_of(*stranger, port)};
    }
    proved_[port] = {attempt, now};
    return {PortHolder::Who::the_replica, {}};
}

}  // namespace stargate
