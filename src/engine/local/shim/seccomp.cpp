#include "engine/local/shim/seccomp.hpp"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <cerrno>
#include <cstddef>

#include <vector>

namespace stargate::local {

namespace {

#if defined(__x86_64__)
constexpr unsigned native_architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned native_architecture = AUDIT_ARCH_AARCH64;
#else
#error "name this architecture for the system call filter"
#endif

constexpr int denied[] = {SYS_mount,
                          SYS_umount2,
                          SYS_pivot_root,
                          SYS_chroot,
                          SYS_open_tree,
                          SYS_move_mount,
                          SYS_fsopen,
                          SYS_fsconfig,
                          SYS_fsmount,
                          SYS_fspick,
                          SYS_mount_setattr,
                          SYS_ptrace,
                          SYS_process_vm_readv,
                          SYS_process_vm_writev,
                          SYS_kexec_load,
                          SYS_kexec_file_load,
                          SYS_init_module,
                          SYS_finit_module,
                          SYS_delete_module,
                          SYS_bpf,
                          SYS_perf_event_open,
                          SYS_userfaultfd,
                          SYS_keyctl,
                          SYS_add_key,
                          SYS_request_key,
                          SYS_unshare,
                          SYS_setns,
                          SYS_reboot,
                          SYS_swapon,
                          SYS_swapoff,
                          SYS_acct,
                          SYS_quotactl,
                          SYS_settimeofday,
                          SYS_clock_settime,
                          SYS_adjtimex,
                          SYS_clock_adjtime,
                          SYS_sethostname,
                          SYS_setdomainname,
                          SYS_syslog,
                          SYS_vhangup,

                          SYS_open_by_handle_at,
                          SYS_name_to_handle_at,
                          SYS_io_uring_setup,
                          SYS_io_uring_enter,
                          SYS_io_uring_register};

class Filter {
public:
    void load(std::size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset)); }
    void answer(unsigned what) { add(BPF_RET | BPF_K, what); }
    /// `what` when the loaded word equals `value`, else on.
    void answer_if_equal(unsigned value, unsigned what) {
        add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
        answer(what);
    }
    void answer_unless_equal(unsigned value, unsigned what) {
        add(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
        answer(what);
    }
    void skip_unless_equal(unsigned value, unsigned char steps) { add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps); }
    void answer_if_bits(unsigned bits, unsigned what) {
        add(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
        answer(what);
    }
    bool install() {
        const sock_fprog program{static_cast<unsigned short>(steps_.size()), steps_.data()};
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    }

private:
    void add(int code, unsigned value, unsigned char if_true = 0, unsigned char if_false = 0) {
        steps_.push_back({static_cast<unsigned short>(code), if_true, if_false, value});
    }
    std::vector<sock_filter> steps_;
};

}  // namespace

bool forbid_dangerous_calls() {
    constexpr unsigned refuse = SECCOMP_RET_ERRNO | EPERM;
    constexpr unsigned unknown = SECCOMP_RET_ERRNO | ENOSYS;
    Filter filter;
    filter.load(offsetof(seccomp_data, arch));
    filter.answer_unless_equal(native_architecture, unknown);  // 32-bit calls have other numbers
    filter.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
    filter.answer_if_bits(0x40000000U, unknown);  // the x32 table
#endif
    for (const int call : denied) filter.answer_if_equal(static_cast<unsigned>(call), refuse);
    // The flags of clone3 lie in memory, which a filter cannot read; libc falls back to clone when it is not there.
    filter.answer_if_equal(SYS_clone3, unknown);
    // load flags, answer, reload: three steps to skip for any other call. The low word of the argument, little-endian.
    filter.skip_unless_equal(SYS_clone, 4);
    filter.load(offsetof(seccomp_data, args));
    filter.answer_if_bits(CLONE_NEWUSER, refuse);
    filter.load(offsetof(seccomp_data, nr));
    filter.skip_unless_equal(SYS_ioctl, 3);
    filter.load(offsetof(seccomp_data, args) + sizeof(unsigned long));
    filter.answer_if_equal(TIOCSTI, refuse);  // typing into a terminal that others read
    filter.answer(SECCOMP_RET_ALLOW);
    return filter.install();
}

}  // namespace stargate::local
