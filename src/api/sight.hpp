#pragma once

#include "api/http.hpp"
#include "core/state.hpp"

namespace stargate::api {

/// What one caller may know of a State and do in it. Lives as long as one look at the State.
class Sight {
public:
    Sight(const Caller& caller, const State& state) : caller_{caller}, state_{state} {}

    [[nodiscard]] const State& state() const { return state_; }
    [[nodiscard]] const Caller& caller() const { return caller_; }

    /// Whether it may submit to this tenant and see what others have there: operators, and members of the tenant or of
    /// one above it. Where nobody is named up to the root, everybody.
    [[nodiscard]] bool may_use(TenantId tenant) const;
    /// One's own work, and that of tenants that one may use.
    [[nodiscard]] bool may_see(const JobSpec& spec) const { return is_own(spec) || may_use(spec.tenant); }
    /// Whether it may change what happens to this work, and read what it prints and how it is run.
    [[nodiscard]] bool may_act(const JobSpec& spec) const { return caller_.is_operator || is_own(spec); }
    [[nodiscard]] bool is_own(const JobSpec& spec) const { return caller_.uid == spec.owner; }

private:
    const Caller& caller_;
    const State& state_;
};

}  // namespace stargate::api
