#include "base/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace stargate {

void check_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "stargate: a bug: %s does not hold at %s:%d; please report it with this line\n", condition,
                 file, line);
    std::abort();
}

}  // namespace stargate
