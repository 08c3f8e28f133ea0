#include "gateway/metrics.hpp"

#include <fmt/format.h>

namespace stargate::gateway {

namespace {

std::string label_of(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out.push_back('\\');
        if (c == '\n') {
            out += "\\n";
        } else {
            out.push_back(c);
        }
    }
    return out;
}

class Text {
public:
    void family(std::string_view name, std::string_view type) { fmt::format_to(end(), "# TYPE {} {}\n", name, type); }
    template <class Number>
    void sample(std::string_view name, const std::string& labels, Number value) {
        fmt::format_to(end(), "{}{{{}}} {}\n", name, labels, value);
    }
    template <class Number>
    void single(std::string_view name, std::string_view type, Number value) {
        family(name, type);
        fmt::format_to(end(), "{} {}\n", name, value);
    }
    [[nodiscard]] std::string take() { return std::move(out_); }

private:
    std::back_insert_iterator<std::string> end() { return std::back_inserter(out_); }
    std::string out_;
};

/// One number of each service.
template <class Get>
void each_service(Text& text, const Pool& pool, std::string_view name, std::string_view type, Get get) {
    text.family(name, type);
    for (const auto& [service, it] : pool.services()) {
        text.sample(name, fmt::format("service=\"{}\"", label_of(service)), get(*it));
    }
}

void tell_ttft(Text& text, const Pool& pool) {
    constexpr std::string_view name = "stargate_gateway_ttft_seconds";
    text.family(name, "histogram");
    for (const auto& [service, it] : pool.services()) {
        const auto& meters = it->meters();
        const auto label = fmt::format("service=\"{}\"", label_of(service));
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < meters.ttft.size(); ++i) {
            count += meters.ttft[i];
            const auto bound =
                i < Meters::ttft_bounds.size() ? fmt::format("{}", Meters::ttft_bounds[i]) : std::string{"+Inf"};
            text.sample(fmt::format("{}_bucket", name), fmt::format("{},le=\"{}\"", label, bound), count);
        }
        text.sample(fmt::format("{}_sum", name), label, meters.ttft_sum_s);
        text.sample(fmt::format("{}_count", name), label, count);
    }
}

}  // namespace

std::string metrics_text(const Pool& pool, const std::map<int, std::uint64_t>& refused, std::size_t connections) {
    Text text;
    constexpr std::string_view requests = "stargate_gateway_requests_total";
    text.family(requests, "counter");
    for (const auto& [status, count] : refused)
        text.sample(requests, fmt::format("service=\"\",status=\"{}\"", status), count);
    for (const auto& [service, it] : pool.services()) {
        for (const auto& [status, count] : it->meters().requests) {
            text.sample(requests, fmt::format("service=\"{}\",status=\"{}\"", label_of(service), status), count);
        }
    }
    const auto demand = [](std::int64_t ServiceDemand::*part) {
        return [part](Service& service) { return service.demand().*part; };
    };
    const auto meter = [](std::uint64_t Meters::*part) {
        return [part](Service& service) { return service.meters().*part; };
    };
    each_service(text, pool, "stargate_gateway_queued", "gauge", demand(&ServiceDemand::queued));
    each_service(text, pool, "stargate_gateway_queued_tokens", "gauge", demand(&ServiceDemand::queued_tokens));
    each_service(text, pool, "stargate_gateway_in_flight", "gauge", demand(&ServiceDemand::in_flight));
    each_service(text, pool, "stargate_gateway_in_flight_tokens", "gauge", demand(&ServiceDemand::in_flight_tokens));
    each_service(text, pool, "stargate_gateway_wanted_tokens_per_second", "gauge",
                 demand(&ServiceDemand::wanted_tokens_per_s));
    each_service(text, pool, "stargate_gateway_replica_tokens_per_second", "gauge",
                 demand(&ServiceDemand::replica_tokens_per_s));
    each_service(text, pool, "stargate_gateway_prompt_tokens_total", "counter", meter(&Meters::prompt_tokens));
    each_service(text, pool, "stargate_gateway_completion_tokens_total", "counter", meter(&Meters::completion_tokens));
    each_service(text, pool, "stargate_gateway_bytes_in_total", "counter", meter(&Meters::bytes_in));
    each_service(text, pool, "stargate_gateway_bytes_out_total", "counter", meter(&Meters::bytes_out));
    each_service(text, pool, "stargate_gateway_retries_total", "counter", meter(&Meters::retries));
    each_service(text, pool, "stargate_gateway_broken_streams_total", "counter", meter(&Meters::broken_streams));
    tell_ttft(text, pool);
    text.single("stargate_gateway_connections", "gauge", connections);
    return text.take();
}

}  // namespace stargate::gateway
