#pragma once

#include <string_view>

namespace stargate::api {

/// src/api/openapi.json: what routes there are, what they take and answer, for programs.
extern const std::string_view openapi_text;

}  // namespace stargate::api
