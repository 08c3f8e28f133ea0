#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"

namespace stargate::api {

/// Who may come in over TCP. Tokens are kept as digests (STATE/tokens), except the owner's, which lies in STATE/token
/// for the owner's own tools to read. Used by one thread.
class Tokens {
public:
    /// Makes the owner's token at the first start.
    [[nodiscard]] static Result<Tokens> open(const std::string& state_folder);

    /// Nothing when no such token was ever given out.
    [[nodiscard]] std::optional<Caller> caller_of(std::string_view token) const;
    /// Whether the token of this id (Caller::token) is still good.
    [[nodiscard]] bool is_good(const std::string& id) const;
    /// A new token that acts as this uid. It is shown once and cannot be read again.
    [[nodiscard]] Result<std::string> make(const std::string& name, std::uint32_t uid, bool is_operator);

    struct Shown {
        std::string id;  // the first digits of its digest
        std::string name;
        std::uint32_t uid = 0;
        bool is_operator = false;
    };
    /// All but the owner's, oldest first.
    [[nodiscard]] std::vector<Shown> all() const;
    /// Nobody comes in with it any more, from now on. Fault::not_found when there is none of this id.
    [[nodiscard]] Result<void> revoke(const std::string& id);

private:
    struct Row {
        Digest digest{};
        std::string name;
        std::uint32_t uid = 0;
        bool is_operator = false;
    };
    [[nodiscard]] static std::string id_of(const Row& row);
    [[nodiscard]] Result<void> save() const;

    std::string file_;
    std::vector<Row> rows_;
    Digest owner_{};
};

}  // namespace stargate::api
