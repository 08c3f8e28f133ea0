#include <gtest/gtest.h>

#include "net/client.hpp"
#include "serving/load.hpp"
#include "serving/mock_engine.hpp"

// The mock engine and the load tool, against each other.
namespace stargate::serving {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Serving : public ::testing::Test {
protected:
    void start(const MockEngineOptions& options = {}) {
        auto engine = MockEngine::start(loop_, options);
        ASSERT_TRUE(engine) << engine.error().detail;
        engine_ = std::move(*engine);
        load_.port = engine_->port();
        load_.patience = seconds{5};
        client_ = std::make_unique<net::Client>(loop_, net::ClientSetting{.port = engine_->port()});
    }
    struct Answer {
        int status = 0;
        std::string body;
        std::string failure;
        std::string asleep;
    };
    Answer ask(const std::string& method, const std::string& target, const std::string& body = {}) {
        Answer answer;
        const auto call = client_->start(net::request_bytes(method, target, client_->host(), {}, body),
                                         {[&](const net::ResponseHead& head) {
                                              answer.status = head.status;
                                              answer.asleep = net::field(head.fields, "x-stargate-asleep");
                                          },
                                          [&](std::string_view part) { answer.body += part; }, [&] { loop_.stop(); },
                                          [&](const net::CallFailure& failure) {
                                              answer.failure = failure.why;
                                              loop_.stop();
                                          }});
        const auto limit = loop_.after(seconds{5}, [&] { loop_.stop(); });
        loop_.run();
        loop_.restart();
        loop_.cancel(limit);
        call->cancel();
        return answer;
    }
    LoadResult load(const std::vector<Arrival>& arrivals) { return run_load(loop_, load_, arrivals)[""]; }

    net::Loop loop_;
    std::unique_ptr<MockEngine> engine_;
    std::unique_ptr<net::Client> client_;
    LoadOptions load_;
};

constexpr const char* short_chat = R"({"model":"mock","max_tokens":3,"messages":[]})";

TEST_F(Serving, AnswersAChatWholeAndAsAStream) {
    start({.tokens_per_s = 1000});
    const auto whole = ask("POST", "/v1/chat/completions", short_chat);
    EXPECT_EQ(whole.status, 200);
    EXPECT_NE(whole.body.find(R"("content":"w0 w1 w2")"), std::string::npos) << whole.body;
    EXPECT_NE(whole.body.find(R"("completion_tokens":3)"), std::string::npos) << whole.body;
    const auto stream = ask("POST", "/v1/chat/completions",
                            R"({"model":"mock","max_tokens":3,"stream":true,"stream_options":{"include_usage":true}})");
    EXPECT_NE(stream.body.find(R"("content":" w2"},"finish_reason":"length")"), std::string::npos) << stream.body;
    EXPECT_NE(stream.body.find(R"("choices":[],"usage":{)"), std::string::npos) << stream.body;
    EXPECT_TRUE(stream.body.ends_with("data: [DONE]\n\n"));
    const auto text = ask("POST", "/v1/completions", R"({"model":"mock","max_tokens":2,"prompt":"a"})");
    EXPECT_NE(text.body.find(R"("text":"w0 w1")"), std::string::npos) << text.body;
    EXPECT_EQ(ask("POST", "/v1/chat/completions", R"({"model":"other"})").status, 404);
    EXPECT_EQ(ask("POST", "/v1/chat/completions", "no json").status, 400);
    EXPECT_EQ(ask("GET", "/nowhere").status, 404);
    EXPECT_EQ(ask("GET", "/health").status, 200);
}

TEST_F(Serving, PacesEachStreamAndLetsNoMoreThanABatchRun) {
    start({.tokens_per_s = 100, .max_batch = 2});
    // Four at once, ten tokens each: two batches of some 100 ms.
    const std::vector<Arrival> arrivals(4, Arrival{{}, 1, 10});
    const auto result = load(arrivals);
    EXPECT_EQ(result.completed, 4U);
    EXPECT_EQ(result.frames, 40U);
    EXPECT_EQ(result.frames_lost, 0U);
    EXPECT_NEAR(result.tpot_ms.p50, 10, 5);
    EXPECT_GT(result.ttft_ms.longest, 80) << "two of them waited for the others";
}

TEST_F(Serving, StreamsAreSlowerTogetherWhereTheirSumIsBounded) {
    start({.tokens_per_s = 100, .batch_tokens_per_s = 200});
    EXPECT_NEAR(load({{{}, 1, 10}}).tpot_ms.p50, 10, 5);
    EXPECT_NEAR(load(std::vector<Arrival>(8, Arrival{{}, 1, 10})).tpot_ms.p50, 40, 8);
}

TEST_F(Serving, ASleeperRefusesWithItsMarkAndServesWhatItHasFirst) {
    start({.tokens_per_s = 100, .wake_time = milliseconds{20}});
    EXPECT_EQ(ask("POST", "/sleep").status, 200);
    EXPECT_TRUE(engine_->is_asleep());
    const auto refused = ask("POST", "/v1/chat/completions", short_chat);
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.asleep, "1");
    EXPECT_EQ(ask("GET", "/is_sleeping").body, R"({"is_sleeping":true})");
    EXPECT_EQ(ask("POST", "/wake_up").status, 200);
    EXPECT_EQ(ask("POST", "/v1/chat/completions", short_chat).status, 200);
    std::string answer;
    const auto chat =
        client_->start(net::request_bytes("POST", "/v1/chat/completions", client_->host(), {}, short_chat),
                       {{}, [&](std::string_view part) { answer += part; }, {}, {}});
    loop_.after(milliseconds{10}, [&] { loop_.stop(); });
    loop_.run();
    loop_.restart();
    EXPECT_EQ(engine_->in_flight(), 1U);
    EXPECT_EQ(ask("POST", "/sleep").status, 200);
    EXPECT_EQ(engine_->in_flight(), 0U);
    EXPECT_NE(answer.find("w2"), std::string::npos);
}

TEST_F(Serving, WhoGoesAwayIsComputedNoFurther) {
    start({.tokens_per_s = 100});
    const auto chat = client_->start(net::request_bytes("POST", "/v1/chat/completions", client_->host(), {},
                                                        R"({"model":"mock","max_tokens":1000,"stream":true})"),
                                     {});
    loop_.after(milliseconds{50}, [&] { chat->cancel(); });
    loop_.after(milliseconds{100}, [&] { loop_.stop(); });
    loop_.run();
    loop_.restart();
    EXPECT_EQ(engine_->cancelled(), 1U);
    EXPECT_EQ(engine_->in_flight(), 0U);
}

TEST_F(Serving, TheLoadToolTellsWhatWentWrong) {
    start({.tokens_per_s = 1000, .max_batch = 1, .longest_queue = 2});
    const auto crowded = load(std::vector<Arrival>(20, Arrival{{}, 1, 50}));
    EXPECT_GT(crowded.rejected, 0U);
    EXPECT_EQ(crowded.rejected, crowded.rejected_with_advice);
    EXPECT_EQ(crowded.completed + crowded.rejected, 20U);
    start({.tokens_per_s = 1000, .fault = MockFault::cut});
    const auto cut = load({{{}, 1, 10}, {{}, 1, 10}});
    EXPECT_EQ(cut.failed, 2U);
    EXPECT_EQ(cut.completed, 0U);
    start({.fault = MockFault::html});
    const auto page = load({{{}, 1, 10}});
    EXPECT_EQ(page.failed, 1U);
    EXPECT_EQ(page.reasons.count("no end in the stream"), 1U);
    start({.fault = MockFault::hang});
    load_.patience = milliseconds{50};
    const auto hung = load({{{}, 1, 10}});
    EXPECT_EQ(hung.failed, 1U);
    EXPECT_EQ(hung.reasons.count("no end in time"), 1U);
}

TEST_F(Serving, EachTierIsCountedByItself) {
    start({.tokens_per_s = 1000});
    load_.tiers = {"default", "flex"};
    const auto results = run_load(loop_, load_, std::vector<Arrival>(5, Arrival{{}, 1, 2}));
    EXPECT_EQ(results.at("").completed, 5U);
    EXPECT_EQ(results.at("default").completed, 3U);
    EXPECT_EQ(results.at("flex").completed, 2U);
    const auto json = to_json(results, seconds{1});
    EXPECT_NE(json.find(R"("tiers":{"default":{"sent":3)"), std::string::npos) << json;
}

TEST(Arrivals, AreTheSameForTheSameSeedAndAsManyAsTheRateSays) {
    const auto one = random_arrivals(100, seconds{100}, 1, 1, 7);
    const auto same = random_arrivals(100, seconds{100}, 1, 1, 7);
    ASSERT_EQ(one.size(), same.size());
    EXPECT_EQ(one.back().at, same.back().at);
    EXPECT_NEAR(static_cast<double>(one.size()), 10'000, 400);
    EXPECT_NE(random_arrivals(100, seconds{100}, 1, 1, 8).front().at, one.front().at);
}

TEST(Arrivals, AreReadFromATrace) {
    const auto read = read_trace(
        "{\"timestamp\": 20, \"input_length\": 5, \"output_length\": 6}\n"
        "{\"timestamp\": 10, \"input_length\": 1, \"output_length\": 2}\n"
        "{\"timestamp\": 90000, \"input_length\": 1, \"output_length\": 2}\n",
        seconds{60});
    ASSERT_TRUE(read) << read.error().detail;
    ASSERT_EQ(read->size(), 2U);
    EXPECT_EQ(read->front().at, milliseconds{10});
    EXPECT_EQ(read->back().tokens, 6);
    const auto bad = read_trace("{\"timestamp\": 20, \"output_length\": 6}\n{\"timestamp\": 20}\n", seconds{60});
    ASSERT_FALSE(bad);
    EXPECT_NE(bad.error().detail.find("line 2"), std::string::npos);
}

}  // namespace
}  // namespace stargate::serving
