#pragma once

#include <map>

#include "api/control.hpp"
#include "api/http.hpp"

namespace stargate::api {

/// Picks the facts of the log that one caller may see: those of the fleet, and those of jobs that it may see. Facts
/// come in the order of the log, since only `submitted` and `started` tell whose a number is once a job has left State:
/// what cannot be told any more is not shown. Used by one thread.
class FactSight {
public:
    FactSight(const Control& control, Caller caller) : control_{control}, caller_{std::move(caller)} {}

    /// Whether anything is kept from this caller now. Asked once for each piece of the log.
    void look_again();
    /// False: not for this caller. What the fact says of others' jobs is taken out of it.
    [[nodiscard]] bool may_see(Fact& fact);

private:
    struct Origin {
        std::int32_t count = 1;
        TenantId tenant;
        std::uint32_t owner = 0;
    };
    [[nodiscard]] bool is_shown(const Fact& fact) const;
    void take_others_out(Fact& fact) const;
    [[nodiscard]] bool may_see(JobId job) const;
    [[nodiscard]] bool may_see(AttemptId attempt) const;
    [[nodiscard]] std::optional<Origin> origin_of(JobId job) const;
    void learn(const Fact& fact);

    const Control& control_;
    Caller caller_;
    bool sees_all_ = false;
    std::map<JobId, Origin> arrays_;       // by their first job, as `submitted` told; the newest of them
    std::map<AttemptId, JobId> attempts_;  // as `started` told, until they end
};

}  // namespace stargate::api
