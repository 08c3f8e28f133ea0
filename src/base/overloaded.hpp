#pragma once

namespace stargate {

/// A visitor made of lambdas. Without an `auto` branch, a new alternative does not compile until someone has thought
/// about it.
template <class... Fs>
struct overloaded : Fs... {
    using Fs::operator()...;
};
template <class... Fs>
overloaded(Fs...) -> overloaded<Fs...>;

}  // namespace stargate
