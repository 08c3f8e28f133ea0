#pragma once

#include <grp.h>
#include <unistd.h>

#include <vector>

#include "engine/local/messages.hpp"

namespace stargate::local {

/// While it lives, files are opened and made with the submitter's rights: what a job file names must not show or change
/// what only root may reach. The real uid stays root, so that the submitter cannot signal us. An ordinary user's shim
/// has these rights in any case. Clears the signal at our parent's death (prctl PR_SET_PDEATHSIG).
class AsAccount {
public:
    explicit AsAccount(const RunAs& account) : switched_{geteuid() == 0} {
        if (!switched_) return;
        const std::vector<gid_t> groups(account.groups.begin(), account.groups.end());
        ok_ = setgroups(groups.size(), groups.data()) == 0 && setegid(account.gid) == 0 && seteuid(account.uid) == 0;
    }
    AsAccount(const AsAccount&) = delete;
    AsAccount& operator=(const AsAccount&) = delete;
    ~AsAccount() {
        if (switched_ && (seteuid(0) != 0 || setegid(0) != 0 || setgroups(0, nullptr) != 0)) _exit(1);
    }
    [[nodiscard]] bool is_ok() const { return ok_; }

private:
    bool switched_;
    bool ok_ = true;
};

}  // namespace stargate::local
