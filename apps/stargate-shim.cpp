#include <cstdio>
#include <cstring>

#include "engine/local/shim/probe.hpp"
#include "engine/local/shim/zygote.hpp"

namespace {
constexpr int link_to_engine = 3;  // where the engine puts our end
}

int main(int count, char** arguments) {
    if (count == 3 && std::strcmp(arguments[1], "zygote") == 0) {
        return stargate::local::be_zygote(stargate::local::Fd{link_to_engine}, arguments);
    }
    if (count == 2 && std::strcmp(arguments[1], "probe") == 0) return stargate::local::probe();
    std::fputs(
        "stargate-shim runs one attempt of a job and is started by stargate itself, never by hand.\n"
        "usage: stargate-shim zygote ROOM   (with a link to the engine as descriptor 3; forks the shims)\n"
        "       stargate-shim probe         (says what this machine lacks for the default sandbox)\n",
        stderr);
    return 2;
}
