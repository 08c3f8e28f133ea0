#pragma once

#include "api/http.hpp"
#include "base/budget.hpp"

namespace stargate::api {

/// A budget of the users of this machine. Used by one thread.
class Budget {
public:
    explicit Budget(BudgetLimits limits) : of_users_{limits} {}

    /// Takes it, or nothing at all: false.
    [[nodiscard]] bool take(const Caller& caller, std::int64_t amount) {
        return of_users_.take(caller.uid, amount, caller.is_operator ? Standing::an_operator : Standing::user);
    }
    void give_back(const Caller& caller, std::int64_t amount) { of_users_.give_back(caller.uid, amount); }
    [[nodiscard]] std::int64_t taken() const { return of_users_.taken(); }

private:
    stargate::Budget<std::uint32_t> of_users_;
};

}  // namespace stargate::api
