#include "api/gateway_keys.hpp"

#include <gtest/gtest.h>

#include "api/tokens.hpp"
#include "base/file.hpp"
#include "base/scratch_folder.hpp"

// The files that hold keys and tokens: what is damaged in them is said, with its line.
namespace stargate::api {
namespace {

class KeyFiles : public ::testing::Test {
protected:
    [[nodiscard]] std::string open_keys(const std::string& text) {
        EXPECT_TRUE(write_durably(folder_ / "gateway-keys", text));
        const auto opened = GatewayKeys::open(folder_.path());
        return opened ? "" : opened.error().detail;
    }
    ScratchFolder folder_;
};

TEST_F(KeyFiles, WhatWasMadeIsThereAgain) {
    auto keys = GatewayKeys::open(folder_.path());
    ASSERT_TRUE(keys);
    ASSERT_TRUE(keys->make("app", "lab/nlp"));
    ASSERT_TRUE(keys->make("other", "default"));
    const auto again = GatewayKeys::open(folder_.path());
    ASSERT_TRUE(again) << again.error().detail;
    ASSERT_EQ(again->all().size(), 2U);
    EXPECT_EQ(again->all()[0].id(), keys->all()[0].id());
    EXPECT_EQ(again->all()[1].name, "other");
}

TEST_F(KeyFiles, ALineThatIsCutIsDamageAndItsPlaceAndRemedyAreSaid) {
    const auto good = hex_of(digest_of("a")) + " lab app\n";
    EXPECT_EQ(open_keys(good + good), "");
    for (const auto& line :
         {hex_of(digest_of("b")) + " lab ap", hex_of(digest_of("b")) + " lab", std::string{"ab"},
          hex_of(digest_of("b")) + " lab app more\n", std::string{"x lab app\n"}, std::string{"\n"}}) {
        EXPECT_EQ(
            open_keys(good + line),
            folder_ / "gateway-keys" +
                ":2 is damaged; remove that line and make a new key in its place: stargate token create --gateway")
            << line;
    }
}

TEST_F(KeyFiles, TheSameOfTokens) {
    const auto good = hex_of(digest_of("a")) + " 1000 0 app\n";
    ASSERT_TRUE(write_durably(folder_ / "tokens", good));
    EXPECT_TRUE(Tokens::open(folder_.path()));
    for (const auto& line : {hex_of(digest_of("b")) + " 1000 0 ap", hex_of(digest_of("b")) + " 1000"}) {
        ASSERT_TRUE(write_durably(folder_ / "tokens", good + line));
        const auto opened = Tokens::open(folder_.path());
        ASSERT_FALSE(opened);
        EXPECT_NE(opened.error().detail.find("/tokens:2 is damaged"), std::string::npos) << opened.error().detail;
    }
}

}  // namespace
}  // namespace stargate::api
