#pragma once

#include <list>
#include <memory>
#include <string>

#include "base/budget.hpp"
#include "gateway/pool.hpp"
#include "gateway/relay.hpp"
#include "gateway/table.hpp"
#include "gateway/usage.hpp"
#include "net/server.hpp"

namespace stargate::gateway {

struct FrontSetting {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any
    std::size_t longest_body = 16U << 20;
    /// Bytes of bodies that are being read; what a tenant has of them may be half, so that there is some for others.
    BudgetLimits bodies{256U << 20, 128U << 20, 0};
    std::size_t most_connections = 10'000;
    /// That a request may wait for a replica; less where its client says that it gives up sooner.
    Duration longest_wait = std::chrono::seconds{120};
    RelayLimits relay;
};

/// OpenAI's API towards clients: who may ask, what they ask for, and every refusal in OpenAI's form.
class Front {
public:
    /// Listens at once. All that it is given outlives it.
    /// boot  goes into the ids of requests
    [[nodiscard]] static Result<std::unique_ptr<Front>> listen(net::Loop& loop, FrontSetting setting,
                                                               const std::string& boot, const Table& table, Pool& pool,
                                                               UsageBook& usage);
    Front(const Front&) = delete;
    Front& operator=(const Front&) = delete;
    ~Front();

    [[nodiscard]] std::uint16_t port() const { return server_->port(); }
    [[nodiscard]] std::size_t connections() const { return server_->connections(); }
    /// Takes no more connections; those that are there end with their next reply.
    void drain() { server_->drain(); }

private:
    using ExchangePtr = std::shared_ptr<net::Exchange>;
    struct Asked {
        ExchangePtr exchange;
        std::string_view path;
        net::Fields reply_fields;
        std::string id;
    };
    Front(net::Loop& loop, FrontSetting setting, const std::string& boot, const Table& table, Pool& pool,
          UsageBook& usage);

    [[nodiscard]] std::unique_ptr<net::BodyRoom> room_for(const net::RequestHead& head) const;
    [[nodiscard]] std::optional<net::Reply> admit(const net::RequestHead& head);
    [[nodiscard]] const KeyEntry* key_of(const net::RequestHead& head) const;
    void serve(const ExchangePtr& exchange);
    void serve_with_key(const Asked& asked, const KeyEntry& key);
    void complete(const Asked& asked, const KeyEntry& key);
    void tell_models(const Asked& asked, const KeyEntry& key);
    void tell_model(const Asked& asked, const KeyEntry& key);
    [[nodiscard]] std::string metrics() const;
    void refuse(const Asked& asked, const Refusal& refusal, net::Fields more = {});
    [[nodiscard]] net::Fields reply_fields(const net::RequestHead* head, std::string* id = nullptr);
    [[nodiscard]] Duration patience_of(const net::RequestHead& head) const;
    void sweep();

    net::Loop& loop_;
    FrontSetting setting_;
    std::string id_prefix_;
    const Table& table_;
    Pool& pool_;
    UsageBook& usage_;
    std::shared_ptr<Budget<std::string>> bodies_;  // by tenant; of nobody where there is no key
    std::uint64_t last_number_ = 0;
    std::map<int, std::uint64_t> refused_;  // that belonged to no service, by status
    std::list<std::weak_ptr<Relay>> relays_;
    net::Loop::Timer sweeper_ = 0;
    std::unique_ptr<net::Server> server_;  // first to go, with all that it calls
};

}  // namespace stargate::gateway
