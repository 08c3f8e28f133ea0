#include "engine/local/shim/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace stargate::local {

Terminal open_terminal(std::uint32_t owner) {
    Terminal terminal;
    terminal.master = Fd{open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)};
    int is_locked = 0;
    if (!terminal.master || ioctl(terminal.master.get(), TIOCSPTLCK, &is_locked) != 0) return {};
    terminal.slave = Fd{ioctl(terminal.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)};
    if (!terminal.slave) return {};
    if (geteuid() != owner && fchown(terminal.slave.get(), owner, static_cast<gid_t>(-1)) != 0) return {};
    return terminal;
}

void set_window(int master, std::uint16_t rows, std::uint16_t columns) {
    const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(master, TIOCSWINSZ, &size);
}

}  // namespace stargate::local
