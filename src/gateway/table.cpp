#include "gateway/table.hpp"

#include <cstring>

namespace stargate::gateway {

bool may_use(std::string_view tenant, std::string_view service_tenant) {
    constexpr std::string_view everybodys = "default";
    if (service_tenant == everybodys || service_tenant == tenant) return true;
    return tenant.size() > service_tenant.size() && tenant.starts_with(service_tenant) &&
           tenant[service_tenant.size()] == '/';
}

std::size_t Table::DigestHash::operator()(const Digest& digest) const {
    std::size_t hash = 0;
    std::memcpy(&hash, digest.data(), sizeof hash);
    return hash;
}

void Table::take(const WholeTable& whole) {
    version_ = whole.version;
    services_.clear();
    keys_.clear();
    digests_.clear();
    for (const auto& service : whole.services) services_[service.name] = service;
    for (const auto& key : whole.keys) put(key);
}

bool Table::take(const Change& change) {
    if (change.version != version_ + 1) return false;
    version_ = change.version;
    for (const auto& name : change.drop) services_.erase(name);
    for (const auto& service : change.services) services_[service.name] = service;
    for (const auto& id : change.revoke) revoke(id);
    for (const auto& key : change.keys) put(key);
    return true;
}

bool Table::take(const Withdraw& withdraw) {
    if (withdraw.version != version_ + 1) return false;
    version_ = withdraw.version;
    for (auto& [name, service] : services_) {
        std::erase_if(service.replicas, [&](const ReplicaEntry& replica) { return replica.id == withdraw.replica; });
    }
    return true;
}

const KeyEntry* Table::key_of(std::string_view secret) const {
    const auto found = keys_.find(digest_of(secret));
    return found == keys_.end() ? nullptr : &found->second;
}

void Table::put(const KeyEntry& key) {
    revoke(key.id);
    if (const auto same = keys_.find(key.digest); same != keys_.end()) digests_.erase(same->second.id);
    digests_[key.id] = key.digest;
    keys_[key.digest] = key;
}

void Table::revoke(const std::string& id) {
    const auto found = digests_.find(id);
    if (found == digests_.end()) return;
    keys_.erase(found->second);
    digests_.erase(found);
}

}  // namespace stargate::gateway
