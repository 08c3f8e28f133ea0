#pragma once

#include <functional>
#include <string>

namespace stargate {

/// Tells whoever started us, once, whether we are ready: on standard output and standard error, or by a pipe to the
/// process that waits for us.
class Readiness {
public:
    Readiness() = default;
    explicit Readiness(int pipe) : pipe_{pipe} {}
    void ready(const std::string& greeting);
    void failed(const std::string& why);

private:
    void tell(const std::string& text);
    int pipe_ = -1;
};

/// Runs `stay_up` in a child that leaves the terminal and the caller, prints what it says of its start, and returns
/// the exit status: 0 once the child is ready, and 1 when it has failed.
/// state  the state folder, from the root; the child's output goes to its stargate.log
int detach(const std::string& state, const std::function<int(Readiness)>& stay_up);

}  // namespace stargate
