#include "gateway/front.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/json_text.hpp"
#include "gateway/metrics.hpp"

namespace stargate::gateway {

namespace {

constexpr std::string_view models_path = "/v1/models";
constexpr Duration sweep_pause = std::chrono::seconds{1};

std::string_view path_of(const net::RequestHead& head) {
    const std::string_view target = head.target;
    return target.substr(0, target.find('?'));
}

bool is_open_to_all(std::string_view path) { return path == "/health" || path == "/metrics"; }
bool is_completion(std::string_view path) { return path == "/v1/chat/completions" || path == "/v1/completions"; }
bool is_model(std::string_view path) {
    return path.size() > models_path.size() + 1 && path.starts_with(models_path) && path[models_path.size()] == '/';
}

/// What clients may tell us about their request and we tell on: visible, and not long.
bool is_fit(std::string_view text) {
    constexpr std::size_t longest = 128;
    return !text.empty() && text.size() <= longest &&
           std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

/// `%2F` and the like; as it is where that is malformed.
std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned value = 0;
        const auto* at = text.data() + i + 1;
        if (text[i] == '%' && i + 2 < text.size() && std::from_chars(at, at + 2, value, 16).ptr == at + 2) {
            out.push_back(static_cast<char>(value));
            i += 2;
        } else {
            out.push_back(text[i]);
        }
    }
    return out;
}

/// A part of the budget of bodies.
class Room final : public net::BodyRoom {
public:
    Room(std::shared_ptr<Budget<std::string>> of, std::string owner) : of_{std::move(of)}, owner_{std::move(owner)} {}
    ~Room() override { of_->give_back(owner_, taken_); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    [[nodiscard]] bool grow_to(std::size_t bytes) override {
        const auto more = static_cast<std::int64_t>(bytes) - taken_;
        if (more <= 0) return true;
        if (!of_->take(owner_, more)) return false;
        taken_ += more;
        return true;
    }

private:
    std::shared_ptr<Budget<std::string>> of_;
    std::string owner_;
    std::int64_t taken_ = 0;
};

std::string model_json(const ServiceEntry& service) {
    std::string out = R"({"id":)";
    json_string(out, service.name);
    out += R"(,"object":"model","created":0,"owned_by":)";
    json_string(out, service.tenant);
    return out + "}";
}

}  // namespace

Front::Front(net::Loop& loop, FrontSetting setting, const std::string& boot, const Table& table, Pool& pool,
             UsageBook& usage)
    : loop_{loop},
      setting_{std::move(setting)},
      id_prefix_{"req_" + boot.substr(0, 8) + "_"},
      table_{table},
      pool_{pool},
      usage_{usage},
      bodies_{std::make_shared<Budget<std::string>>(setting_.bodies)} {}

Front::~Front() { loop_.cancel(sweeper_); }

Result<std::unique_ptr<Front>> Front::listen(net::Loop& loop, FrontSetting setting, const std::string& boot,
                                             const Table& table, Pool& pool, UsageBook& usage) {
    std::unique_ptr<Front> front{new Front{loop, std::move(setting), boot, table, pool, usage}};
    net::ServerSetting http;
    http.host = front->setting_.host;
    http.port = front->setting_.port;
    http.longest_body = front->setting_.longest_body;
    http.most_connections = front->setting_.most_connections;
    http.admit = [raw = front.get()](const net::RequestHead& head) { return raw->admit(head); };
    http.room = [raw = front.get()](const net::RequestHead& head) { return raw->room_for(head); };
    http.refusal = [raw = front.get()](int status, const std::string& why) {
        constexpr Duration others_are_read = std::chrono::seconds{1};
        ++raw->refused_[status];
        return reply_of(status == 503 ? overloaded(why, others_are_read) : not_http(status, why),
                        raw->reply_fields(nullptr));
    };
    http.serve = [raw = front.get()](const ExchangePtr& exchange) { raw->serve(exchange); };
    auto server = net::Server::listen(loop, std::move(http));
    if (!server) return tl::unexpected(server.error());
    front->server_ = std::move(*server);
    front->sweep();
    return front;
}

std::optional<net::Reply> Front::admit(const net::RequestHead& head) {
    if (is_open_to_all(path_of(head)) || key_of(head) != nullptr) return std::nullopt;
    // A gateway that has been told nothing yet knows no key: that is no fault of whoever asks.
    constexpr Duration table_is_near = std::chrono::seconds{1};
    const auto refusal =
        table_.version() == 0 ? overloaded("the gateway has no table of services yet", table_is_near) : no_key();
    ++refused_[refusal.status];
    return reply_of(refusal, reply_fields(&head));
}

std::unique_ptr<net::BodyRoom> Front::room_for(const net::RequestHead& head) const {
    const auto* key = key_of(head);
    return std::make_unique<Room>(bodies_, key == nullptr ? std::string{} : key->tenant);
}

const KeyEntry* Front::key_of(const net::RequestHead& head) const {
    const auto secret = net::bearer_token(net::field(head.fields, "Authorization"));
    return secret.empty() ? nullptr : table_.key_of(secret);
}

void Front::serve(const ExchangePtr& exchange) {
    Asked asked{exchange, path_of(exchange->head), {}, {}};
    asked.reply_fields = reply_fields(&exchange->head, &asked.id);
    const bool is_get = exchange->head.method == "GET";
    if (asked.path == "/health" && is_get) {
        return exchange->respond({200, "application/json", asked.reply_fields, R"({"status":"ok"})"});
    }
    if (asked.path == "/metrics" && is_get) {
        return exchange->respond({200, "text/plain; version=0.0.4", asked.reply_fields, metrics()});
    }
    if (is_open_to_all(asked.path)) {
        return refuse(asked, wrong_method(exchange->head.method, asked.path), {{"Allow", "GET"}});
    }
    // Once more: it may have been revoked while the body came.
    const auto* key = key_of(exchange->head);
    if (key == nullptr) return refuse(asked, no_key());
    serve_with_key(asked, *key);
}

void Front::serve_with_key(const Asked& asked, const KeyEntry& key) {
    const auto& method = asked.exchange->head.method;
    const bool tells_models = asked.path == models_path;
    if (!tells_models && !is_model(asked.path) && !is_completion(asked.path)) {
        return refuse(asked, unknown_route(method, asked.path));
    }
    const auto* allowed = is_completion(asked.path) ? "POST" : "GET";
    if (method != allowed) return refuse(asked, wrong_method(method, asked.path), {{"Allow", allowed}});
    if (tells_models) return tell_models(asked, key);
    if (is_model(asked.path)) return tell_model(asked, key);
    complete(asked, key);
}

void Front::tell_models(const Asked& asked, const KeyEntry& key) {
    std::string out = R"({"object":"list","data":[)";
    bool is_first = true;
    for (const auto& [name, service] : table_.services()) {
        if (!may_use(key.tenant, service.tenant)) continue;
        if (!std::exchange(is_first, false)) out += ',';
        out += model_json(service);
    }
    asked.exchange->respond({200, "application/json", asked.reply_fields, out + "]}"});
}

void Front::tell_model(const Asked& asked, const KeyEntry& key) {
    const auto name = decoded(asked.path.substr(models_path.size() + 1));
    const auto found = table_.services().find(name);
    if (found == table_.services().end() || !may_use(key.tenant, found->second.tenant)) {
        return refuse(asked, unknown_model(name));
    }
    asked.exchange->respond({200, "application/json", asked.reply_fields, model_json(found->second)});
}

void Front::complete(const Asked& asked, const KeyEntry& key) {
    auto read = read_completion(asked.exchange->body);
    if (const auto* refusal = std::get_if<Refusal>(&read)) return refuse(asked, *refusal);
    auto& request = std::get<CompletionRequest>(read);
    auto service = pool_.service(request.model);
    if (!service || !may_use(key.tenant, service->entry().tenant)) return refuse(asked, unknown_model(request.model));
    const auto& head = asked.exchange->head;
    net::Fields upstream{{"Content-Type", "application/json"}, {"x-request-id", asked.id}};
    for (const auto* name : {"traceparent", "tracestate"}) {
        const auto value = net::field(head.fields, name);
        if (!value.empty()) upstream.emplace_back(name, value);
    }
    const auto account = usage_.account(key.tenant, request.model);
    auto relay = std::make_shared<Relay>(RelayNeeds{asked.exchange, std::move(request), std::string{asked.path},
                                                    std::move(upstream), asked.reply_fields, std::move(service),
                                                    &usage_, account, &setting_.relay});
    relay->tenant = key.tenant;
    relay->patience = patience_of(head);
    relays_.push_back(relay);
    relay->begin();
}

void Front::refuse(const Asked& asked, const Refusal& refusal, net::Fields more) {
    ++refused_[refusal.status];
    more.insert(more.begin(), asked.reply_fields.begin(), asked.reply_fields.end());
    asked.exchange->respond(reply_of(refusal, std::move(more)));
}

/// Our id, and the client's own, which is of use only to whoever compares logs.
net::Fields Front::reply_fields(const net::RequestHead* head, std::string* id) {
    auto own = fmt::format("{}{:x}", id_prefix_, ++last_number_);
    net::Fields fields{{"x-request-id", own}};
    if (id != nullptr) *id = std::move(own);
    const auto theirs = head == nullptr ? std::string_view{} : net::field(head->fields, "x-request-id");
    if (is_fit(theirs)) fields.emplace_back("x-client-request-id", theirs);
    return fields;
}

/// OpenAI's clients tell how long they wait for an answer, in seconds.
Duration Front::patience_of(const net::RequestHead& head) const {
    const auto text = net::field(head.fields, "x-stainless-timeout");
    std::int64_t seconds = 0;
    std::from_chars(text.data(), text.data() + text.size(), seconds);
    constexpr std::int64_t longest = 86'400;
    if (seconds < 1 || seconds > longest) return setting_.longest_wait;
    return std::min<Duration>(std::chrono::seconds{seconds}, setting_.longest_wait);
}

void Front::sweep() {
    const auto now = net::Loop::now_us();
    relays_.remove_if([now](const auto& each) {
        const auto relay = each.lock();
        if (relay) relay->look_at_time(now);
        return !relay || relay->is_over();
    });
    sweeper_ = loop_.after(sweep_pause, [this] { sweep(); });
}

std::string Front::metrics() const { return metrics_text(pool_, refused_, server_->connections()); }

}  // namespace stargate::gateway
