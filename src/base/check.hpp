#pragma once

namespace stargate {

/// Prints what failed and where, then aborts the process. Kept in release builds.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace stargate

/// States what no input can bring about. Replay would meet the same event again, so what an input could cause is a
/// refusal or a Result, never a CHECK.
#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) [[unlikely]] { ::stargate::check_failed(#condition, __FILE__, __LINE__); } \
    } while (false)
