#include "gateway/meters.hpp"

#include <algorithm>

namespace stargate::gateway {

void Meters::note_ttft(Duration took) {
    const double seconds = std::chrono::duration<double>(took).count();
    const auto bucket = std::lower_bound(ttft_bounds.begin(), ttft_bounds.end(), seconds) - ttft_bounds.begin();
    ++ttft[static_cast<std::size_t>(bucket)];
    ttft_sum_s += seconds;
}

}  // namespace stargate::gateway
