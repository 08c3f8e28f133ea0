#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// How the engine and the shim talk: little-endian fields in order, each message a frame of u32 length and payload. What
// is read is bounds-checked and never trusted. Plain C++ without exceptions, so that the static shim stays tiny.
namespace stargate::local {

/// A struct that lists its fields once, for writing and reading alike:
/// `template <class Self, class Coder> static void fields(Self& self, Coder& coder) { coder(self.a, self.b); }`
template <class T, class Coder>
concept HasFields = requires(T& value, Coder& coder) {
    std::remove_const_t<T>::fields(value, coder);
};

class Writer {
public:
    template <class... Ts>
    void operator()(const Ts&... values) {
        (put(values), ...);
    }
    /// Fields that an older program did not write yet; last in their message.
    template <class T>
    void appended(const T& value) {
        put(value);
    }
    [[nodiscard]] std::string take() { return std::move(bytes_); }

private:
    template <class T>
    void put(const T& value) {
        if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
            auto bits = static_cast<std::uint64_t>(value);
            for (std::size_t i = 0; i < sizeof(T); ++i, bits >>= 8) bytes_.push_back(static_cast<char>(bits & 0xff));
        } else {
            const T& constant = value;
            T::fields(constant, *this);
        }
    }
    void put(const std::string& text) {
        put(static_cast<std::uint32_t>(text.size()));
        bytes_.append(text);
    }
    void put(const std::array<std::uint8_t, 16>& bytes) {
        bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    template <class T>
    void put(const std::vector<T>& values) {
        put(static_cast<std::uint32_t>(values.size()));
        for (const auto& value : values) put(value);
    }
    template <class A, class B>
    void put(const std::pair<A, B>& value) {
        put(value.first);
        put(value.second);
    }

    std::string bytes_;
};

class Reader {
public:
    explicit Reader(std::string_view bytes) : left_{bytes} {}
    template <class... Ts>
    void operator()(Ts&... values) {
        (get(values), ...);
    }
    /// Keeps its default when an older program has written this.
    template <class T>
    void appended(T& value) {
        if (ok_ && !left_.empty()) get(value);
    }
    /// Everything was there, and nothing was left over.
    [[nodiscard]] bool is_complete() const { return ok_ && left_.empty(); }

private:
    template <class T>
    void get(T& value) {
        if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
            const auto part = bytes(sizeof(T));
            std::uint64_t bits = 0;
            for (std::size_t i = part.size(); i-- > 0;) bits = bits << 8 | static_cast<unsigned char>(part[i]);
            if constexpr (std::is_same_v<T, bool>) {
                value = bits != 0;
            } else {
                value = static_cast<T>(bits);
            }
        } else {
            T::fields(value, *this);
        }
    }
    void get(std::string& text) {
        std::uint32_t length = 0;
        get(length);
        text = bytes(length);
    }
    void get(std::array<std::uint8_t, 16>& array) {
        const auto part = bytes(array.size());
        if (part.size() == array.size()) std::memcpy(array.data(), part.data(), part.size());
    }
    template <class T>
    void get(std::vector<T>& values) {
        std::uint32_t count = 0;
        get(count);
        // Every element takes a byte at least, so a count beyond what is left is a lie: nothing is reserved for it.
        if (count > left_.size()) ok_ = false;
        values.clear();
        for (std::uint32_t i = 0; i < count && ok_; ++i) get(values.emplace_back());
    }
    template <class A, class B>
    void get(std::pair<A, B>& value) {
        get(value.first);
        get(value.second);
    }
    std::string_view bytes(std::size_t length) {
        if (!ok_ || length > left_.size()) {
            ok_ = false;
            return {};
        }
        const auto part = left_.substr(0, length);
        left_.remove_prefix(length);
        return part;
    }

    std::string_view left_;
    bool ok_ = true;
};

/// One message: the index of its kind, then its fields.
template <class Variant>
[[nodiscard]] std::string encode(const Variant& message) {
    Writer writer;
    writer(static_cast<std::uint8_t>(message.index()));
    std::visit([&](const auto& kind) { writer(kind); }, message);
    return writer.take();
}

namespace detail {
template <class Variant, std::size_t index = 0>
bool decode_kind(std::size_t kind, Reader& reader, Variant& message) {
    if constexpr (index < std::variant_size_v<Variant>) {
        if (kind != index) return decode_kind<Variant, index + 1>(kind, reader, message);
        std::variant_alternative_t<index, Variant> value;
        reader(value);
        message = std::move(value);
        return reader.is_complete();
    } else {
        return false;
    }
}
}  // namespace detail

/// The message, or nothing when the bytes are not exactly one.
template <class Variant>
[[nodiscard]] std::optional<Variant> decode(std::string_view bytes) {
    Reader reader{bytes};
    std::uint8_t kind = 0;
    reader(kind);
    Variant message;
    if (!detail::decode_kind(kind, reader, message)) return std::nullopt;
    return message;
}

/// Longest payload of a frame: an environment, the longest part of a launch, is limited by the kernel to 6 MiB.
constexpr std::uint32_t max_frame = 16U << 20;

[[nodiscard]] std::string frame(std::string_view payload);

/// Takes bytes as a stream brings them and gives back whole frames.
class FrameReader {
public:
    void append(std::string_view bytes) { bytes_.append(bytes); }
    /// The next whole payload, if it has arrived.
    [[nodiscard]] std::optional<std::string> next();
    /// The peer claims a frame that is too long; the stream is of no more use.
    [[nodiscard]] bool is_broken() const { return broken_; }

private:
    std::string bytes_;
    bool broken_ = false;
};

/// A record of a file: magic, length, checksum and payload, so that a torn write is never taken for a record.
[[nodiscard]] std::string seal(std::string_view payload);
[[nodiscard]] std::optional<std::string> unseal(std::string_view file);

}  // namespace stargate::local
