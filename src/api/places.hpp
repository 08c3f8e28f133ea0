#pragma once

#include <cstdint>
#include <map>

#include "api/http.hpp"

namespace stargate::api {

/// How many connections may be open at once. The unix socket has places of its own, so that nobody who comes over TCP
/// can take them; and one person cannot take all of a kind.
struct PlaceLimits {
    int unix_socket = 4'096;  // a descriptor and some 20 kB each
    int tcp = 1'024;          // that have shown a token
    int unknown = 64;         // over TCP, before a token was seen: the oldest makes room
    int of_one_user = 1'024;  // of either kind; operators are not counted
};

/// Who has taken how many. Used by one thread.
class Places {
public:
    explicit Places(PlaceLimits limits) : limits_{limits} {}

    /// A place for a caller that is known by now; false when there is none left for it.
    [[nodiscard]] bool take(const Caller& caller) {
        auto& kind = caller.is_local ? unix_socket_ : tcp_;
        auto& own = of_user_[caller.uid];
        const bool has_enough = !caller.is_operator && own >= limits_.of_one_user;
        if (has_enough || kind >= (caller.is_local ? limits_.unix_socket : limits_.tcp)) {
            if (own == 0) of_user_.erase(caller.uid);
            return false;
        }
        ++kind;
        ++own;
        return true;
    }
    void leave(const Caller& caller) {
        --(caller.is_local ? unix_socket_ : tcp_);
        const auto own = of_user_.find(caller.uid);
        if (--own->second == 0) of_user_.erase(own);
    }
    [[nodiscard]] int unknown_limit() const { return limits_.unknown; }

private:
    PlaceLimits limits_;
    int unix_socket_ = 0;
    int tcp_ = 0;
    std::map<std::uint32_t, int> of_user_;
};

}  // namespace stargate::api
