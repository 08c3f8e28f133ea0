#include "net/message.hpp"

#include <gtest/gtest.h>

namespace stargate::net {
namespace {

/// Feeds it in pieces of that size; what is left over.
std::string feed(RequestReader& reader, std::string_view bytes, std::size_t size) {
    std::string waiting;
    while (true) {
        while (!waiting.empty()) {
            const auto used = reader.put(waiting);
            waiting.erase(0, used);
            if (used == 0 || reader.stage() == Stage::broken) break;
            if (reader.stage() == Stage::whole) return waiting + std::string{bytes};
        }
        if (reader.stage() == Stage::broken || bytes.empty()) return waiting;
        waiting += bytes.substr(0, size);
        bytes.remove_prefix(std::min(size, bytes.size()));
    }
}

TEST(BearerToken, StandsBehindItsSchemeInAnyCase) {
    for (const auto* credentials : {"Bearer a=b", "bearer a=b", "BEARER a=b", "Bearer  a=b"}) {
        EXPECT_EQ(bearer_token(credentials), "a=b") << credentials;
    }
    for (const auto* none : {"", "Bearer", "Bearer ", "bearer  ", "Basic a=b", "Bearera=b", "a=b"}) {
        EXPECT_EQ(bearer_token(none), "") << none;
    }
}

TEST(RequestReader, ReadsARequestHoweverItComes) {
    const std::string wire =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a:1\r\nX-Id: 7\r\nContent-Length: 5\r\n\r\nhelloGET / "
        "HTTP/1.1\r\n";
    for (std::size_t size = 1; size < wire.size(); ++size) {
        RequestReader reader{1024, 1024};
        const auto rest = feed(reader, wire, size);
        ASSERT_EQ(reader.stage(), Stage::whole) << size << ": " << reader.why();
        EXPECT_EQ(reader.head().method, "POST");
        EXPECT_EQ(reader.head().target, "/v1/chat/completions");
        EXPECT_EQ(field(reader.head().fields, "x-id"), "7");
        EXPECT_EQ(reader.body(), "hello");
        EXPECT_TRUE(reader.head().keeps_alive);
        EXPECT_EQ(rest, "GET / HTTP/1.1\r\n");
    }
}

TEST(RequestReader, ReadsChunks) {
    RequestReader reader{1024, 1024};
    feed(reader, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 7);
    ASSERT_EQ(reader.stage(), Stage::whole);
    EXPECT_EQ(reader.body(), "abcde");
}

TEST(RequestReader, RefusesWhatTwoReadersCouldReadDifferently) {
    const std::pair<const char*, int> bad[] = {
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
        {"\x16\x03\x01\x02", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", 413},
    };
    for (const auto& [wire, status] : bad) {
        RequestReader reader{1024, 1024};
        feed(reader, wire, 1000);
        EXPECT_EQ(reader.stage(), Stage::broken) << wire;
        EXPECT_EQ(reader.status(), status) << wire;
    }
    RequestReader reader{1024, 1024};
    feed(reader, "GET / HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n", 100);
    EXPECT_EQ(reader.status(), 431);
}

/// What a proxy before us may read as one request and we as two, or the other way round.
TEST(RequestReader, RefusesTheTricksOfSmugglers) {
    const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
    const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
    for (const auto& wire : std::vector<std::string>{
             post + "Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
             post + "Transfer-Encoding: identity\r\n\r\nhello",
             post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
             post + "Transfer-Encoding: \x0b"
                    "chunked\r\n\r\n0\r\n\r\n",
             "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
             post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
             post + "Content-Length: 5, 5\r\n\r\nhello",
             post + "Content-Length: 0x5\r\n\r\nhello",
             post + "Content-Length: 5 5\r\n\r\nhello",
             post + "Content-Length: \r\n\r\n",
             post + "Content-Length:\r\n 5\r\n\r\nhello",
             post + "Content-Length: 18446744073709551621\r\n\r\nhello",
             post + "X: a\r\n b\r\n\r\n",
             post + "X: a\nContent-Length: 5\r\n\r\nhello",
             post + "X: a\rContent-Length: 5\r\n\r\nhello",
             post + std::string{"X: a\0b\r\n\r\n", 10},
             post + "no colon\r\n\r\n",
             post + ": no name\r\n\r\n",
             " " + post + "\r\n",
             "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello\r\n\r\n",
             "POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
             "POST / HTTP/1.1 \r\nHost: a\r\n\r\n",
             "POST / HTTP/2.0\r\nHost: a\r\n\r\n",
             "POST /\r\n\r\n",
             "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
             chunked + "0x5\r\nhello\r\n0\r\n\r\n",
             chunked + "+5\r\nhello\r\n0\r\n\r\n",
             chunked + "-5\r\nhello\r\n0\r\n\r\n",
             chunked + " 5\r\nhello\r\n0\r\n\r\n",
             chunked + "5 \r\nhello\r\n0\r\n\r\n",
             chunked + "5\nhello\r\n0\r\n\r\n",
             chunked + "5\r\nhello0\r\n\r\n",
             chunked + "5\r\nhelloX\r\n0\r\n\r\n",
             chunked + "5;a\nb\r\nhello\r\n0\r\n\r\n",
             chunked + "10000000000000005\r\nhello\r\n0\r\n\r\n",
             chunked + "\r\nhello\r\n0\r\n\r\n",
         }) {
        for (const std::size_t size : {std::size_t{1}, wire.size()}) {
            RequestReader reader{1024, 1024};
            feed(reader, wire, size);
            EXPECT_EQ(reader.stage(), Stage::broken) << size << ": " << wire;
            EXPECT_EQ(reader.status(), 400) << wire;
        }
    }
}

TEST(RequestReader, ChunksAreMeasuredTogetherAndTheirTrailersPassedOver) {
    const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    RequestReader large{1024, 8};
    feed(large, chunked + "5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n", 7);
    EXPECT_EQ(large.stage(), Stage::broken);
    EXPECT_EQ(large.status(), 413);
    RequestReader trailed{1024, 8};
    const auto rest = feed(trailed, chunked + "5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\nGET /", 7);
    ASSERT_EQ(trailed.stage(), Stage::whole);
    EXPECT_EQ(trailed.body(), "hello");
    EXPECT_EQ(field(trailed.head().fields, "Authorization"), "");
    EXPECT_EQ(rest, "GET /");
}

TEST(ResponseReader, ReadsEachKindOfEnd) {
    const auto read = [](std::string_view wire, bool ends, std::size_t size) {
        ResponseReader reader{1024};
        std::string body;
        std::string waiting;
        while (!wire.empty()) {
            waiting += wire.substr(0, size);
            wire.remove_prefix(std::min(size, wire.size()));
            while (!waiting.empty()) {
                const auto used = reader.put(waiting, [&](std::string_view part) { body += part; });
                waiting.erase(0, used);
                if (used == 0) break;
            }
        }
        if (ends) reader.put_end();
        return std::pair{reader.stage(), body};
    };
    for (std::size_t size = 1; size < 40; size += 3) {
        const std::pair whole{Stage::whole, std::string{"hello"}};
        EXPECT_EQ(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, size), whole);
        EXPECT_EQ(
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", false, size),
            whole);
        EXPECT_EQ(read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, size),
                  whole);
        EXPECT_EQ(read("HTTP/1.0 200 OK\r\n\r\nhello", true, size), whole);
        EXPECT_EQ(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true, size).first, Stage::broken);
        EXPECT_EQ(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, size).first,
                  Stage::broken);
        EXPECT_EQ(read("<html>\r\nno HTTP</html>\r\n", false, size).first, Stage::broken);
        EXPECT_EQ(read("<html>no HTTP</html>", true, size).first, Stage::broken);
    }
}

}  // namespace
}  // namespace stargate::net
