#include "base/spelling.hpp"

#include <algorithm>
#include <numeric>

#include "base/utf8.hpp"

namespace stargate {

namespace {

/// How many letters must change to make one word of the other: Wagner and Fischer, 1974.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        auto diagonal = row[0]++;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const auto above = row[j];
            row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
            diagonal = above;
        }
    }
    return row.back();
}

}  // namespace

std::string did_you_mean(std::string_view word, const std::vector<std::string_view>& known) {
    if (word.size() > 32) return {};
    std::string_view best;
    std::size_t least = std::max<std::size_t>(1, word.size() / 3) + 1;
    for (const auto candidate : known) {
        const auto far = distance(word, candidate);
        if (far < least) {
            least = far;
            best = candidate;
        }
    }
    return best.empty() ? std::string{} : " (did you mean `" + std::string{best} + "`?)";
}

std::string without_controls(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const auto length = utf8_length(text);  // 0: a byte that is no UTF-8; some terminals take it for a C1
        const auto c = static_cast<unsigned char>(text[0]);
        const bool is_c1 = length == 2 && c == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;  // U+0080 to U+009F
        const auto taken = std::max<std::size_t>(1, length);
        out += length == 0 || is_c1 || c < 0x20 || c == 0x7F ? std::string_view{"?"} : text.substr(0, taken);
        text.remove_prefix(taken);
    }
    return out;
}

std::string presentable(std::string text) {
    constexpr std::size_t longest = 400;
    if (text.size() > longest) text = text.substr(0, longest) + "...";
    return without_controls(text);
}

std::string shell_word(std::string_view word) {
    const bool stands = !word.empty() && word[0] != '~' && std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view{"/._-+,:@%~"}.find(c) != std::string_view::npos;
    });
    if (stands) return std::string{word};
    std::string out = "'";
    for (const char c : word) out += c == '\'' ? std::string{"'\\''"} : std::string{c};
    return out + "'";
}

}  // namespace stargate
