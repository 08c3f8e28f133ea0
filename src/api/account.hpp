#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "work/launch.hpp"

namespace stargate::api {

/// The account of this uid with all its groups, from the account database. May take long where that is a network.
[[nodiscard]] Result<Account> account_of(std::uint32_t uid);
/// Fault::not_found: there is none of that name; unavailable: the database does not answer.
[[nodiscard]] Result<Account> account_named(const std::string& name);

/// The account that root's own jobs run as, by its name or its uid: never root.
[[nodiscard]] Result<Account> job_account(const std::string& name);

/// Whether this account can start the launch's command in its folder, as far as can be seen before it runs: the
/// folder can be entered, and the program is there and may be executed. Asked with the account's own rights, which the
/// calling thread takes on for a moment where this process is root, so access lists and network file systems answer for
/// themselves; never through a link of /proc that leads into a process. Errors read `FIELD: what; remedy`. Says yes
/// where a sandbox will show other files than the host.
[[nodiscard]] Result<void> can_start(const Launch& launch, const std::string& state);

/// Whether all that the launch mounts is there and within the account's reach, asked and told in the same way: nobody
/// learns of a file that they could not see themselves. And that no link leads to what may not be mounted.
/// state  the state folder
[[nodiscard]] Result<void> can_mount(const Launch& launch, const std::string& state);

}  // namespace stargate::api
