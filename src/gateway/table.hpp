#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/messages.hpp"

namespace stargate::gateway {

/// Which services a tenant may ask: its own, its ancestors', and those of `default`.
[[nodiscard]] bool may_use(std::string_view tenant, std::string_view service_tenant);

/// What the control plane has told: services by name, keys by the digest of their secret.
class Table {
public:
    /// All of it anew.
    void take(const WholeTable& whole);
    /// False, and nothing is changed, when it does not follow on what we have.
    [[nodiscard]] bool take(const Change& change);
    /// The same. A replica that we do not know is no matter.
    [[nodiscard]] bool take(const Withdraw& withdraw);

    [[nodiscard]] std::uint64_t version() const { return version_; }
    [[nodiscard]] bool is_empty() const { return services_.empty() && keys_.empty(); }
    [[nodiscard]] const std::map<std::string, ServiceEntry, std::less<>>& services() const { return services_; }
    /// nullptr for a secret that is no key's.
    [[nodiscard]] const KeyEntry* key_of(std::string_view secret) const;

private:
    struct DigestHash {
        std::size_t operator()(const Digest& digest) const;
    };
    void put(const KeyEntry& key);
    void revoke(const std::string& id);

    std::uint64_t version_ = 0;
    std::map<std::string, ServiceEntry, std::less<>> services_;
    std::unordered_map<Digest, KeyEntry, DigestHash> keys_;
    std::unordered_map<std::string, Digest> digests_;  // of keys, by id
};

}  // namespace stargate::gateway
