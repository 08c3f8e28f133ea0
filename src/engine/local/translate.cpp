#include "engine/local/translate.hpp"

#include "engine/local/posix.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <boost/describe/enum_to_string.hpp>

namespace stargate::local {

namespace {

template <class Theirs, class Ours>
constexpr bool is_same(Theirs theirs, Ours ours) {
    return static_cast<int>(theirs) == static_cast<int>(ours);
}
static_assert(is_same(EndKind::exited, ExitKind::exited) && is_same(EndKind::signalled, ExitKind::signalled) &&
              is_same(EndKind::could_not_start, ExitKind::could_not_start) &&
              is_same(EndKind::refused, ExitKind::refused) && is_same(EndKind::killed, ExitKind::killed));
static_assert(is_same(Confinement::none, Sandbox::none) && is_same(Confinement::standard, Sandbox::standard) &&
              is_same(Confinement::strict, Sandbox::strict));

RunAs run_as(const Account& account) {
    return {account.uid, account.gid, account.groups, account.name, account.home, account.shell};
}

/// A port of the loopback that nobody listens on now, for the ranks to meet at; 0 when there is none.
int free_port() {
    const Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(socket.get(), generic, length) != 0 || ::getsockname(socket.get(), generic, &length) != 0) return 0;
    return ntohs(address.sin_port);
}

}  // namespace

Speaker speaker_of(const Authority& authority) { return {authority.incarnation, authority.term}; }

Run run_of(const RunRanks& command, const Speaker& by) {
    return {.by = by,
            .generation = command.generation,
            .gpus = command.gpus,
            .first_rank = command.first_rank,
            .ranks = command.ranks,
            .world_size = command.world_size,
            .task = command.task,
            .port = command.port != 0 || command.world_size == 1 ? command.port : free_port()};
}

End end_of(const EndRanks& command, Instant now, const Speaker& by) {
    // Saturating: a deadline may be Instant::max.
    const auto left = command.deadline <= now ? Duration{0} : command.deadline - std::max(now, Instant{});
    return {.by = by,
            .generation = command.generation,
            .cause = boost::describe::enum_to_string(command.cause, "unknown"),
            .keep = command.keep,
            .next_world = command.next_world,
            .grace_us = left.count()};
}

Spec spec_of(const RunRanks& command, const Launch& launch, const Speaker& by) {
    Spec spec;
    spec.attempt = command.attempt.value;
    spec.job = command.job.value;
    spec.name = launch.name;
    spec.output_limit = launch.output_limit.count();
    spec.argv = launch.argv;
    spec.command = launch.shell;
    spec.folder = launch.folder;
    spec.environment = launch.env;
    for (auto& variable : launch.swept(command.task)) spec.environment.push_back(std::move(variable));
    if (command.port != 0) spec.environment.emplace_back("PORT", std::to_string(command.port));  // a replica's
    spec.keep_environment = launch.keep_environment;
    for (const auto& mount : launch.mounts) spec.mounts.push_back({mount.source, mount.target, mount.read_only});
    spec.account = run_as(launch.account);
    spec.confinement = static_cast<Confinement>(launch.sandbox);
    spec.resize_in_place = launch.resize_in_place;
    spec.checkpoint_folder = launch.checkpoint_folder;
    spec.first = run_of(command, by);
    const auto times = std::max(1, std::popcount(command.gpus));
    spec.milli_cpus_per_gpu = command.cpus.count() / times;
    spec.bytes_per_gpu = command.memory.count() / times;
    spec.grace_us = launch.grace.count();
    spec.terminal = launch.terminal;
    return spec;
}

RanksEnded report_of(const Ended& ended, AttemptId attempt, NodeId node) {
    return {.attempt = attempt,
            .node = node,
            .generation = ended.generation,
            .exit = {.kind = static_cast<ExitKind>(ended.kind), .code = ended.code, .detail = ended.detail},
            .warned = ended.warned,
            .step = ended.step,
            .left = ended.left,
            .cancelled = ended.cancelled};
}

}  // namespace stargate::local
