#include "api/http.hpp"

#include "base/json_text.hpp"
#include "base/spelling.hpp"

namespace stargate::api {

namespace {

constexpr std::size_t max_segments = 8;     // the longest route has five
constexpr std::size_t max_parameters = 16;  // the richest listing has six

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Percent-decoded; nothing for a broken escape or a control character.
std::optional<std::string> decoded_text(std::string_view text, bool plus_is_space) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '+' && plus_is_space) {
            c = ' ';
        } else if (c == '%') {
            if (i + 2 >= text.size()) return std::nullopt;
            const auto high = hex_value(text[i + 1]);
            const auto low = hex_value(text[i + 2]);
            if (high < 0 || low < 0) return std::nullopt;
            c = static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return std::nullopt;
        out.push_back(c);
    }
    return out;
}

/// Calls `take` for each piece between separators; false as soon as it says so.
template <class Take>
bool split(std::string_view text, char separator, Take take) {
    while (true) {
        const auto end = text.find(separator);
        if (!take(text.substr(0, end))) return false;
        if (end == std::string_view::npos) return true;
        text.remove_prefix(end + 1);
    }
}

}  // namespace

std::optional<Target> Target::parse(std::string_view text) {
    if (text.empty() || text.front() != '/') return std::nullopt;
    Target target;
    const auto mark = text.find('?');
    const bool fine = split(text.substr(1, mark == std::string_view::npos ? mark : mark - 1), '/', [&](auto segment) {
        auto decoded = decoded_text(segment, false);
        if (!decoded || target.path.size() >= max_segments) return false;
        target.path.push_back(std::move(*decoded));
        return true;
    });
    if (!fine) return std::nullopt;
    if (mark == std::string_view::npos || mark + 1 == text.size()) return target;
    const bool query_fine = split(text.substr(mark + 1), '&', [&](auto pair) {
        const auto equals = pair.find('=');
        auto name = decoded_text(pair.substr(0, equals), true);
        auto value = equals == std::string_view::npos ? std::optional<std::string>{"1"}
                                                      : decoded_text(pair.substr(equals + 1), true);
        if (!name || !value || target.query.size() >= max_parameters) return false;
        target.query.emplace_back(std::move(*name), std::move(*value));
        return true;
    });
    if (!query_fine) return std::nullopt;
    return target;
}

std::string_view Target::value(std::string_view name, std::string_view otherwise) const {
    for (const auto& [key, value] : query) {
        if (key == name) return value;
    }
    return otherwise;
}

bool Target::is_set(std::string_view name) const {
    const auto found = value(name, "0");
    return found != "0" && found != "false" && !found.empty();
}

Reply error_reply(int status, std::string_view code, std::string_view message, std::string_view remedy) {
    Reply reply;
    reply.status = status;
    reply.body = R"({"error":{"code":)";
    json_string(reply.body, code);
    reply.body += R"(,"message":)";
    json_string(reply.body, without_controls(message));  // which may quote what was asked for, in any bytes
    reply.body += R"(,"remedy":)";
    json_string(reply.body, remedy);
    reply.body += "}}\n";
    if (status == 429 || status == 503) reply.retry_after_s = 1;
    return reply;
}

namespace {

/// A stream of which a piece was taken already.
class Begun final : public Stream {
public:
    Begun(std::string begun, std::unique_ptr<Stream> rest) : begun_{std::move(begun)}, rest_{std::move(rest)} {}
    Pulled pull(std::string& out) override {
        if (begun_.empty()) return rest_->pull(out);
        out += std::exchange(begun_, {});
        return Pulled::more;
    }
    [[nodiscard]] std::size_t keeps() const override { return rest_->keeps(); }
    [[nodiscard]] std::string heartbeat() const override { return rest_->heartbeat(); }
    [[nodiscard]] std::string_view type() const override { return rest_->type(); }

private:
    std::string begun_;
    std::unique_ptr<Stream> rest_;
};

}  // namespace

Response whole_or_rest(std::unique_ptr<Stream> stream) {
    Reply reply;
    reply.type = stream->type();
    switch (stream->pull(reply.body)) {
        case Stream::Pulled::ended:
            return reply;
        case Stream::Pulled::broken:
            return error_reply(503, "unavailable", "what was asked for cannot be read from the store",
                               "try again in a moment");
        case Stream::Pulled::more:
        case Stream::Pulled::nothing_yet:
            break;
    }
    return std::make_unique<Begun>(std::move(reply.body), std::move(stream));
}

}  // namespace stargate::api
