#pragma once

#include <stop_token>
#include <string>
#include <thread>

namespace stargate::cli {

/// While a verb waits for work to end: looks now and then whether the control plane's disk is full, and says so on
/// standard error, once each time. Ends may not be known before there is room.
class SayWhenFull {
public:
    explicit SayWhenFull(std::string state);

private:
    static void look(const std::stop_token& stop, const std::string& state);
    std::jthread thread_;
};

}  // namespace stargate::cli
