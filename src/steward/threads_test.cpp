#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/scratch_folder.hpp"
#include "core/given.hpp"
#include "gateway/gateway.hpp"
#include "net/client.hpp"
#include "serving/mock_engine.hpp"
#include "steward/steward.hpp"

// The whole of it beside a real gateway and a real server, each on a thread of its own: what the thread sanitizer is to
// see.
namespace stargate::steward {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A loop that turns on a thread of its own.
class Turning {
public:
    Turning() = default;
    Turning(const Turning&) = delete;
    Turning& operator=(const Turning&) = delete;
    ~Turning() { stop(); }
    void begin() {
        thread_ = std::thread{[this] { loop.run(); }};
    }
    void stop() {
        if (!thread_.joinable()) return;
        loop.stop();
        thread_.join();
    }
    net::Loop loop;

private:
    std::thread thread_;
};

class StewardThreads : public ::testing::Test {
protected:
    void SetUp() override {
        serving::MockEngineOptions options;
        options.model = "gpt";
        options.tokens_per_s = 1000;
        engine_ = std::move(*serving::MockEngine::start(engines_.loop, options));
        gateway::GatewaySetting setting;
        setting.state = folder_.path();
        gateway_ = std::move(*gateway::Gateway::start(gateways_.loop, setting));
        port_ = engine_->port();
        client_ = std::make_unique<net::Client>(loop_, net::ClientSetting{.port = gateway_->port()});
        lab_.waiting(test::external("gpt", {{"127.0.0.1", port_}}));
        engines_.begin();
        gateways_.begin();
        Serving::Needs needs;
        needs.authority.term = 1;
        needs.on_reply = [this](const Report& reply) {
            const std::lock_guard lock{mutex_};
            replies_.push_back(reply);
            news_.notify_all();
        };
        needs.on_demand = [this](const GatewayDemand&) {
            const std::lock_guard lock{mutex_};
            ++demands_;
            news_.notify_all();
        };
        needs.on_tick = [] {};
        needs.read = [this](const std::function<void(const State&)>& look) {
            const std::lock_guard lock{state_mutex_};
            look(lab_.state());
        };
        needs.now = [now = lab_.now()] { return now; };
        steward_ = Steward::start(folder_.path(), std::move(needs));
    }
    void TearDown() override {
        steward_.reset();
        gateways_.stop();
        engines_.stop();
        client_.reset();
        gateway_.reset();
        engine_.reset();
    }
    template <class Holds>
    bool hears(Holds holds) {
        std::unique_lock lock{mutex_};
        return news_.wait_for(lock, seconds{20}, holds);
    }
    /// What the gateway answers to a small request; 0: nothing.
    int ask() {
        int status = 0;
        loop_.restart();
        const auto limit = loop_.after(seconds{10}, [this] { loop_.stop(); });
        const auto call = client_->start(
            net::request_bytes("POST", "/v1/chat/completions", client_->host(), {{"Authorization", "Bearer key"}},
                               R"({"model":"gpt","max_tokens":3,"messages":[]})"),
            {[&](const net::ResponseHead& head) { status = head.status; }, [](std::string_view) {},
             [this] { loop_.stop(); }, [this](const net::CallFailure&) { loop_.stop(); }});
        loop_.run();
        loop_.cancel(limit);
        call->cancel();
        return status;
    }
    bool is_answered_with(int status) {
        for (int i = 0; i < 200; ++i) {
            if (ask() == status) return true;
            std::this_thread::sleep_for(milliseconds{20});
        }
        return false;
    }

    const ScratchFolder folder_;
    Turning engines_;
    Turning gateways_;
    net::Loop loop_;
    test::Given lab_;
    std::unique_ptr<serving::MockEngine> engine_;
    std::unique_ptr<gateway::Gateway> gateway_;
    std::unique_ptr<net::Client> client_;
    std::uint16_t port_ = 0;
    std::mutex state_mutex_;
    std::mutex mutex_;
    std::condition_variable news_;
    std::vector<Report> replies_;
    int demands_ = 0;
    std::unique_ptr<Steward> steward_;
};

TEST_F(StewardThreads, RoutesKeysAndSightsAreThereForWhoeverAsksFromWherever) {
    const auto gpt = lab_.id("gpt");
    std::thread busy{[&] {
        for (int i = 0; i < 300; ++i) {
            steward_->state_changed();
            (void)steward_->endpoints_of(gpt);
            steward_->set_keys({{"k", "lab", digest_of("key")}});
        }
    }};
    for (int i = 0; i < 300; ++i) {
        steward_->state_changed();
        (void)steward_->endpoints_of(gpt);
    }
    busy.join();
    EXPECT_TRUE(is_answered_with(200));
    EXPECT_EQ(steward_->endpoints_of(gpt), (std::vector<EndpointSight>{{true, ""}}));
    EXPECT_TRUE(hears([this] { return demands_ > 0; }));
    steward_->set_keys({});
    EXPECT_TRUE(is_answered_with(401));
}

TEST_F(StewardThreads, AReplicaIsDrainedAndPutToSleepWhileItsStateGoesOn) {
    steward_->set_keys({{"k", "lab", digest_of("key")}});
    steward_->tell({AttemptId{7}, NodeId{1}, port_, Telling::sleep, lab_.now() + seconds{5}, {}, 3});
    for (int i = 0; i < 100; ++i) steward_->state_changed();
    ASSERT_TRUE(hears([this] { return !replies_.empty(); }));
    EXPECT_EQ(std::get<ReplicaAsleep>(replies_.front()), (ReplicaAsleep{AttemptId{7}, true, 3}));
}

}  // namespace
}  // namespace stargate::steward
