#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace stargate {

/// Why the world failed us: code branches on this. After `unknown_outcome` nobody knows whether the change is durable
/// (an fsync failed, a connection was lost after COMMIT): the process stops, recovers and looks; it never retries.
enum class Fault { malformed, not_found, conflict, unavailable, timed_out, denied, full, unknown_outcome };

/// A failure of the world (file, network, input). `detail` is for people: what, where, and the remedy.
struct Error {
    Fault fault = Fault::unavailable;
    std::string detail;
};

/// A value or an Error. The only header that names tl::expected.
template <class T>
using Result = tl::expected<T, Error>;

inline auto fail(Fault fault, std::string detail) { return tl::unexpected<Error>(Error{fault, std::move(detail)}); }

}  // namespace stargate
