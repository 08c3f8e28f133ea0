#pragma once

#include <string>

#include "base/result.hpp"

namespace stargate {

/// Whether somebody else listens at `listen` (ADDRESS:PORT) already: asked before anything is changed, because a
/// control plane that could not serve its API shall not take office first. Fault::conflict when it is so; an address
/// that is written wrong passes, the API's server says what is wrong with it.
[[nodiscard]] Result<void> check_address_is_free(const std::string& listen);

}  // namespace stargate
