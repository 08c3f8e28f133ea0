#include <cstdio>
#include <cstring>

#include "engine/local/shim/probe.hpp"
#include "engine/local/shim/shim.hpp"

namespace {
constexpr int control_link = 3;  // where the engine puts our end
}

int main(int count, char** arguments) {
    if (count >= 2 && std::strcmp(arguments[1], "attempt") == 0) {
        return stargate::local::Shim{stargate::local::Fd{control_link}}.run();
    }
    if (count == 2 && std::strcmp(arguments[1], "probe") == 0) return stargate::local::probe();
    std::fputs(
        "stargate-shim runs one attempt of a job and is started by stargate itself, never by hand.\n"
        "usage: stargate-shim attempt   (with a control link as descriptor 3)\n"
        "       stargate-shim probe     (says what this machine lacks for the default sandbox)\n",
        stderr);
    return 2;
}
