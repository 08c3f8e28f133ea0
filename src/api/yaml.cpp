#include "api/yaml.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "base/utf8.hpp"

namespace stargate::api {

namespace {

/// Thrown out of the library's callbacks, caught where it is called.
struct Refused {
    YamlError error;
};

int line_of(const YAML::Mark& mark) { return mark.line < 0 ? 1 : mark.line + 1; }

/// Builds the tree from the parser's events, which still know what a finished YAML::Node has forgotten: lines, aliases
/// and keys that come twice.
class Builder final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override {
        if (++documents_ > 1) refuse(line_of(mark), "more than one document; write one job a file");
    }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(node_at(YamlNode::Kind::null, mark)); }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
        refuse(line_of(mark), "aliases (*name) are not taken; write the value out");
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
        if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
        if (value.find('\0') != std::string::npos) refuse(line_of(mark), "a NUL character; remove it");
        auto scalar = node_at(YamlNode::Kind::scalar, mark);
        scalar.quoted = tag == "!";
        scalar.text = value;
        add(std::move(scalar));
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                         YAML::EmitterStyle::value) override {
        open(mark, tag, YamlNode::Kind::sequence);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                    YAML::EmitterStyle::value) override {
        open(mark, tag, YamlNode::Kind::map);
    }
    void OnMapEnd() override { close(); }

    [[nodiscard]] YamlNode take() { return std::move(root_); }

private:
    struct Level {
        YamlNode node;
        YamlNode::Key key{};
        bool has_key = false;
    };

    static YamlNode node_at(YamlNode::Kind kind, const YAML::Mark& mark) {
        YamlNode made;
        made.kind = kind;
        made.line = line_of(mark);
        return made;
    }
    /// The field that is being read, as `env.A`.
    [[nodiscard]] std::string field() const {
        std::string path;
        for (const auto& level : levels_) {
            if (level.has_key) path += (path.empty() ? "" : ".") + level.key.text;
        }
        return path.empty() ? std::string{whole_file} : path;
    }
    [[noreturn]] void refuse(int line, std::string what) const { throw Refused{{line, field(), std::move(what)}}; }
    [[noreturn]] void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
        refuse(line_of(mark), "tags (" + tag + ") are not taken; leave it out");
    }
    void open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
        if (tag != "?" && !tag.empty()) refuse_tag(mark, tag);
        if (levels_.size() >= max_yaml_depth)
            refuse(line_of(mark), fmt::format("nested deeper than {} levels; no job file needs that", max_yaml_depth));
        levels_.push_back({node_at(kind, mark), {}, false});
    }
    void close() {
        auto node = std::move(levels_.back().node);
        levels_.pop_back();
        add(std::move(node));
    }
    void add(YamlNode node) {
        if (++nodes_ > max_yaml_nodes)
            refuse(node.line, fmt::format("more than {} values; no job file needs that many", max_yaml_nodes));
        if (levels_.empty()) {
            root_ = std::move(node);
            return;
        }
        auto& level = levels_.back();
        if (level.node.kind == YamlNode::Kind::sequence) {
            level.node.items.push_back(std::move(node));
        } else if (!level.has_key) {
            take_key(level, node);
        } else {
            level.node.members.push_back({std::move(level.key), std::move(node)});
            level.has_key = false;
        }
    }
    void take_key(Level& level, const YamlNode& node) {
        if (node.kind != YamlNode::Kind::scalar) refuse(node.line, "a key must be a plain word; write `name: value`");
        const auto& members = level.node.members;
        const auto same =
            std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.key.text == node.text; });
        level.key = {node.text, node.line};
        level.has_key = true;
        if (same != members.end()) {
            refuse(node.line, fmt::format("stands here and in line {}; remove one of them", same->key.line));
        }
    }

    std::vector<Level> levels_;
    YamlNode root_;
    std::size_t nodes_ = 0;
    int documents_ = 0;
};

int line_at(std::string_view text, std::size_t at) {
    return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

bool is_forbidden_control(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
}

/// One line of a library's message: it ends up in one line of ours.
std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

}  // namespace

YamlResult<YamlNode> parse_yaml(std::string_view text) {
    const auto refused = [](int line, std::string what) {
        return tl::unexpected<YamlError>(YamlError{line, std::string{whole_file}, std::move(what)});
    };
    if (text.size() > max_yaml_bytes) return refused(1, "larger than 256 KiB; no job file needs that");
    if (const auto bad = first_bad_utf8(text); bad < text.size()) {
        return refused(line_at(text, bad), "not UTF-8; save the file as UTF-8");
    }
    if (const auto bad = std::find_if(text.begin(), text.end(), is_forbidden_control); bad != text.end()) {
        return refused(line_at(text, static_cast<std::size_t>(bad - text.begin())), "a control character; remove it");
    }
    Builder builder;
    try {
        std::istringstream in{std::string{text}};
        YAML::Parser parser{in};
        while (parser.HandleNextDocument(builder)) {}
    } catch (const Refused& refusal) {
        return tl::unexpected<YamlError>(refusal.error);
    } catch (const YAML::Exception& error) {
        return refused(line_of(error.mark), "not YAML: " + one_line(error.msg) + "; check indentation and colons");
    } catch (const std::exception& error) {
        return refused(1, "not YAML: " + one_line(error.what()) + "; check indentation and colons");
    }
    return builder.take();
}

}  // namespace stargate::api
