#pragma once

#include <cstdint>
#include <map>

#include "api/http.hpp"

namespace stargate::api {

/// How much of something there is: places for connections, bytes of memory.
struct BudgetLimits {
    std::int64_t whole = 0;
    std::int64_t of_one_user = 0;    // operators are not counted
    std::int64_t for_operators = 0;  // the last of the whole, so that nobody can lock them out
};

/// Who has taken how much. Used by one thread.
class Budget {
public:
    explicit Budget(BudgetLimits limits) : limits_{limits} {}

    /// True when the caller may take so much more, which is at least 0.
    [[nodiscard]] bool has(const Caller& caller, std::int64_t amount) const {
        if (caller.is_operator) return amount <= limits_.whole - taken_;
        const auto found = of_user_.find(caller.uid);
        const auto own = found == of_user_.end() ? 0 : found->second;
        return amount <= limits_.whole - limits_.for_operators - taken_ && amount <= limits_.of_one_user - own;
    }
    /// Takes it, or nothing at all: false.
    [[nodiscard]] bool take(const Caller& caller, std::int64_t amount) {
        if (!has(caller, amount)) return false;
        taken_ += amount;
        of_user_[caller.uid] += amount;
        return true;
    }
    void give_back(const Caller& caller, std::int64_t amount) {
        taken_ -= amount;
        const auto own = of_user_.find(caller.uid);
        if (own != of_user_.end() && (own->second -= amount) == 0) of_user_.erase(own);
    }
    [[nodiscard]] std::int64_t taken() const { return taken_; }

private:
    BudgetLimits limits_;
    std::int64_t taken_ = 0;
    std::map<std::uint32_t, std::int64_t> of_user_;
};

}  // namespace stargate::api
