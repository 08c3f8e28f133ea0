#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace stargate::cli {

struct HttpReply {
    int status = 0;
    std::string body;
};

/// One connection to the control plane of a state folder, over its unix socket. Blocking.
class Client {
public:
    using Headers = std::vector<std::pair<std::string, std::string>>;
    /// Takes each piece of a reply's body as it comes; false: stop reading.
    using Sink = std::function<bool(std::string_view)>;

    /// patience  with each silence of the control plane, whereupon the connection counts as broken off; 0: for ever
    explicit Client(std::string state_folder, std::chrono::seconds patience = {})
        : state_{std::move(state_folder)}, patience_{patience} {}
    Client(Client&&) = default;

    /// Fault::unavailable: nobody answers there; the sentence says how to start one.
    [[nodiscard]] Result<HttpReply> call(std::string_view method, const std::string& target,
                                         const std::string& body = {}, const Headers& headers = {});
    /// The same, with a successful reply's body going to `sink` piece by piece; the reply then has none. An error
    /// reply comes whole. Fault::unknown_outcome when the reply breaks off, Fault::malformed when the request is larger
    /// than any that is taken.
    [[nodiscard]] Result<HttpReply> stream(std::string_view method, const std::string& target, const std::string& body,
                                           const Headers& headers, const Sink& sink);

private:
    std::string state_;
    std::chrono::seconds patience_;
};

/// A segment of a target with everything escaped that is not plain.
std::string escaped(std::string_view text);

}  // namespace stargate::cli
