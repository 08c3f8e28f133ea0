#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"

namespace stargate::api {

/// What clients show to the gateway: each key is of a tenant, and opens nothing else. Kept as digests in
/// STATE/gateway-keys. Used by one thread.
class GatewayKeys {
public:
    struct Key {
        Digest digest{};
        std::string name;
        std::string tenant;
        [[nodiscard]] std::string id() const { return hex_of(digest).substr(0, 12); }
    };
    [[nodiscard]] static Result<GatewayKeys> open(const std::string& state_folder);

    /// A new key of this tenant. It is shown once and cannot be read again. Fault::full beyond 10,000.
    [[nodiscard]] Result<std::string> make(const std::string& name, const std::string& tenant);
    /// False when there is none of this id.
    [[nodiscard]] Result<bool> revoke(const std::string& id);
    [[nodiscard]] const std::vector<Key>& all() const { return keys_; }  // oldest first
    /// Called at once, and whenever they change.
    void on_change(std::function<void(const std::vector<Key>&)> told);

private:
    /// Keeps `next` once it is on the disk.
    [[nodiscard]] Result<void> keep(std::vector<Key> next);

    std::string file_;
    std::vector<Key> keys_;
    std::function<void(const std::vector<Key>&)> told_;
};

}  // namespace stargate::api
