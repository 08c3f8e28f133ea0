#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"

namespace stargate::local {

/// The control planes that a shim talks with: the one that started it and those that come back later. Only the order
/// of one that has the right to speak makes its link a listener; the others hear nothing.
class Links {
public:
    /// Takes over the link to the control plane that started us.
    void adopt(Fd link, FrameReader reader);
    /// Listens in the current folder. False with errno.
    [[nodiscard]] bool listen();

    void list(std::vector<pollfd>& polled) const;
    /// Accepts and reads; `obey` gets each order and says whether its speaker has the right to speak.
    void take_ready(const std::vector<pollfd>& polled, std::size_t first,
                    const std::function<bool(const Order&)>& obey);
    /// Orders that came together with the Spec, in one read with it.
    void take_early(const std::function<bool(const Order&)>& obey);
    /// Sends to every listener. One that does not read is cut off: it can come back and ask.
    void tell(const Answer& answer);
    [[nodiscard]] bool has_listener() const;

private:
    struct Link {
        Fd socket;
        FrameReader reader;
        bool is_listener = false;
    };
    void accept_one();
    static void read_from(Link& link, const std::function<bool(const Order&)>& obey);
    static void obey_frames(Link& link, const std::function<bool(const Order&)>& obey);
    static bool send(Link& link, const Answer& answer);

    Fd door_;
    std::vector<Link> links_;
};

}  // namespace stargate::local
