#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>

#include "gateway/errand.hpp"
#include "gateway/messages.hpp"
#include "gateway/pace.hpp"
#include "net/client.hpp"

namespace stargate::gateway {

/// A server that answers for a service, as long as the table knows it or requests are there.
struct Replica {
    ReplicaEntry entry;
    std::shared_ptr<net::Client> client;
    std::int64_t in_flight = 0;
    std::int64_t tokens = 0;      // estimated, still to be computed
    std::set<Errand*> errands{};  // that it has
    FullTime full{};
    std::int32_t failures = 0;        // in a row: while there are any, it is tried with one request at a time
    std::int64_t rests_until_us = 0;  // failed or asleep: it is not asked before

    bool has_answered = false;                        // something of a good answer, since that was told last
    std::optional<std::uint32_t> answered_telling{};  // at which it had answered first, when it last did
    bool said_asleep = false;                         // the same of a refusal because it sleeps

    [[nodiscard]] bool is_serving() const { return entry.state == ReplicaState::serving; }
    [[nodiscard]] bool has_room(std::int32_t max_concurrency, std::int64_t now_us) const {
        if (!is_serving() || now_us < rests_until_us) return false;
        return in_flight < (failures > 0 ? 1 : max_concurrency);
    }
};

}  // namespace stargate::gateway
