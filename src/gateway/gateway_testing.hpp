#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/scratch_folder.hpp"
#include "gateway/gateway.hpp"
#include "gateway/json_scan.hpp"
#include "net/client.hpp"
#include "net/line_link.hpp"
#include "serving/mock_engine.hpp"

/// For tests: a gateway, mock engines and a control plane, all on one loop.
namespace stargate::gateway {

class WithGateway : public ::testing::Test {
protected:
    void SetUp() override {
        setting_.state = folder_.path();
        start();
    }
    void start() {
        auto gateway = Gateway::start(loop_, setting_);
        ASSERT_TRUE(gateway) << gateway.error().detail;
        gateway_ = std::move(*gateway);
        client_ = std::make_unique<net::Client>(loop_, net::ClientSetting{.port = gateway_->port()});
    }
    void TearDown() override {
        for (const auto& call : std::exchange(calls_, {})) call->cancel();
        plane_.reset();
        gateway_.reset();
        // What was cancelled gives back what it holds.
        loop_.post([this] { loop_.stop(); });
        loop_.run();
    }

    /// Turns the loop until that holds; false after ten seconds.
    bool until(const std::function<bool()>& holds) {
        bool in_time = true;
        std::function<void()> look = [&] {
            if (holds()) return loop_.stop();
            loop_.after(std::chrono::milliseconds{1}, look);
        };
        const auto limit = loop_.after(std::chrono::seconds{10}, [&] {
            in_time = false;
            loop_.stop();
        });
        loop_.post(look);
        loop_.run();
        loop_.cancel(limit);
        loop_.restart();
        return in_time;
    }
    void pass(Duration time) {
        bool is_over = false;
        loop_.after(time, [&] { is_over = true; });
        until([&] { return is_over; });
    }

    // The control plane's side.
    struct Plane {
        std::unique_ptr<net::LineLink> link;
        std::vector<Report> reports;
        std::string closed;

        template <class Kind>
        [[nodiscard]] std::vector<Kind> all() const {
            std::vector<Kind> found;
            for (const auto& report : reports) {
                if (const auto* it = std::get_if<Kind>(&report)) found.push_back(*it);
            }
            return found;
        }
        void say(const Order& order) const { link->send(to_line(order)); }
    };
    std::unique_ptr<Plane> connect() {
        auto plane = std::make_unique<Plane>();
        auto link = net::LineLink::connect(loop_, folder_ / "gateway.sock");
        EXPECT_TRUE(link) << link.error().detail;
        if (!link) return plane;
        plane->link = std::move(*link);
        plane->link->begin({[raw = plane.get()](std::string_view line) {
                                const auto read = read_report(line);
                                ASSERT_TRUE(read) << line;
                                raw->reports.push_back(std::get<Report>(*read));
                            },
                            [raw = plane.get()](const std::string& why) { raw->closed = why; }});
        return plane;
    }
    void take_office(std::uint64_t term = 1) {
        plane_ = connect();
        plane_->say(TakeOffice{"store", term});
    }
    std::uint16_t engine(serving::MockEngineOptions options = {}) {
        options.tokens_per_s = options.tokens_per_s == 50 ? 1000 : options.tokens_per_s;
        auto engine = serving::MockEngine::start(loop_, options);
        EXPECT_TRUE(engine) << engine.error().detail;
        engines_.push_back(std::move(*engine));
        return engines_.back()->port();
    }
    /// A service `chat` of tenant `lab` at these ports, whose replicas are 1, 2, ...
    static ServiceEntry chat(const std::vector<std::uint16_t>& ports) {
        ServiceEntry service;
        service.name = "chat";
        service.tenant = "lab";
        service.model = "mock";
        std::uint64_t id = 0;
        for (const auto port : ports) service.replicas.push_back({++id, "127.0.0.1", port, ReplicaState::serving});
        return service;
    }
    /// Tells a table with that service and two keys: `key` of tenant `lab`, `other` of `shop`.
    void tell(const ServiceEntry& service) { tell_all({service}); }
    void tell_all(std::vector<ServiceEntry> services) {
        if (!plane_) take_office();
        plane_->say(WholeTable{
            ++version_, std::move(services), {{"k1", "lab", digest_of("key")}, {"k2", "shop", digest_of("other")}}});
        ASSERT_TRUE(until([&] { return has(version_); }));
    }
    [[nodiscard]] bool has(std::uint64_t version) const {
        const auto told = plane_->all<Have>();
        return !told.empty() && told.back().version == version;
    }

    // A client's side.
    struct Answer {
        int status = 0;
        net::Fields fields;
        std::string body;
        bool has_ended = false;
        std::string failure;
        [[nodiscard]] bool is_over() const { return has_ended || !failure.empty(); }
        [[nodiscard]] std::string field(std::string_view name) const { return std::string{net::field(fields, name)}; }
        /// A member of its error, as JSON.
        [[nodiscard]] std::string error(std::string_view member) const {
            const auto error = member_of(body, "error").value_or("");
            return std::string{member_of(error, member).value_or("missing")};
        }
    };
    struct Asked {
        std::shared_ptr<Answer> answer = std::make_shared<Answer>();
        std::shared_ptr<net::Call> call;
    };
    Asked begin(const std::string& body, const std::string& key = "key",
                const std::string& target = "/v1/chat/completions", const std::string& method = "POST",
                net::Fields more = {}) {
        Asked asked;
        if (!key.empty()) more.emplace_back("Authorization", "Bearer " + key);
        asked.call = client_->start(
            net::request_bytes(method, target, client_->host(), more, body),
            {[answer = asked.answer](const net::ResponseHead& head) {
                 answer->status = head.status;
                 answer->fields = head.fields;
             },
             [answer = asked.answer](std::string_view part) { answer->body += part; },
             [answer = asked.answer] { answer->has_ended = true; },
             [answer = asked.answer](const net::CallFailure& failure) { answer->failure = failure.why; }});
        calls_.push_back(asked.call);
        return asked;
    }
    Answer ask(const std::string& body, const std::string& key = "key",
               const std::string& target = "/v1/chat/completions", const std::string& method = "POST",
               net::Fields more = {}) {
        const auto asked = begin(body, key, target, method, std::move(more));
        EXPECT_TRUE(until([&] { return asked.answer->is_over(); })) << body;
        return *asked.answer;
    }
    /// Of the boot's usage file, the record of this tenant at `chat`.
    [[nodiscard]] UsageCounters used(const std::string& tenant = "lab") const {
        const auto read = read_usage(folder_ / "usage/" + gateway_->boot());
        EXPECT_TRUE(read);
        for (const auto& record : read ? read->records : std::vector<UsageRecord>{}) {
            if (record.tenant == tenant && record.service == "chat") return record.counters;
        }
        return {};
    }

    static constexpr auto small = R"({"model":"chat","max_tokens":3,"messages":[]})";
    static constexpr auto streamed = R"({"model":"chat","max_tokens":3,"stream":true,"messages":[]})";
    static constexpr auto endless = R"({"model":"chat","max_tokens":100000,"stream":true,"messages":[]})";

    ScratchFolder folder_;
    net::Loop loop_;
    GatewaySetting setting_;
    std::deque<std::unique_ptr<serving::MockEngine>> engines_;
    std::unique_ptr<Gateway> gateway_;
    std::unique_ptr<Plane> plane_;
    std::unique_ptr<net::Client> client_;
    std::vector<std::shared_ptr<net::Call>> calls_;
    std::uint64_t version_ = 0;
};

}  // namespace stargate::gateway
