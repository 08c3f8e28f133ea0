#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

/// What control plane and gateway say to each other, one JSON object a line: docs/gateway-protocol.md. Members are
/// named as on the wire; what is missing has its default.
namespace stargate::gateway {

enum class ReplicaState : std::uint8_t { serving, starting };
BOOST_DESCRIBE_ENUM(ReplicaState, serving, starting)

/// A server that answers for a service.
struct ReplicaEntry {
    std::uint64_t id = 0;  // the attempt's, never used again
    std::string host;      // a name or a numeric address
    std::uint16_t port = 0;
    ReplicaState state = ReplicaState::starting;
    std::uint32_t telling = 0;  // how often it has been told to sleep or to wake: who wakes begins anew
    friend bool operator==(const ReplicaEntry&, const ReplicaEntry&) = default;
};
BOOST_DESCRIBE_STRUCT(ReplicaEntry, (), (id, host, port, state, telling))

struct ServiceEntry {
    std::string name;                     // the model that clients ask for
    std::string tenant;                   // whose it is: a path, as `lab/nlp`
    std::string model;                    // what goes upstream
    std::int64_t slo_ms = 0;              // to the first token; 0: none
    std::int32_t max_concurrency = 8;     // requests at once, for each replica
    std::int64_t queue_requests = 1'000;  // that may wait
    Bytes queue_bytes = mebibytes(64);    // of what they ask
    std::vector<ReplicaEntry> replicas;
    friend bool operator==(const ServiceEntry&, const ServiceEntry&) = default;
};
BOOST_DESCRIBE_STRUCT(ServiceEntry, (),
                      (name, tenant, model, slo_ms, max_concurrency, queue_requests, queue_bytes, replicas))

struct KeyEntry {
    std::string id;
    std::string tenant;
    Digest digest{};  // digest_of() the secret
    friend bool operator==(const KeyEntry&, const KeyEntry&) = default;
};
BOOST_DESCRIBE_STRUCT(KeyEntry, (), (id, tenant, digest))

// Orders: from the control plane.

/// First on each link.
struct TakeOffice {
    static constexpr std::string_view type = "hello";
    std::string incarnation;
    std::uint64_t term = 0;
    friend bool operator==(const TakeOffice&, const TakeOffice&) = default;
};
BOOST_DESCRIBE_STRUCT(TakeOffice, (), (incarnation, term))

/// All of it: replaces what there was.
struct WholeTable {
    static constexpr std::string_view type = "table";
    std::uint64_t version = 0;
    std::vector<ServiceEntry> services;
    std::vector<KeyEntry> keys;
    friend bool operator==(const WholeTable&, const WholeTable&) = default;
};
BOOST_DESCRIBE_STRUCT(WholeTable, (), (version, services, keys))

/// Follows on version - 1.
struct Change {
    static constexpr std::string_view type = "change";
    std::uint64_t version = 0;
    std::vector<ServiceEntry> services;  // are so now
    std::vector<std::string> drop;       // names of services that are gone
    std::vector<KeyEntry> keys;          // are so now
    std::vector<std::string> revoke;     // ids of keys that are gone
    friend bool operator==(const Change&, const Change&) = default;
};
BOOST_DESCRIBE_STRUCT(Change, (), (version, services, drop, keys, revoke))

/// Follows on version - 1. The replica is out of the table, and what it still has is cut at the deadline.
struct Withdraw {
    static constexpr std::string_view type = "withdraw";
    std::uint64_t version = 0;
    std::uint64_t replica = 0;
    std::int64_t deadline_ms = 0;  // from when this is read
    friend bool operator==(const Withdraw&, const Withdraw&) = default;
};
BOOST_DESCRIBE_STRUCT(Withdraw, (), (version, replica, deadline_ms))

using Order = std::variant<TakeOffice, WholeTable, Change, Withdraw>;

// Reports: from the gateway.

/// First on each link: whom it obeyed last, and up to which version it has the table.
struct Introduction {
    static constexpr std::string_view type = "hello";
    std::string boot;  // one life of a gateway
    std::int64_t pid = 0;
    std::string listen;  // HOST:PORT where it serves
    std::string incarnation;
    std::uint64_t term = 0;
    std::uint64_t version = 0;
    std::uint64_t services = 0;  // that its table has
    friend bool operator==(const Introduction&, const Introduction&) = default;
};
BOOST_DESCRIBE_STRUCT(Introduction, (), (boot, pid, listen, incarnation, term, version, services))

/// All requests from now on see this version.
struct Have {
    static constexpr std::string_view type = "have";
    std::uint64_t version = 0;
    friend bool operator==(const Have&, const Have&) = default;
};
BOOST_DESCRIBE_STRUCT(Have, (), (version))

/// Nothing new goes to that replica; so many are under way.
struct Draining {
    static constexpr std::string_view type = "draining";
    std::uint64_t replica = 0;
    std::int64_t in_flight = 0;
    friend bool operator==(const Draining&, const Draining&) = default;
};
BOOST_DESCRIBE_STRUCT(Draining, (), (replica, in_flight))

/// None is left there: it may be put to sleep or ended.
struct Drained {
    static constexpr std::string_view type = "drained";
    std::uint64_t replica = 0;
    friend bool operator==(const Drained&, const Drained&) = default;
};
BOOST_DESCRIBE_STRUCT(Drained, (), (replica))

/// How a service stands.
struct ServiceDemand {
    std::string name;
    std::int64_t queued = 0;
    std::int64_t queued_tokens = 0;     // estimated: prompts and answers
    std::int64_t in_flight = 0;         // at replicas
    std::int64_t in_flight_tokens = 0;  // estimated, still to be computed
    std::uint64_t arrived = 0;          // since the boot
    std::uint64_t rejected = 0;         // since the boot: 429 and 503
    std::int64_t oldest_ms = 0;         // that the one that waits longest has waited
    bool over_limit = false;
    std::int64_t wanted_tokens_per_s = 0;   // that answers are asked to have, of late
    std::int64_t replica_tokens_per_s = 0;  // that a replica gives while it is full; 0: not known
    friend bool operator==(const ServiceDemand&, const ServiceDemand&) = default;
};
BOOST_DESCRIBE_STRUCT(ServiceDemand, (),
                      (name, queued, queued_tokens, in_flight, in_flight_tokens, arrived, rejected, oldest_ms,
                       over_limit, wanted_tokens_per_s, replica_tokens_per_s))

struct Demand {
    static constexpr std::string_view type = "demand";
    std::uint64_t seq = 0;  // rises within a boot
    std::vector<ServiceDemand> services;
    friend bool operator==(const Demand&, const Demand&) = default;
};
BOOST_DESCRIBE_STRUCT(Demand, (), (seq, services))

/// What has been seen of replicas since this was told last: who has given something of a good answer, and who said that
/// it sleeps.
struct Seen {
    static constexpr std::string_view type = "seen";
    std::vector<std::uint64_t> answered;
    std::vector<std::uint64_t> asleep;
    friend bool operator==(const Seen&, const Seen&) = default;
};
BOOST_DESCRIBE_STRUCT(Seen, (), (answered, asleep))

/// The first of a good answer has come from that replica, since it is told in the table with this `telling`.
struct FirstAnswer {
    static constexpr std::string_view type = "first_answer";
    std::uint64_t replica = 0;
    std::uint32_t telling = 0;
    friend bool operator==(const FirstAnswer&, const FirstAnswer&) = default;
};
BOOST_DESCRIBE_STRUCT(FirstAnswer, (), (replica, telling))

/// An order was not obeyed.
struct Refused {
    static constexpr std::string_view type = "refused";
    std::string why;
    friend bool operator==(const Refused&, const Refused&) = default;
};
BOOST_DESCRIBE_STRUCT(Refused, (), (why))

using Report = std::variant<Introduction, Have, Draining, Drained, Demand, Refused, Seen, FirstAnswer>;

/// One line, without its end.
[[nodiscard]] std::string to_line(const Order& order);
[[nodiscard]] std::string to_line(const Report& report);

/// What a newer side says and we do not know.
struct UnknownType {};

/// Fault::malformed when the line is no such object: the link ends. Unknown members are passed over.
[[nodiscard]] Result<std::variant<Order, UnknownType>> read_order(std::string_view line);
[[nodiscard]] Result<std::variant<Report, UnknownType>> read_report(std::string_view line);

}  // namespace stargate::gateway
