#include "base/codec.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/json_text.hpp"

namespace stargate {
namespace {

enum class Colour : std::uint8_t { red, green };
BOOST_DESCRIBE_ENUM(Colour, red, green)

struct First {
    std::int32_t number = 7;
    friend bool operator==(const First&, const First&) = default;
};
BOOST_DESCRIBE_STRUCT(First, (), (number))

struct FirstGrown {
    std::int32_t number = 7;
    std::string added = "default";
};
BOOST_DESCRIBE_STRUCT(FirstGrown, (), (number, added))

struct Whole {
    JobId job;
    Bytes memory;
    Instant at{};
    Colour colour = Colour::red;
    std::optional<std::string> note;
    std::vector<First> list;
    std::variant<First, std::string> either;
    friend bool operator==(const Whole&, const Whole&) = default;
};
BOOST_DESCRIBE_STRUCT(Whole, (), (job, memory, at, colour, note, list, either))

Whole sample() {
    return {JobId{300}, gibibytes(3), Instant{Duration{-5}}, Colour::green,
            "a\"b\n",   {{1}, {-2}},  std::string(200, 'x')};
}

TEST(Codec, ReadsBackWhatItWrote) {
    const auto read = decoded<Whole>(encoded(sample()));
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, sample());
}

TEST(Codec, AnOldRecordReadsWithDefaultsForWhatWasAddedAndANewOneSkipsWhatIsUnknown) {
    const auto grown = decoded<FirstGrown>(encoded(First{3}));
    ASSERT_TRUE(grown);
    EXPECT_EQ(grown->number, 3);
    EXPECT_EQ(grown->added, "default");
    const auto old = decoded<First>(encoded(FirstGrown{4, "more"}));
    ASSERT_TRUE(old);
    EXPECT_EQ(old->number, 4);
}

TEST(Codec, EveryTruncationIsRejectedAndNoFlippedByteCrashes) {
    const auto whole = encoded(sample());
    for (std::size_t length = 0; length < whole.size(); ++length) {
        EXPECT_FALSE(decoded<Whole>(std::string_view{whole}.substr(0, length))) << length;
    }
    for (std::size_t i = 0; i < whole.size(); ++i) {
        auto flipped = whole;
        flipped[i] = static_cast<char>(flipped[i] ^ 0x81);
        (void)decoded<Whole>(flipped);
    }
}

TEST(JsonText, EscapesAndNames) {
    std::string out;
    json_text(out, sample());
    const std::string_view begin =
        R"({"job":300,"memory":3221225472,"at":-5,"colour":"green","note":"a\"b\n","list":[{"number":1},)";
    EXPECT_TRUE(out.starts_with(begin)) << out;
}

}  // namespace
}  // namespace stargate
