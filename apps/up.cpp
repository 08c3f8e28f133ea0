#include "up.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "base/file.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/output_frame.hpp"
#include "engine/local/output_log.hpp"
#include "live/clock.hpp"
#include "live/control_plane.hpp"
#include "live/machine.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate {

namespace {

/// Tells whoever started us, once, whether we are ready.
class Readiness {
public:
    explicit Readiness(int to) : to_{to} {}
    void ready() { tell("ready\n"); }
    void failed(const std::string& why) { tell(why + "\n"); }

private:
    void tell(const std::string& text) {
        if (to_ < 0) return;
        (void)!::write(to_, text.data(), text.size());
        ::close(to_);
        to_ = -1;
    }
    int to_;
};

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::string shim_beside(const std::string& program) {
    return std::filesystem::path{program}.parent_path() / "stargate-shim";
}

/// Makes the state folder. Others may pass through it to the socket, and see nothing in it.
Result<void> prepare_folder(const std::string& folder) {
    std::error_code failed;
    const bool made = std::filesystem::create_directories(folder, failed);
    if (failed) return fail(Fault::denied, fmt::format("the state folder {} cannot be made: {}", folder, failed.message()));
    if (made) ::chmod(folder.c_str(), ::geteuid() == 0 ? 0711 : 0700);
    return {};
}

Result<std::vector<api::OutputPiece>> read_output(const std::string& folder, JobId job, AttemptId attempt,
                                                  std::int64_t offset, std::size_t most) {
    const auto log = OutputLog::open(output_log_path(folder, job, attempt));
    if (!log) {
        if (log.error().fault == Fault::not_found) return std::vector<api::OutputPiece>{};
        return tl::unexpected(log.error());
    }
    auto part = log->read(offset, most);
    if (!part) return tl::unexpected(part.error());
    std::vector<api::OutputPiece> pieces;
    auto next = offset;
    for (auto& piece : part->pieces) {
        next += static_cast<std::int64_t>(local::OutputFrameHead::size + piece.bytes.size());
        pieces.push_back({piece.rank, piece.is_errors, piece.unix_us, next, std::move(piece.bytes)});
    }
    return pieces;
}

Result<std::unique_ptr<live::ControlPlane>> start(const UpOptions& options, const std::string& folder) {
    auto node = live::this_machine(options.cpu_gpus);
    if (!node) return tl::unexpected(node.error());
    auto store = store::open_sqlite_store(folder);
    if (!store) return tl::unexpected(store.error());
    auto reader = store::open_sqlite_reader(folder);
    if (!reader) return tl::unexpected(reader.error());
    live::Wiring wiring;
    wiring.folder = folder;
    wiring.store = std::move(*store);
    wiring.reader = std::move(*reader);
    wiring.node = *node;
    wiring.boot = live::boot_id();
    wiring.program = this_program();
    wiring.make_engine = [folder, shim = shim_beside(wiring.program)](
                             live::Wiring::EngineNeeds needs) -> Result<std::unique_ptr<Engine>> {
        LocalEngineOptions local;
        local.state = folder;
        local.shim = shim;
        local.node = needs.node;
        local.authority = needs.authority;
        local.listener = std::move(needs.listener);
        local.launch_of = std::move(needs.launch_of);
        local.now = std::move(needs.now);
        return LocalEngine::open(std::move(local)).map([](std::unique_ptr<LocalEngine> engine) {
            return std::unique_ptr<Engine>{std::move(engine)};
        });
    };
    wiring.read_output = [folder](JobId job, AttemptId attempt, std::int64_t offset, std::size_t most) {
        return read_output(folder, job, attempt, offset, most);
    };
    return live::ControlPlane::start(std::move(wiring));
}

}  // namespace

}  // namespace stargate
