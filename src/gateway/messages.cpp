#include "gateway/messages.hpp"

#include <fmt/format.h>

#include "api/json.hpp"
#include "base/json_text.hpp"

namespace stargate::gateway {

namespace {

using api::Json;

constexpr std::size_t longest_name = 128;  // as the usage file has room for; also of incarnations and hosts

tl::unexpected<Error> wrong(std::string_view member, std::string_view what) {
    return fail(Fault::malformed, fmt::format("`{}` is {}", member, what));
}

Result<void> read_value(const Json& json, std::string_view name, std::string& into) {
    if (json.kind != Json::Kind::text) return wrong(name, "no text");
    into = json.text;
    return {};
}

Result<void> read_value(const Json& json, std::string_view name, bool& into) {
    if (json.kind != Json::Kind::boolean) return wrong(name, "neither true nor false");
    into = json.boolean;
    return {};
}

template <std::integral Whole>
Result<void> read_value(const Json& json, std::string_view name, Whole& into) {
    const bool is_whole = json.kind == Json::Kind::number && json.number == static_cast<double>(json.whole);
    if (!is_whole || json.whole < 0 || !std::in_range<Whole>(json.whole)) return wrong(name, "no such number");
    into = static_cast<Whole>(json.whole);
    return {};
}

Result<void> read_value(const Json& json, std::string_view name, Bytes& into) {
    std::int64_t count = 0;
    auto read = read_value(json, name, count);
    into = Bytes{count};
    return read;
}

Result<void> read_value(const Json& json, std::string_view name, Digest& into) {
    const auto digest = digest_from_hex(json.text);
    if (json.kind != Json::Kind::text || !digest) return wrong(name, "no digest");
    into = *digest;
    return {};
}

Result<void> read_value(const Json& json, std::string_view name, ReplicaState& into) {
    const auto state = from_name<ReplicaState>(json.text);
    if (json.kind != Json::Kind::text) return wrong(name, "no text");
    into = state.value_or(ReplicaState::starting);  // of a newer side: not to be asked, as far as we know
    return {};
}

template <codec::Described T>
Result<void> read_value(const Json& json, std::string_view name, T& into);

template <class T>
Result<void> read_value(const Json& json, std::string_view name, std::vector<T>& into) {
    if (json.kind != Json::Kind::list) return wrong(name, "no list");
    for (const auto& item : json.items) {
        if (auto read = read_value(item, name, into.emplace_back()); !read) return read;
    }
    return {};
}

template <codec::Described T>
Result<void> read_value(const Json& json, std::string_view name, T& into) {
    if (json.kind != Json::Kind::object) return wrong(name, "no object");
    Result<void> done;
    boost::mp11::mp_for_each<codec::members_of<T>>([&](auto member) {
        const auto* found = json.find(member.name);
        if (done && found != nullptr) done = read_value(*found, member.name, into.*member.pointer);
    });
    return done;
}

Result<void> check_name(std::string_view member, const std::string& name) {
    if (name.empty() || name.size() > longest_name) return wrong(member, "empty or longer than 128 bytes");
    return {};
}

Result<void> check(const ServiceEntry& service) {
    for (const auto& [member, text] : {std::pair{"name", &service.name}, std::pair{"tenant", &service.tenant}}) {
        if (auto good = check_name(member, *text); !good) return good;
    }
    if (service.model.empty()) return wrong("model", "empty");
    if (service.max_concurrency < 1) return wrong("max_concurrency", "less than 1");
    for (const auto& replica : service.replicas) {
        if (replica.id == 0) return wrong("id", "no replica's");
        if (auto good = check_name("host", replica.host); !good) return good;
        if (replica.port == 0) return wrong("port", "none");
    }
    return {};
}

Result<void> check(const std::vector<ServiceEntry>& services, const std::vector<KeyEntry>& keys) {
    for (const auto& service : services) {
        if (auto good = check(service); !good) return good;
    }
    for (const auto& key : keys) {
        if (auto good = check_name("id", key.id); !good) return good;
        if (auto good = check_name("tenant", key.tenant); !good) return good;
        if (key.digest == Digest{}) return wrong("digest", "missing");
    }
    return {};
}

Result<void> check(const TakeOffice& order) { return check_name("incarnation", order.incarnation); }
Result<void> check(const WholeTable& order) { return check(order.services, order.keys); }
Result<void> check(const Change& order) { return check(order.services, order.keys); }
Result<void> check(const Withdraw& /*order*/) { return {}; }
template <class Told>
Result<void> check(const Told& /*report*/) {
    return {};
}

template <class Message>
std::string line_of(const Message& message) {
    return std::visit(
        [](const auto& it) {
            std::string out = R"({"type":)";
            json_string(out, it.type);
            json_members(out, it, false);
            return out + "}";
        },
        message);
}

template <class Message>
Result<std::variant<Message, UnknownType>> read(std::string_view line) {
    const auto json = api::parse_json(line);
    if (!json) return tl::unexpected(json.error());
    if (json->kind != Json::Kind::object) return fail(Fault::malformed, "no object");
    const auto& type = (*json)["type"];
    if (type.kind != Json::Kind::text) return fail(Fault::malformed, "an object without a type");
    Result<std::variant<Message, UnknownType>> message{UnknownType{}};
    boost::mp11::mp_for_each<Message>([&](const auto& alternative) {
        if (type.text != alternative.type) return;
        auto it = alternative;
        auto good = read_value(*json, alternative.type, it).and_then([&] { return check(it); });
        if (good) {
            message = Message{std::move(it)};
        } else {
            message = fail(good.error().fault, fmt::format("{}: {}", alternative.type, good.error().detail));
        }
    });
    return message;
}

}  // namespace

std::string to_line(const Order& order) { return line_of(order); }
std::string to_line(const Report& report) { return line_of(report); }
Result<std::variant<Order, UnknownType>> read_order(std::string_view line) { return read<Order>(line); }
Result<std::variant<Report, UnknownType>> read_report(std::string_view line) { return read<Report>(line); }

}  // namespace stargate::gateway
