#pragma once

#include <string_view>

/// Files of this folder that the binary holds and serves.
namespace stargate::api {

extern const std::string_view openapi_text;  // openapi.json: what routes there are, what they take and answer
extern const std::string_view page_html, page_css, page_js;  // page/: what a browser is shown

}  // namespace stargate::api
