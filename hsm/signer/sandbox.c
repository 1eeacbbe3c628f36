#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hsm/signer/signer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* What no PKCS#11 module needs to sign. A module is somebody else's code with the PIN in its hands:
 * it may read its files, talk to its local daemon and use its device, and nothing more. */
static const int denied[] = {
    /* other programs, and other people's rights */
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(chroot),
    SCMP_SYS(pivot_root),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(open_by_handle_at),
    /* other processes: the engine has the same user */
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(kcmp),
    SCMP_SYS(process_madvise),
    /* a way around this filter */
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    /* the kernel */
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(syslog),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
};

/* The sanitizers' own tracer and symbolizer use these. */
static const int denied_unsanitized[] = {SCMP_SYS(ptrace), SCMP_SYS(personality)};

static int deny(scmp_filter_ctx filter, int call)
{
    int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
    return rc == -EDOM || rc == -EFAULT ? 0 : rc; /* a call that this kind of machine lacks */
}

static int add_rules(scmp_filter_ctx filter, bool allow_network)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(denied) / sizeof(denied[0]); i++)
        rc = deny(filter, denied[i]);
    for (size_t i = 0;
         !SANITIZED && rc == 0 && i < sizeof(denied_unsanitized) / sizeof(denied_unsanitized[0]);
         i++)
        rc = deny(filter, denied_unsanitized[i]);
    /* signals go to this process alone; abort and raise use tgkill */
    pid_t self = getpid();
    const int signals[] = {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                           SCMP_SYS(rt_tgsigqueueinfo)};
    for (size_t i = 0; rc == 0 && i < sizeof(signals) / sizeof(signals[0]); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), signals[i], 1,
                              SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)self));
    if (rc == 0)
        rc = deny(filter, SCMP_SYS(tkill));
    /* a module's daemon on this machine is reached by a local socket; all else is network */
    if (rc == 0 && !allow_network)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_NE, AF_UNIX));
    return rc;
}

bool sandbox_enter(bool allow_network)
{
    const struct rlimit no_core = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0)
        return false;
    /* no ptrace by others of the same user, no /proc/self/mem, no dump */
    if (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return false;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL) {
        errno = ENOMEM;
        return false;
    }
    int rc = add_rules(filter, allow_network);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    errno = -rc;
    return rc == 0;
}
