#pragma once

#include <array>
#include <boost/describe.hpp>
#include <boost/mp11.hpp>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/units.hpp"

/// The binary form of everything that the log and snapshots hold. One rule makes old logs readable for ever: members
/// and alternatives are only ever appended, never removed, reordered or given another type. A struct is written with
/// its length, so a reader skips members it does not know and leaves those that are missing at their defaults.
namespace stargate {

/// Appends to a string: LEB128 for whole numbers (zigzag for signed ones), length first for what varies.
class Encoder {
public:
    explicit Encoder(std::string& out) : out_{out} {}

    void number(std::uint64_t value) {
        while (value >= 0x80) {
            out_.push_back(static_cast<char>(value | 0x80));
            value >>= 7;
        }
        out_.push_back(static_cast<char>(value));
    }
    void signed_number(std::int64_t value) {
        number((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
    }
    void bytes(std::string_view text) {
        number(text.size());
        out_.append(text);
    }
    /// Writes what `body` writes, with its length before it.
    template <class Body>
    void sized(Body body) {
        const auto start = out_.size();
        out_.push_back('\0');  // most are shorter than 128 bytes: one byte of length, moved only when it is not so
        body();
        const auto length = out_.size() - start - 1;
        if (length < 0x80) {
            out_[start] = static_cast<char>(length);
            return;
        }
        std::string prefix;
        Encoder{prefix}.number(length);
        out_.replace(start, 1, prefix);
    }

private:
    std::string& out_;
};

/// Reads what Encoder wrote. Any malformed input ends in `ok() == false`; values read after that are defaults.
class Decoder {
public:
    explicit Decoder(std::string_view in) : rest_{in} {}

    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] bool at_end() const { return rest_.empty(); }
    void reject() {
        ok_ = false;
        rest_ = {};
    }
    std::uint64_t number() {
        std::uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (rest_.empty()) break;
            const auto byte = static_cast<std::uint8_t>(rest_.front());
            rest_.remove_prefix(1);
            value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
            if ((byte & 0x80) == 0) return value;
        }
        reject();
        return 0;
    }
    std::int64_t signed_number() {
        const auto raw = number();
        return static_cast<std::int64_t>(raw >> 1) ^ -static_cast<std::int64_t>(raw & 1);
    }
    std::string_view bytes() {
        const auto length = number();
        if (length > rest_.size()) {
            reject();
            return {};
        }
        const auto text = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return text;
    }
    [[nodiscard]] std::size_t left() const { return rest_.size(); }

private:
    std::string_view rest_;
    bool ok_ = true;
};

namespace codec {

template <class T>
concept Described = boost::describe::has_describe_members<T>::value;
template <class T>
concept AQuantity = requires(const T& t) {
    typename T::rep;
    t.count();
}
&&!Described<T>;
template <class T>
concept AnId = requires(const T& t) {
    { t.value } -> std::convertible_to<std::uint64_t>;
}
&&!Described<T>;
template <class T>
concept AnInstant = std::same_as<T, Instant>;
template <class T>
concept AText = std::same_as<T, std::string>;
template <class T>
concept ASequence = std::ranges::range<T> && !AText<T> && requires(T & t) {
    t.clear();
    t.emplace_back();
};
template <class T>
struct is_variant : std::false_type {};
template <class... Ts>
struct is_variant<std::variant<Ts...>> : std::true_type {};
template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};
template <class T>
struct is_pair : std::false_type {};
template <class A, class B>
struct is_pair<std::pair<A, B>> : std::true_type {};
template <class T>
struct is_byte_array : std::false_type {};
template <std::size_t N>
struct is_byte_array<std::array<std::uint8_t, N>> : std::true_type {};

template <class T>
using members_of = boost::describe::describe_members<T, boost::describe::mod_any_access>;

}  // namespace codec

template <class T>
void encode(Encoder& out, const T& value) {
    using namespace codec;
    if constexpr (std::is_same_v<T, bool>) {
        out.number(value ? 1 : 0);
    } else if constexpr (std::is_enum_v<T>) {
        out.number(static_cast<std::uint64_t>(value));
    } else if constexpr (std::unsigned_integral<T>) {
        out.number(value);
    } else if constexpr (std::signed_integral<T>) {
        out.signed_number(value);
    } else if constexpr (AnInstant<T>) {
        out.signed_number(value.time_since_epoch().count());
    } else if constexpr (AQuantity<T>) {  // Duration too: it has rep and count()
        out.signed_number(value.count());
    } else if constexpr (AText<T>) {
        out.bytes(value);
    } else if constexpr (is_byte_array<T>::value) {
        out.bytes({reinterpret_cast<const char*>(value.data()), value.size()});
    } else if constexpr (is_optional<T>::value) {
        out.number(value ? 1 : 0);
        if (value) encode(out, *value);
    } else if constexpr (is_pair<T>::value) {
        encode(out, value.first);
        encode(out, value.second);
    } else if constexpr (is_variant<T>::value) {
        out.number(value.index());
        std::visit([&](const auto& alternative) { encode(out, alternative); }, value);
    } else if constexpr (ASequence<T>) {
        out.number(std::ranges::size(value));
        for (const auto& element : value) encode(out, element);
    } else if constexpr (Described<T>) {
        out.sized(
            [&] { boost::mp11::mp_for_each<members_of<T>>([&](auto member) { encode(out, value.*member.pointer); }); });
    } else {
        static_assert(AnId<T>, "no binary form is known for this type");
        out.number(value.value);
    }
}

template <class T>
void decode(Decoder& in, T& value) {
    using namespace codec;
    if constexpr (std::is_same_v<T, bool>) {
        value = in.number() != 0;
    } else if constexpr (std::is_enum_v<T>) {
        const auto raw = in.number();
        bool known = false;
        boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>([&](auto enumerator) {
            if (static_cast<std::uint64_t>(enumerator.value) == raw) {
                value = enumerator.value;
                known = true;
            }
        });
        if (!known) in.reject();
    } else if constexpr (std::unsigned_integral<T>) {
        value = static_cast<T>(in.number());
    } else if constexpr (std::signed_integral<T>) {
        value = static_cast<T>(in.signed_number());
    } else if constexpr (AnInstant<T>) {
        value = Instant{Duration{in.signed_number()}};
    } else if constexpr (AQuantity<T>) {
        value = T{static_cast<typename T::rep>(in.signed_number())};
    } else if constexpr (AText<T>) {
        value = std::string{in.bytes()};
    } else if constexpr (is_byte_array<T>::value) {
        const auto raw = in.bytes();
        if (raw.size() != value.size()) return in.reject();
        for (std::size_t i = 0; i < raw.size(); ++i) value[i] = static_cast<std::uint8_t>(raw[i]);
    } else if constexpr (is_optional<T>::value) {
        value.reset();
        if (in.number() != 0) decode(in, value.emplace());
    } else if constexpr (is_pair<T>::value) {
        decode(in, value.first);
        decode(in, value.second);
    } else if constexpr (is_variant<T>::value) {
        const auto index = in.number();
        if (index >= std::variant_size_v<T>) return in.reject();
        boost::mp11::mp_with_index<std::variant_size_v<T>>(
            static_cast<std::size_t>(index), [&](auto i) { decode(in, value.template emplace<decltype(i)::value>()); });
    } else if constexpr (ASequence<T>) {
        value.clear();
        const auto count = in.number();
        if (count > in.left()) return in.reject();  // every element takes a byte at least
        for (std::uint64_t i = 0; i < count && in.ok(); ++i) decode(in, value.emplace_back());
    } else if constexpr (Described<T>) {
        Decoder inner{in.bytes()};
        boost::mp11::mp_for_each<members_of<T>>([&](auto member) {
            if (inner.ok() && !inner.at_end()) decode(inner, value.*member.pointer);
        });
        if (!inner.ok()) in.reject();
    } else {
        static_assert(AnId<T>, "no binary form is known for this type");
        value.value = in.number();
    }
}

template <class T>
std::string encoded(const T& value) {
    std::string out;
    Encoder encoder{out};
    encode(encoder, value);
    return out;
}

/// Nothing when the bytes are not a whole value of this type.
template <class T>
std::optional<T> decoded(std::string_view bytes) {
    Decoder in{bytes};
    T value{};
    decode(in, value);
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return value;
}

/// FNV-1a, 64 bits: a digest to compare runs by, not a defence against anyone. Public domain, Fowler, Noll and Vo.
class Fingerprint {
public:
    void add(std::string_view bytes) {
        for (const char byte : bytes) value_ = (value_ ^ static_cast<std::uint8_t>(byte)) * 0x100000001b3ULL;
    }
    [[nodiscard]] std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace stargate
