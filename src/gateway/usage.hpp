#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"

/// What tenants have used, in a file of the gateway's boot that outlives it: STATE/usage/BOOT. Little endian.
///   head, 256 bytes   "SGUSAGE1" · u32 version 1 · u32 bytes of a record, 320 · u64 records in use · char boot[64]
///   record, 320 bytes char tenant[128] · char service[128] · u64 requests, prompt_tokens, completion_tokens,
///                     interrupted, interrupted_tokens, in_flight, and two that are not used
/// Texts end with a zero byte, or fill their place. Counters are absolute and only rise, in_flight aside; each is
/// written whole. A record is counted as in use when its names are there. The first record, without names, counts
/// whoever has no room of his own: it is all zero while the disk is not full.
namespace stargate::gateway {

/// Of one tenant at one service, since the boot.
struct UsageCounters {
    std::uint64_t requests = 0;            // that were answered, in part or whole
    std::uint64_t prompt_tokens = 0;       // as the replica told; of interrupted ones, estimated
    std::uint64_t completion_tokens = 0;   // the same; of interrupted ones, a token for each delta of the stream
    std::uint64_t interrupted = 0;         // requests among these whose end the replica never told
    std::uint64_t interrupted_tokens = 0;  // completion tokens among these that were counted from deltas
    std::uint64_t in_flight = 0;           // requests at replicas now; what was here when a gateway died is lost
    friend bool operator==(const UsageCounters&, const UsageCounters&) = default;
};

struct UsageRecord {
    std::string tenant;
    std::string service;
    UsageCounters counters;
    friend bool operator==(const UsageRecord&, const UsageRecord&) = default;
};

struct UsageRead {
    std::string boot;
    std::vector<UsageRecord> records;
};

/// Also while a gateway writes it. Fault::malformed when it is no such file.
[[nodiscard]] Result<UsageRead> read_usage(const std::string& path);

/// The file of a gateway that runs. One thread; another one syncs it, every second while there is something new.
class UsageBook {
public:
    /// Makes the file. folder  is made too.
    [[nodiscard]] static Result<std::unique_ptr<UsageBook>> open(const std::string& folder, const std::string& boot);
    UsageBook(const UsageBook&) = delete;
    UsageBook& operator=(const UsageBook&) = delete;
    /// Syncs for the last time.
    ~UsageBook();

    /// Names a tenant's use of a service, for ever.
    using Account = std::size_t;
    [[nodiscard]] Account account(const std::string& tenant, const std::string& service);

    void began(Account account);
    /// One that began has come to nothing: it is tried elsewhere, or was refused.
    void came_to_nothing(Account account);
    struct Answer {
        std::int64_t prompt_tokens = 0;
        std::int64_t completion_tokens = 0;
        bool is_interrupted = false;
    };
    void ended(Account account, const Answer& answer);

    struct Impl;

private:
    explicit UsageBook(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace stargate::gateway
