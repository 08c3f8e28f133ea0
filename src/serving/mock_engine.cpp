#include "serving/mock_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <list>

#include "api/json.hpp"
#include "base/json_text.hpp"
#include "net/server.hpp"

namespace stargate::serving {

namespace {

using api::Json;
using net::Exchange;

constexpr std::int64_t default_tokens = 16;
constexpr std::int64_t most_tokens = 1'000'000;
constexpr std::int64_t bytes_per_token = 4;  // of a prompt, roughly as English has it

std::string error_body(std::string_view message, std::string_view type, std::string_view code) {
    std::string out = R"({"error":{"message":)";
    json_string(out, message);
    out += R"(,"type":)";
    json_string(out, type);
    out += R"(,"param":null,"code":)";
    json_string(out, code);
    return out + "}}";
}

/// One completion that is asked for.
struct Stream {
    std::shared_ptr<Exchange> exchange;
    std::uint64_t number = 0;
    bool is_chat = true;
    bool streams = false;
    bool tells_usage = false;
    std::int64_t prompt_tokens = 1;
    std::int64_t wanted = default_tokens;
    std::int64_t made = 0;
    std::string text;  // so far, of one that is answered whole
};

class Engine : public MockEngine {
public:
    Engine(net::Loop& loop, MockEngineOptions options) : loop_{loop}, options_{std::move(options)} {}
    ~Engine() override { loop_.cancel(step_timer_); }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    Result<void> listen() {
        net::ServerSetting setting;
        setting.host = options_.host;
        setting.port = options_.port;
        setting.longest_body = 16U << 20;
        setting.refusal = [](int status, const std::string& why) {
            return net::Reply{status, "application/json", {}, error_body(why, "invalid_request_error", "malformed")};
        };
        setting.serve = [this](const std::shared_ptr<Exchange>& exchange) { serve(exchange); };
        auto server = net::Server::listen(loop_, std::move(setting));
        if (!server) return tl::unexpected(server.error());
        server_ = std::move(*server);
        return {};
    }

    [[nodiscard]] std::uint16_t port() const override { return server_->port(); }
    [[nodiscard]] std::size_t in_flight() const override { return batch_.size() + queue_.size(); }
    [[nodiscard]] bool is_asleep() const override { return is_asleep_; }
    [[nodiscard]] std::uint64_t cancelled() const override { return cancelled_; }

private:
    static void reply(Exchange& exchange, int status, std::string body, net::Fields fields = {}) {
        exchange.respond({status, "application/json", std::move(fields), std::move(body)});
    }
    void serve(const std::shared_ptr<Exchange>& exchange) {
        const auto& head = exchange->head;
        const auto path = head.target.substr(0, head.target.find('?'));
        if (options_.fault == MockFault::hang) return held_.push_back(exchange);
        if (options_.fault == MockFault::html) {
            return exchange->respond({200, "text/html", {}, "<html><body>It works!</body></html>\n"});
        }
        const bool is_post = head.method == "POST";
        if (path == "/health" && !is_post) return reply(*exchange, 200, "{}");
        if (path == "/v1/models" && !is_post) return tell_models(*exchange);
        if (path == "/is_sleeping" && !is_post) {
            return reply(*exchange, 200, fmt::format(R"({{"is_sleeping":{}}})", is_asleep_));
        }
        if (path == "/metrics" && !is_post) return tell_metrics(*exchange);
        if (path == "/sleep" && is_post) return sleep(exchange);
        if (path == "/wake_up" && is_post) return wake_up(exchange);
        if (path == "/v1/chat/completions" && is_post) return complete(exchange, true);
        if (path == "/v1/completions" && is_post) return complete(exchange, false);
        reply(*exchange, 404,
              error_body("no such route: " + head.method + " " + path, "invalid_request_error", "not_found"));
    }

    void tell_models(Exchange& exchange) {
        std::string out = R"({"object":"list","data":[{"id":)";
        json_string(out, options_.model);
        reply(exchange, 200, out + R"(,"object":"model","created":0,"owned_by":"mock"}]})");
    }
    void tell_metrics(Exchange& exchange) const {
        exchange.respond({200,
                          "text/plain",
                          {},
                          fmt::format("vllm:num_requests_running {}\nvllm:num_requests_waiting {}\n"
                                      "vllm:request_success_total {}\n",
                                      batch_.size(), queue_.size(), answered_)});
    }

    /// Takes effect when nothing is computed any more; until then it serves what it has and refuses what comes.
    void sleep(const std::shared_ptr<Exchange>& exchange) {
        if (options_.when_told) options_.when_told("sleep");
        if (options_.fault == MockFault::deaf_sleep) return reply(*exchange, 200, "{}");
        is_asleep_ = true;
        if (in_flight() == 0) return reply(*exchange, 200, "{}");
        held_.push_back(exchange);
    }
    void wake_up(const std::shared_ptr<Exchange>& exchange) {
        if (options_.when_told) options_.when_told("wake_up");
        loop_.after(options_.wake_time, [this, exchange] {
            is_asleep_ = false;
            reply(*exchange, 200, "{}");
        });
    }

    void complete(const std::shared_ptr<Exchange>& exchange, bool is_chat) {
        if (is_asleep_) {
            return reply(*exchange, 503, error_body("asleep", "service_unavailable_error", "engine_asleep"),
                         {{"x-stargate-asleep", "1"}});
        }
        const auto body = api::parse_json(exchange->body);
        if (!body || body->kind != Json::Kind::object) {
            return reply(*exchange, 400,
                         error_body("the body is no JSON object", "invalid_request_error", "malformed"));
        }
        if ((*body)["model"].text != options_.model) {
            return reply(*exchange, 404,
                         error_body(fmt::format("no model `{}` here", (*body)["model"].text), "invalid_request_error",
                                    "model_not_found"));
        }
        if (queue_.size() >= static_cast<std::size_t>(options_.longest_queue)) {
            return reply(*exchange, 503,
                         error_body("too many wait", "service_unavailable_error", "server_is_overloaded"),
                         {{"Retry-After", "1"}});
        }
        auto stream = std::make_shared<Stream>();
        stream->exchange = exchange;
        stream->number = ++last_number_;
        stream->is_chat = is_chat;
        stream->streams = (*body)["stream"].boolean;
        stream->tells_usage = (*body)["stream_options"]["include_usage"].boolean;
        const auto& limit =
            (*body)[body->find("max_completion_tokens") != nullptr ? "max_completion_tokens" : "max_tokens"];
        stream->wanted =
            limit.kind == Json::Kind::number ? std::clamp<std::int64_t>(limit.whole, 1, most_tokens) : default_tokens;
        stream->prompt_tokens = 1 + static_cast<std::int64_t>(exchange->body.size()) / bytes_per_token;
        exchange->when_gone = [this, raw = stream.get()] { forget(raw); };
        queue_.push_back(std::move(stream));
        if (step_timer_ == 0) {
            last_step_us_ = net::Loop::now_us();
            step_timer_ = loop_.after({}, [this] { step(); });
        }
    }

    void forget(const Stream* gone) {
        ++cancelled_;
        const auto is_it = [gone](const auto& each) { return each.get() == gone; };
        std::erase_if(queue_, is_it);
        batch_.remove_if(is_it);
        rest();
    }

    /// One turn of the engine: whoever waits joins where there is room, and all of the batch get a token.
    void step() {
        step_timer_ = 0;
        while (batch_.size() < static_cast<std::size_t>(options_.max_batch) && !queue_.empty()) {
            batch_.push_back(std::move(queue_.front()));
            queue_.pop_front();
            begin(*batch_.back());
        }
        for (auto at = batch_.begin(); at != batch_.end();) {
            const auto stream = *at++;  // a client may go while it is written to
            give_token(*stream);
            if (stream->made < stream->wanted) continue;
            batch_.remove(stream);
            stream->exchange->when_gone = nullptr;
            end(*stream);
        }
        rest();
        if (in_flight() == 0) return;
        const auto period_us = period_of_step_us();
        last_step_us_ += period_us;
        const auto now = net::Loop::now_us();
        last_step_us_ = std::max(last_step_us_, now - period_us);  // what was not kept up with is not made up for
        step_timer_ = loop_.after(Duration{last_step_us_ - now}, [this] { step(); });
    }
    /// A step takes longer the more streams it computes for, where their sum is bounded.
    [[nodiscard]] std::int64_t period_of_step_us() const {
        const auto streams = static_cast<double>(batch_.size());
        const auto together = options_.batch_tokens_per_s > 0 ? streams / options_.batch_tokens_per_s : 0;
        return static_cast<std::int64_t>(1e6 * std::max(1 / options_.tokens_per_s, together));
    }
    /// All is computed: who asked it to sleep is told.
    void rest() {
        if (in_flight() > 0 || !is_asleep_) return;
        for (const auto& asked : std::exchange(held_, {})) reply(*asked, 200, "{}");
    }

    std::string chunk(const Stream& stream, std::string_view delta, bool is_first, bool is_last) const {
        std::string out = "data: ";
        out += head_of(stream, stream.is_chat ? "chat.completion.chunk" : "text_completion");
        out += R"(,"choices":[{"index":0,)";
        if (stream.is_chat) {
            out += R"("delta":{)";
            if (is_first) out += R"("role":"assistant",)";
            out += R"("content":)";
            json_string(out, delta);
            out += '}';
        } else {
            out += R"("text":)";
            json_string(out, delta);
        }
        out += R"(,"finish_reason":)";
        out += is_last ? R"("length")" : "null";
        out += "}]";
        if (stream.tells_usage) out += R"(,"usage":null)";
        return out + "}\n\n";
    }
    std::string head_of(const Stream& stream, std::string_view object) const {
        std::string out = fmt::format(R"({{"id":"{}-{}","object":"{}","created":{},"model":)",
                                      stream.is_chat ? "chatcmpl" : "cmpl", stream.number, object, std::time(nullptr));
        json_string(out, options_.model);
        return out;
    }
    static std::string usage_of(const Stream& stream) {
        return fmt::format(R"("usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}})",
                           stream.prompt_tokens, stream.made, stream.prompt_tokens + stream.made);
    }

    void begin(Stream& stream) {
        if (stream.streams) {
            stream.exchange->begin(200, {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}});
        }
    }
    void give_token(Stream& stream) {
        const auto word = fmt::format("{}w{}", stream.made == 0 ? "" : " ", stream.made);
        const bool is_first = stream.made == 0;
        ++stream.made;
        if (options_.fault == MockFault::cut && stream.made > stream.wanted / 2) return stream.exchange->abort();
        if (stream.streams) {
            stream.exchange->write(chunk(stream, word, is_first, stream.made == stream.wanted));
        } else {
            stream.text += word;
        }
    }
    void end(Stream& stream) {
        ++answered_;
        if (stream.streams) {
            std::string last;
            if (stream.tells_usage) {
                last = "data: " + head_of(stream, stream.is_chat ? "chat.completion.chunk" : "text_completion") +
                       R"(,"choices":[],)" + usage_of(stream) + "}\n\n";
            }
            stream.exchange->write(last + "data: [DONE]\n\n");
            return stream.exchange->end();
        }
        auto out = head_of(stream, stream.is_chat ? "chat.completion" : "text_completion");
        out += stream.is_chat ? R"(,"choices":[{"index":0,"message":{"role":"assistant","content":)"
                              : R"(,"choices":[{"index":0,"text":)";
        json_string(out, stream.text);
        out += stream.is_chat ? R"(},"finish_reason":"length"}],)" : R"(,"finish_reason":"length"}],)";
        reply(*stream.exchange, 200, out + usage_of(stream) + "}");
    }

    net::Loop& loop_;
    MockEngineOptions options_;
    std::list<std::shared_ptr<Stream>> batch_;
    std::deque<std::shared_ptr<Stream>> queue_;
    std::vector<std::shared_ptr<Exchange>> held_;  // who asked it to sleep, or whom it leaves hanging
    net::Loop::Timer step_timer_ = 0;
    std::int64_t last_step_us_ = 0;
    std::uint64_t last_number_ = 0;
    std::uint64_t answered_ = 0;
    std::uint64_t cancelled_ = 0;
    bool is_asleep_ = false;
    std::unique_ptr<net::Server> server_;  // first to go, with all that it calls
};

}  // namespace

Result<std::unique_ptr<MockEngine>> MockEngine::start(net::Loop& loop, const MockEngineOptions& options) {
    auto engine = std::make_unique<Engine>(loop, options);
    if (const auto listening = engine->listen(); !listening) return tl::unexpected(listening.error());
    return engine;
}

}  // namespace stargate::serving
