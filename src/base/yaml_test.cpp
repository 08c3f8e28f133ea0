#include "base/yaml.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace stargate {
namespace {

/// A tree in one line, with the line of each value: `{a@1: b@1, c@2: [~@3, 'd'@4]}`.
std::string shown(const YamlNode& node) {
    std::string text;
    switch (node.kind) {
        case YamlNode::Kind::null:
            text = "~";
            break;
        case YamlNode::Kind::scalar:
            text = node.quoted ? "'" + node.text + "'" : node.text;
            break;
        case YamlNode::Kind::sequence:
            for (const auto& item : node.items) text += (text.empty() ? "" : ", ") + shown(item);
            text = "[" + text + "]";
            break;
        case YamlNode::Kind::map:
            for (const auto& [key, value] : node.members) {
                text += (text.empty() ? "" : ", ") + key.text + "@" + std::to_string(key.line) + ": " + shown(value);
            }
            text = "{" + text + "}";
            break;
    }
    return text + "@" + std::to_string(node.line);
}

std::string read(const std::string& text) {
    const auto root = parse_yaml(text, "job");
    if (root) return shown(*root);
    const auto& [line, field, what] = root.error();
    return std::to_string(line) + ": " + field + ": " + what;
}

TEST(Yaml, EveryValueKnowsItsLine) {
    EXPECT_EQ(read("a: b\n\nc:\n  - d\n  - e: f\n"), "{a@1: b@1, c@3: [d@4, {e@5: f@5}@5]@4}@1");
    EXPECT_EQ(read("# a comment\na: b # another\n# and\nc: d#e\n"), "{a@2: b@2, c@4: d#e@4}@2");
    EXPECT_EQ(read("---\na: b\n...\n"), "{a@2: b@2}@2");
    EXPECT_EQ(read("%YAML 1.1\n---\na: b\n"), "{a@3: b@3}@3");
    EXPECT_EQ(read("a: &x b\nc: &y\n  d: e\n"), "{a@1: b@1, c@2: {d@3: e@3}@2}@1") << "anchors alone name nothing";
}

TEST(Yaml, NothingIsNull) {
    EXPECT_EQ(read(""), "~@1");
    EXPECT_TRUE(parse_yaml({}, "job"));
    EXPECT_EQ(read("# nothing\n"), "~@1");
    EXPECT_EQ(read("a:\nb: ~\nc: null\nd: Null\ne: NULL\nf: nULL\n"),
              "{a@1: ~@1, b@2: ~@2, c@3: ~@3, d@4: ~@4, e@5: ~@5, f@6: nULL@6}@1");
    EXPECT_EQ(read("- \n- ''\n- '~'\n- \"null\"\n"), "[~@1, ''@2, '~'@3, 'null'@4]@1");
    EXPECT_EQ(read("{a, b: , c: ''}"), "{a@1: ~@1, b@1: ~@1, c@1: ''@1}@1");
}

TEST(Yaml, QuotesAndEscapes) {
    EXPECT_EQ(read("a: 'it''s'\nb: \"x\\ty\\x41\\u00e9\\/\"\nc: 'two\n  lines'\n"),
              "{a@1: 'it's'@1, b@2: 'x\tyA\u00e9/'@2, c@3: 'two lines'@3}@1");
    EXPECT_EQ(read("a: yes\nb: 08\nc: 1e3\nd: 2020-01-01\n"),
              "{a@1: yes@1, b@2: 08@2, c@3: 1e3@3, d@4: 2020-01-01@4}@1")
        << "what a word means, its reader decides";
}

TEST(Yaml, BlocksAreTexts) {
    EXPECT_EQ(read("a: |\n  x: y\n  # z\n\nb: >-\n  p\n  q\n"), "{a@1: 'x: y\n# z\n'@1, b@5: 'p q'@5}@1");
    EXPECT_EQ(read("a: |+\n  x\n\n"), "{a@1: 'x\n\n'@1}@1");
    EXPECT_EQ(read("a: |2\n    x\n"), "{a@1: '  x\n'@1}@1");
    EXPECT_EQ(read("a: |\n  null\n"), "{a@1: 'null\n'@1}@1");
    EXPECT_EQ(read("run: echo a &&\n  echo b\n"), "{run@1: echo a && echo b@1}@1");
}

TEST(Yaml, FlowCollections) {
    EXPECT_EQ(read("a: [1, 'b',\n  [c], {d: e}]\nf: {g: h, \"i\":j}\n"),
              "{a@1: [1@1, 'b'@1, [c@2]@2, {d@2: e@2}@2]@1, f@3: {g@3: h@3, i@3: j@3}@3}@1");
    EXPECT_EQ(read("a: [x:/y, /s:/t:ro, http://h:1/]\n"), "{a@1: [x:/y@1, /s:/t:ro@1, http://h:1/@1]@1}@1");
    EXPECT_EQ(read("[]"), "[]@1");
    EXPECT_EQ(read("{}"), "{}@1");
}

TEST(Yaml, FilesOfOtherMachines) {
    EXPECT_EQ(read("a: b\r\nc:\r\n  - d\r\ne: |\r\n  f\r\n  g\r\n"), "{a@1: b@1, c@2: [d@3]@3, e@4: 'f\ng\n'@4}@1");
    EXPECT_EQ(read("\xEF\xBB\xBF"
                   "a: b\nc: d\n"),
              "{a@1: b@1, c@2: d@2}@1");
    EXPECT_EQ(read("a: \u00e9\u2014\U0001F600\n\u00e9: b\n"), "{a@1: \u00e9\u2014\U0001F600@1, \u00e9@2: b@2}@1");
}

TEST(Yaml, LongAndDeepUpToItsBounds) {
    const std::string longest(max_yaml_bytes - 10, 'x');
    for (const std::string quote : {"", "'", "\""}) {
        const auto root = parse_yaml("a: " + quote + longest + quote, "job");
        ASSERT_TRUE(root) << root.error().what;
        EXPECT_EQ(root->find("a")->text, longest);
    }
    EXPECT_EQ(read(std::string(max_yaml_depth, '[') + std::string(max_yaml_depth, ']')).back(), '1');
    EXPECT_EQ(read(std::string(max_yaml_depth + 1, '[')),
              "1: file: nested deeper than 16 levels; no job file needs that");
    EXPECT_EQ(read("a:\n b:\n  " + std::string(max_yaml_depth, '[')),
              "3: a.b: nested deeper than 16 levels; no job file needs that");
    std::string values = "[";
    for (std::size_t i = 1; i < max_yaml_nodes; ++i) values += "1,\n";
    EXPECT_EQ(parse_yaml(values + "]", "job")->items.size(), max_yaml_nodes - 1);
    EXPECT_EQ(read(values + "1]"), "20000: file: more than 20000 values; no job file needs that many");
}

TEST(Yaml, AFewDirectivesAreTakenAndManyAreNot) {
    const auto directives = [](int count) {
        std::string text;
        for (int i = 0; i < count; ++i) text += "%TAG !" + std::to_string(i) + "! x\n";
        return text + "---\na: '%TAG'\n";
    };
    EXPECT_EQ(read(directives(16)), "{a@18: '%TAG'@18}@18");
    EXPECT_EQ(read(directives(17)), "17: file: more than 16 %TAG directives; leave them out, tags are not taken");
}

TEST(Yaml, FindsAKey) {
    const auto root = parse_yaml("a: b\nc: d\n", "job");
    ASSERT_TRUE(root);
    EXPECT_EQ(root->find("c")->text, "d");
    EXPECT_EQ(root->find("e"), nullptr);
    EXPECT_EQ(root->find("c")->find("d"), nullptr);
}

struct Bad {
    std::string text;
    std::string message;
};

class BadYaml : public testing::TestWithParam<Bad> {};

TEST_P(BadYaml, IsRefusedWithLineFieldAndRemedy) { EXPECT_EQ(read(GetParam().text), GetParam().message); }

std::string not_yaml(const std::string& line, const std::string& what) {
    return line + ": file: not YAML: " + what + "; check indentation, colons and quotes";
}

const std::string control = "a control character; remove it";
const std::string hidden =
    "a character that editors do not show (a lone CR, U+0085, U+2028, U+2029 or U+FEFF); remove it";

const std::vector<Bad> bad{
    {"a: b\n---\nc: d\n", "2: file: more than one document; write one job a file"},
    {"a: b\n---\n", "2: file: more than one document; write one job a file"},
    {"a: b\n...\n---\nc: d\n", "3: file: more than one document; write one job a file"},
    {"a: &x 1\nb:\n  c: *x\n", "3: b.c: aliases (*name) are not taken; write the value out"},
    {"*x : b\n", "1: file: aliases (*name) are not taken; write the value out"},
    {"a: !!str b\n", "1: a: tags (tag:yaml.org,2002:str) are not taken; leave it out"},
    {"a:\n  - b\n  - !t {c: d}\n", "3: a: tags (!t) are not taken; leave it out"},
    {"a: !t [b]\n", "1: a: tags (!t) are not taken; leave it out"},
    {"a: ! b\n", "1: a: tags (!) are not taken; leave it out"},
    {"a: b\nc: \"\\0\"\n", "2: c: a NUL character; remove it"},
    {"a: b\n\"\\0\": c\n", "2: file: a NUL character; remove it"},
    {"a:\n  b: 1\n  c: 2\n  b: 3\n", "4: a.b: stands here and in line 2; remove one of them"},
    {"a: 1\n\n'a': 2\n", "3: a: stands here and in line 1; remove one of them"},
    {"a: 1\n? [b]\n: c\n", "2: file: a key must be a plain word; write `name: value`"},
    {"a: {{b: c}: d}\n", "1: a: a key must be a plain word; write `name: value`"},
    {"a: 1\n~: b\n", "2: file: a key must be a plain word; write `name: value`"},
    {std::string(max_yaml_bytes + 1, ' '), "1: file: larger than 256 KiB; no job file needs that"},
    {"a: b\nc: \xC3\n", "2: file: not UTF-8; save the file as UTF-8"},
    {"a: b\nc: \xC0\xAF\n", "2: file: not UTF-8; save the file as UTF-8"},
    {"a: b\nc: \x1B[0m\n", "2: file: " + control},
    {"a: b\nc: \x7F\n", "2: file: " + control},
    {std::string{"a: b\n\0", 6}, "2: file: " + control},
    {"a: b\nc: \u0080\n", "2: file: " + control},
    {"a: b\nc: \uFFFE\n", "2: file: " + control},
    {"a: b\rc: d\r", "1: file: " + hidden},
    {"a: b\nc: 'd\u2028e'\n", "2: file: " + hidden},
    {"a: b\nc: d\u0085\n", "2: file: " + hidden},
    {"a: b\n\uFEFFc: d\n", "2: file: " + hidden},
    {"a:\n\tb: c\n", "2: file: not YAML: a tab stands where spaces belong; indent with spaces"},
    {"a: b\n\tc: d\n", "2: file: not YAML: a tab stands where spaces belong; indent with spaces"},
    {"a: b\nc: @d\n", "2: file: not YAML: no value begins with `@`; write it in quotes"},
    {"\xEF\xBB\xBF\u00e9: b\r\nc: %d\r\n", "2: file: not YAML: no value begins with `%`; write it in quotes"},
    {"run: `date`\n", "1: file: not YAML: no value begins with a backquote; write it in quotes"},
    {"a: b: c\n", not_yaml("1", "mapping values are not allowed in this context")},
    {"a: b\n  c: d\n", not_yaml("2", "mapping values are not allowed in this context")},
    {"  a: b\nc: d\n", not_yaml("2", "did not find expected <document start>")},
    {"a: b\nc\nd: e\n", not_yaml("2", "could not find expected ':' while scanning a simple key")},
    {"a: b\nc: [d\ne: f\n",
     not_yaml("3", "did not find expected ',' or ']' while parsing a flow sequence that begins in line 2")},
    {"a: b\nc: 'd' e\n",
     not_yaml("2", "did not find expected key while parsing a block mapping that begins in line 1")},
    {"a: \"\\q\"\n", not_yaml("1", "found unknown escape character while parsing a quoted scalar")},
    // What is noticed at the end is wrong where it begins, and no line is named that is not there.
    {"a: b\nc: 'd\ne: f\n", not_yaml("2", "found unexpected end of stream while scanning a quoted scalar")},
    {"a: b\nc: [d\n\n", not_yaml("2", "did not find expected ',' or ']' while parsing a flow sequence")},
    {"a: b\nc: {d: ", not_yaml("2", "did not find expected node content while parsing a flow node")},
    {"a: b\nc", not_yaml("2", "could not find expected ':' while scanning a simple key")},
    {"%YAML 1.1", not_yaml("1", "did not find expected <document start>")},
};

INSTANTIATE_TEST_SUITE_P(All, BadYaml, testing::ValuesIn(bad));

}  // namespace
}  // namespace stargate
