#include "store/damage.hpp"

#include <fmt/format.h>

namespace stargate::store {

Error damage_in(const std::string& folder, Error error) {
    if (error.fault != Fault::malformed) return error;
    if (const auto place = "the store in " + folder; !error.detail.starts_with(place)) {
        error.detail = fmt::format("{}: {}", place, error.detail);
    }
    // What knows a better remedy has brought it.
    if (error.detail.find("; ") == std::string::npos) error.detail += fmt::format("; {}", restore_remedy);
    return error;
}

}  // namespace stargate::store
