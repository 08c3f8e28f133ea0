#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <limits>
#include <memory>

#include "api/words.hpp"
#include "base/file.hpp"
#include "base/names.hpp"
#include "base/print_error.hpp"
#include "cli/complaint.hpp"
#include "serving/load.hpp"
#include "serving/mock_engine.hpp"
#include "verbs.hpp"

// Tools for those who serve: an engine without a model, and load for whatever speaks OpenAI's API.
namespace stargate {

namespace {

constexpr Bytes longest_trace{1LL << 30};

int bad_usage(const std::string& what) {
    print_error("stargate: {}\n", what);
    return 2;
}

struct MockAsked {
    serving::MockEngineOptions options;
    std::string wake_time = "0s";
    std::string fault = "none";
};

int mock_engine(MockAsked asked) {
    const auto wake_time = api::read_duration(asked.wake_time);
    if (!wake_time) return bad_usage("--wake-time: " + wake_time.error().detail);
    const auto fault = from_name<serving::MockFault>(asked.fault);
    if (!fault) return bad_usage("--fault: there is none called `" + asked.fault + "`");
    asked.options.wake_time = *wake_time;
    asked.options.fault = *fault;
    asked.options.when_told = [](std::string_view what) {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        fmt::print("{} at {}\n", what, std::chrono::duration_cast<Duration>(now).count());  // us of the epoch
        std::fflush(stdout);
    };
    net::Loop loop;
    const auto engine = serving::MockEngine::start(loop, asked.options);
    if (!engine) return say_failed(engine.error());
    fmt::print("mock engine `{}` on http://{}:{}/v1; end it with Ctrl-C\n", asked.options.model, asked.options.host,
               (*engine)->port());
    std::fflush(stdout);
    loop.run();
    return 0;
}

struct BenchAsked {
    serving::LoadOptions options;
    std::string url = "http://127.0.0.1:7434/v1";
    std::string duration = "10s";
    std::string slo = "1s";
    std::string waits = "0s";
    std::string trace;
    std::string output = "table";
    double rate = 1;
    std::int64_t prompt_tokens = 64;
    std::int64_t tokens = 16;
    std::uint64_t seed = 1;
};

/// Host, port and path of `http://HOST[:PORT][/PATH]`.
bool read_url(const std::string& url, serving::LoadOptions& options) {
    constexpr std::string_view scheme = "http://";
    if (!url.starts_with(scheme)) return false;
    const auto rest = url.substr(scheme.size());
    const auto slash = std::min(rest.find('/'), rest.size());
    const auto authority = rest.substr(0, slash);
    const auto colon = authority.rfind(':');
    options.path = rest.substr(slash);
    while (options.path.ends_with('/')) options.path.pop_back();
    options.host = authority.substr(0, colon);
    options.port = 80;
    if (colon == std::string::npos) return !options.host.empty();
    const auto* end = authority.data() + authority.size();
    const auto read = std::from_chars(authority.data() + colon + 1, end, options.port);
    return read.ec == std::errc{} && read.ptr == end && options.port != 0 && !options.host.empty();
}

void print_result(const std::string& tier, const serving::LoadResult& result) {
    fmt::print("{:<10} {:>8} {:>9} {:>8} {:>6} {:>8.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f}\n", tier, result.sent,
               result.completed, result.rejected, result.failed, result.good, result.tokens, result.ttft_ms.p50,
               result.ttft_ms.p99, result.tpot_ms.p50);
}

int bench_serve(BenchAsked asked) {
    if (!read_url(asked.url, asked.options))
        return bad_usage("--url: `" + asked.url + "` is not http://HOST:PORT/PATH");
    const auto duration = api::read_duration(asked.duration);
    if (!duration) return bad_usage("--duration: " + duration.error().detail);
    const auto slo = api::read_duration(asked.slo);
    if (!slo) return bad_usage("--slo: " + slo.error().detail);
    asked.options.slo = *slo;
    const auto waits = api::read_duration(asked.waits);
    if (!waits) return bad_usage("--waits: " + waits.error().detail);
    asked.options.waits = std::chrono::ceil<std::chrono::seconds>(*waits);
    std::vector<serving::Arrival> arrivals;
    if (asked.trace.empty()) {
        arrivals = serving::random_arrivals(asked.rate, *duration, asked.prompt_tokens, asked.tokens, asked.seed);
    } else {
        const auto text = read_file(asked.trace, longest_trace);
        if (!text) return bad_usage(text.error().detail);
        auto read = serving::read_trace(*text, *duration);
        if (!read) return bad_usage(asked.trace + ": " + read.error().detail);
        arrivals = std::move(*read);
    }
    net::Loop loop;
    const bool is_watched = asked.output != "json" && ::isatty(STDERR_FILENO) != 0;
    const auto progress = [&](const serving::LoadResult& so_far) {
        print_error("\r{} of {} sent, {} completed, {} rejected, {} failed", so_far.sent, arrivals.size(),
                    so_far.completed, so_far.rejected, so_far.failed);
    };
    const auto begin_us = net::Loop::now_us();
    const auto results = serving::run_load(loop, asked.options, arrivals,
                                           is_watched ? progress : std::function<void(const serving::LoadResult&)>{});
    const Duration took{net::Loop::now_us() - begin_us};
    if (is_watched) print_error("\r{:70}\r", "");
    if (asked.output == "json") {
        fmt::print("{}\n", serving::to_json(results, took));
        return 0;
    }
    fmt::print("{:<10} {:>8} {:>9} {:>8} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9}\n", "TIER", "SENT", "COMPLETED",
               "REJECTED", "FAILED", "GOOD/S", "TOKENS/S", "TTFT-P50", "TTFT-P99", "TPOT-P50");
    for (const auto& [tier, result] : results) print_result(tier.empty() ? "all" : tier, result);
    for (const auto& [why, count] :
         results.empty() ? std::map<std::string, std::uint64_t>{} : results.begin()->second.reasons) {
        fmt::print("{} of them: {}\n", count, why);
    }
    return 0;
}

}  // namespace

void add_mock_engine(CLI::App& app, std::function<int()>& action) {
    auto asked = std::make_shared<MockAsked>();
    auto& options = asked->options;
    auto* verb = add_verb(app, "mock-engine", "an OpenAI server without a model, to try things on",
                          "mock-engine --port 8000 --tokens-per-s 50");
    verb->add_option("--host", options.host, "the address to listen on")->capture_default_str();
    cli::check_whole(verb->add_option("--port", options.port, "the port to listen on; 0: any")->capture_default_str(),
                     0, std::numeric_limits<std::uint16_t>::max());
    verb->add_option("--model", options.model, "the name of its model")->capture_default_str();
    verb->add_option("--tokens-per-s", options.tokens_per_s, "the pace of one stream")
        ->capture_default_str()
        ->check(CLI::Range(0.01, 100'000.0));
    verb->add_option("--batch-tokens-per-s", options.batch_tokens_per_s, "of all its streams together; 0: any number")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1'000'000.0));
    cli::check_whole(
        verb->add_option("--max-batch", options.max_batch, "streams that are computed at once")->capture_default_str(),
        1, 100'000);
    verb->add_option("--wake-time", asked->wake_time, "from /wake_up to its answer")->capture_default_str();
    verb->add_option("--fault", asked->fault, "what it does wrong: none, hang, html, cut or deaf_sleep")
        ->capture_default_str();
    verb->callback([&action, asked] { action = [asked] { return mock_engine(*asked); }; });
}

void add_bench_serve(CLI::App& app, std::function<int()>& action) {
    auto asked = std::make_shared<BenchAsked>();
    auto* verb = add_verb(app, "bench-serve", "put load on an OpenAI server and measure what comes back",
                          "bench-serve --url http://127.0.0.1:8000/v1 --rate 20 --duration 30s");
    verb->add_option("--url", asked->url, "the server, with the path before /chat/completions")->capture_default_str();
    verb->add_option("--key", asked->options.key, "the API key");
    verb->add_option("--model", asked->options.model, "the model that is asked for")->capture_default_str();
    auto* rate =
        verb->add_option("--rate", asked->rate, "requests a second, at random times, however many are under way")
            ->capture_default_str()
            ->check(CLI::Range(0.001, 100'000.0));
    verb->add_option("--trace", asked->trace,
                     "instead: a file with a JSON object a line: timestamp (ms), input_length, output_length")
        ->excludes(rate);
    verb->add_option("--duration", asked->duration, "for how long requests are sent")->capture_default_str();
    cli::check_whole(
        verb->add_option("--prompt-tokens", asked->prompt_tokens, "of each request, about")->capture_default_str(), 1,
        1'000'000);
    cli::check_whole(verb->add_option("--tokens", asked->tokens, "that each asks for")->capture_default_str(), 1,
                     1'000'000);
    verb->add_option("--tiers", asked->options.tiers, "values of service_tier, taken by turns")->delimiter(',');
    verb->add_option("--slo", asked->slo, "time to the first token within which a request is good")
        ->capture_default_str();
    verb->add_option("--waits", asked->waits, "for an answer, as each request tells the server; 0s: it does not tell")
        ->capture_default_str();
    verb->add_option("--seed", asked->seed, "of the random times")->capture_default_str();
    verb->add_option("-o,--output", asked->output, "table or json")->check(CLI::IsMember({"table", "json"}));
    verb->callback([&action, asked] { action = [asked] { return bench_serve(*asked); }; });
}

}  // namespace stargate
