#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "net/loop.hpp"

namespace stargate::net {

/// What is told of a link, on the loop's thread.
struct LineEvents {
    std::function<void(std::string_view line)> on_line;  // without its end
    /// The other side has gone, or has not kept to the limits; once, and nothing comes after it. Not after close().
    std::function<void(const std::string& why)> on_closed;
};

struct LineLimits {
    std::size_t longest_line = 16U << 20;  // bytes, of what comes in
    std::size_t most_waiting = 64U << 20;  // bytes that the other side has not taken: a link beyond that has ended
};

/// Lines of text both ways over a unix socket. On the loop's thread.
class LineLink {
public:
    /// Fault::not_found when nobody listens there.
    [[nodiscard]] static Result<std::unique_ptr<LineLink>> connect(Loop& loop, const std::string& path,
                                                                   LineLimits limits = {});
    LineLink(const LineLink&) = delete;
    LineLink& operator=(const LineLink&) = delete;
    /// As close().
    ~LineLink();

    /// Reads from now on. Called once.
    void begin(LineEvents events);
    /// line  without its end, and with none in it. Dropped when the link has ended.
    void send(std::string_view line);
    /// Ends it; nothing more is told, also of lines that have come already. What waits to be sent is lost.
    void close();
    [[nodiscard]] bool is_open() const;

    struct Impl;
    explicit LineLink(std::shared_ptr<Impl> impl);

private:
    std::shared_ptr<Impl> impl_;
};

/// Takes links at a path of the file system, that only this user can open (0600). On the loop's thread.
class LineServer {
public:
    /// In place of what was there. on_link  is given each link that comes; it begins it, or drops it.
    [[nodiscard]] static Result<std::unique_ptr<LineServer>> listen(
        Loop& loop, const std::string& path, std::function<void(std::unique_ptr<LineLink>)> on_link,
        LineLimits limits = {});
    LineServer(const LineServer&) = delete;
    LineServer& operator=(const LineServer&) = delete;
    /// Takes no more and removes the path; links that were given out go on.
    ~LineServer();

    struct Impl;
    explicit LineServer(std::shared_ptr<Impl> impl);

private:
    std::shared_ptr<Impl> impl_;
};

}  // namespace stargate::net
