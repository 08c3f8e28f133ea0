#include "engine/local/obeyed_term.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "engine/local/attempt_folder.hpp"

namespace stargate {

using namespace local;

std::uint64_t obeyed_term(const std::string& state, const std::array<std::uint8_t, 16>& incarnation) {
    std::uint64_t highest = 0;
    const auto hear_of = [&](const Speaker& speaker) {
        if (speaker.incarnation == incarnation) highest = std::max(highest, speaker.term);
    };
    const auto path = state + "/" + authority_name;
    if (const auto authority = read_record<AuthorityRecord>(AT_FDCWD, path.c_str())) hear_of(authority->by);
    const auto attempts = open_attempts(state);
    DIR* listing = attempts ? fdopendir(openat(attempts.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) : nullptr;
    if (listing == nullptr) return highest;
    while (const dirent* found = readdir(listing)) {
        const auto attempt = attempt_of(found->d_name);
        const auto folder = attempt ? open_attempt(attempts.get(), *attempt) : Fd{};
        if (!folder) continue;
        if (const auto shim = read_record<ShimRecord>(folder.get(), shim_record_name)) hear_of(shim->obeys);
    }
    closedir(listing);
    return highest;
}

}  // namespace stargate
