#pragma once

#include "api/budget.hpp"

namespace stargate::api {

/// How many connections may be open at once. The unix socket has places of its own, so that nobody who comes over TCP
/// can take them; and one person cannot take all of the socket's.
struct PlaceLimits {
    int unix_socket = 4'096;  // a descriptor and some 20 kB each
    int tcp = 1'024;          // that have shown a token
    int unknown = 64;         // over TCP, before a token was seen: the oldest makes room
    int of_one_user = 1'024;  // of each kind; operators are not counted
    int for_operators = 64;   // of each kind, the last ones
};

/// Who has taken how many. Used by one thread.
class Places {
public:
    explicit Places(PlaceLimits limits)
        : unix_socket_{{limits.unix_socket, limits.of_one_user, limits.for_operators}},
          tcp_{{limits.tcp, limits.of_one_user, limits.for_operators}},
          unknown_limit_{limits.unknown} {}

    /// A place for a caller that is known by now; false when there is none left for it.
    [[nodiscard]] bool take(const Caller& caller) { return of_kind(caller).take(caller, 1); }
    void leave(const Caller& caller) { of_kind(caller).give_back(caller, 1); }
    [[nodiscard]] int unknown_limit() const { return unknown_limit_; }

private:
    [[nodiscard]] Budget& of_kind(const Caller& caller) { return caller.is_local ? unix_socket_ : tcp_; }

    Budget unix_socket_;
    Budget tcp_;
    int unknown_limit_;
};

}  // namespace stargate::api
