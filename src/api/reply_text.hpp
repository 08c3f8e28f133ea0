#pragma once

#include <string>
#include <string_view>

#include "api/http.hpp"

/// Replies as HTTP/1.1 writes them.
namespace stargate::api {

/// The status line and fields, without the empty line: how long the body is must follow.
[[nodiscard]] std::string head_of(int status, std::string_view type, bool keep_alive, int retry_after_s);
[[nodiscard]] std::string whole_reply(const Reply& reply, bool keep_alive);

}  // namespace stargate::api
