#include "net/unix_socket.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stargate::net {

namespace {

/// A path as the kernel takes it; `folder` keeps open what a short form of it goes through.
struct Address {
    sockaddr_un name{};
    FileDescriptor folder;
};

Result<Address> address_of(const std::string& path) {
    Address address;
    address.name.sun_family = AF_UNIX;
    auto text = path;
    if (text.size() >= sizeof address.name.sun_path) {
        const auto slash = path.find_last_of('/');
        address.folder = FileDescriptor{open(path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
        if (!address.folder) return fail_with_errno("cannot open", path.substr(0, slash));
        text = fmt::format("/proc/self/fd/{}{}", address.folder.get(), path.substr(slash));
        if (text.size() >= sizeof address.name.sun_path) {
            return fail(Fault::malformed, path + ": the name is too long for a socket; use a shorter one");
        }
    }
    std::memcpy(address.name.sun_path, text.data(), text.size());
    return address;
}

const sockaddr* as_sockaddr(const Address& address) { return reinterpret_cast<const sockaddr*>(&address.name); }

}  // namespace

Result<FileDescriptor> listen_at(const std::string& path, unsigned mode) {
    // Bound under another name and moved once its mode is right: nobody can connect in between.
    const auto unfinished = path + ".new";
    unlink(unfinished.c_str());
    const auto address = address_of(unfinished);
    if (!address) return tl::unexpected<Error>(address.error());
    FileDescriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket) return fail_with_errno("cannot make a socket for", path);
    if (bind(socket.get(), as_sockaddr(*address), sizeof address->name) != 0)
        return fail_with_errno("cannot bind", path);
    if (chmod(unfinished.c_str(), mode) != 0) return fail_with_errno("cannot set the mode of", path);
    if (listen(socket.get(), SOMAXCONN) != 0) return fail_with_errno("cannot listen at", path);
    if (rename(unfinished.c_str(), path.c_str()) != 0) return fail_with_errno("cannot name", path);
    return socket;
}

Result<FileDescriptor> connect_to(const std::string& path) {
    const auto address = address_of(path);
    if (!address) return tl::unexpected<Error>(address.error());
    FileDescriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!socket) return fail_with_errno("cannot make a socket for", path);
    while (connect(socket.get(), as_sockaddr(*address), sizeof address->name) != 0) {
        if (errno == EINTR) continue;
        if (errno == ENOENT || errno == ECONNREFUSED) return fail(Fault::not_found, "nobody listens at " + path);
        return fail_with_errno("cannot connect to", path);
    }
    return socket;
}

}  // namespace stargate::net
