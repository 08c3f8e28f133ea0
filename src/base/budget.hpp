#pragma once

#include <cstdint>
#include <map>

namespace stargate {

/// How much of something there is: places for connections, bytes of memory.
struct BudgetLimits {
    std::int64_t whole = 0;
    std::int64_t of_one_user = 0;    // operators are not counted
    std::int64_t for_operators = 0;  // the last of the whole, so that nobody can lock them out
};

enum class Standing : std::uint8_t { user, an_operator };

/// Who has taken how much. Used by one thread.
/// Owner  who takes: a user's number, a tenant's name
template <class Owner>
class Budget {
public:
    explicit Budget(BudgetLimits limits) : limits_{limits} {}

    /// True when the owner may take so much more, which is at least 0.
    [[nodiscard]] bool has(const Owner& owner, std::int64_t amount, Standing standing = Standing::user) const {
        if (standing == Standing::an_operator) return amount <= limits_.whole - taken_;
        const auto found = of_owner_.find(owner);
        const auto own = found == of_owner_.end() ? 0 : found->second;
        return amount <= limits_.whole - limits_.for_operators - taken_ && amount <= limits_.of_one_user - own;
    }
    /// Takes it, or nothing at all: false.
    [[nodiscard]] bool take(const Owner& owner, std::int64_t amount, Standing standing = Standing::user) {
        if (!has(owner, amount, standing)) return false;
        taken_ += amount;
        of_owner_[owner] += amount;
        return true;
    }
    void give_back(const Owner& owner, std::int64_t amount) {
        taken_ -= amount;
        const auto own = of_owner_.find(owner);
        if (own != of_owner_.end() && (own->second -= amount) == 0) of_owner_.erase(own);
    }
    [[nodiscard]] std::int64_t taken() const { return taken_; }

private:
    BudgetLimits limits_;
    std::int64_t taken_ = 0;
    std::map<Owner, std::int64_t> of_owner_;
};

}  // namespace stargate
