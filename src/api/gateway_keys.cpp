#include "api/gateway_keys.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/secret_rows.hpp"
#include "base/file.hpp"

namespace stargate::api {

namespace {
constexpr Bytes most_bytes{8 << 20};
constexpr std::size_t most_keys = 10'000;
}  // namespace

Result<GatewayKeys> GatewayKeys::open(const std::string& state_folder) {
    GatewayKeys keys;
    keys.file_ = state_folder + "/gateway-keys";
    const auto read =
        read_secret_rows(keys.file_, most_bytes, "make a new key in its place: stargate token create --gateway",
                         [&](const Digest& digest, std::istringstream& words) {
                             Key key;
                             key.digest = digest;
                             words >> key.tenant >> key.name;
                             keys.keys_.push_back(key);
                             return !words.fail();
                         });
    if (!read) return tl::unexpected<Error>(read.error());
    return keys;
}

Result<std::string> GatewayKeys::make(const std::string& name, const std::string& tenant) {
    if (keys_.size() >= most_keys) {
        return fail(Fault::full, "there are 10,000 gateway keys already; revoke some: stargate token list");
    }
    auto secret = "sk-stargate-" + hex_of(random_bytes());
    auto next = keys_;
    next.push_back({digest_of(secret), name, tenant});
    if (auto kept = keep(std::move(next)); !kept) return tl::unexpected<Error>(kept.error());
    return secret;
}

Result<bool> GatewayKeys::revoke(const std::string& id) {
    auto next = keys_;
    if (std::erase_if(next, [&](const Key& key) { return key.id() == id; }) == 0) return false;
    if (auto kept = keep(std::move(next)); !kept) return tl::unexpected<Error>(kept.error());
    return true;
}

void GatewayKeys::on_change(std::function<void(const std::vector<Key>&)> told) {
    told_ = std::move(told);
    if (told_) told_(keys_);
}

Result<void> GatewayKeys::keep(std::vector<Key> next) {
    std::string text;
    for (const auto& key : next) text += fmt::format("{} {} {}\n", hex_of(key.digest), key.tenant, key.name);
    if (auto written = write_durably(file_, text); !written) return written;
    keys_ = std::move(next);
    if (told_) told_(keys_);
    return {};
}

}  // namespace stargate::api
