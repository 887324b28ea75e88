//! Which system calls remain: those that read and write files and sockets, wait, make threads, and use maps.
//!
//! It is a list of allowed calls. A list of forbidden calls would leave out those that new kernels add, and those that
//! have another number in other calling conventions (x32). All other calls fail with EPERM.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Calls;

/// Calls that are allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_pipe2,
    // Events.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Sockets. The kinds that can be made are listed below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Memory. Resolving names loads libraries. A large entry for the journal is such a file.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    // Threads. Only threads can be made, see below. clone3 has a filter of its own.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    libc::SYS_getcpu,
    libc::SYS_capget,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
];

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[libc::c_long] = &[];

/// Commands of bpf(2), include/uapi/linux/bpf.h, for the maps, links and programs whose descriptors the process holds.
/// It can load no program, make no map, and open nothing that others have pinned or loaded.
const BPF_COMMANDS: [u64; 13] = [
    1, 2, 3, 4, 21, // BPF_MAP_{LOOKUP,UPDATE,DELETE}_ELEM, GET_NEXT_KEY, LOOKUP_AND_DELETE_ELEM
    24, 25, 26, 27, // BPF_MAP_{LOOKUP,LOOKUP_AND_DELETE,UPDATE,DELETE}_BATCH
    10, // BPF_PROG_TEST_RUN: asks the program for the kernel's clock
    15, // BPF_OBJ_GET_INFO_BY_FD
    28, 34, // BPF_LINK_{CREATE,DETACH}: an interface that returns
];

/// `BPF_OBJ_PIN`: for links that the next agent takes over. Landlock, or the owners of directories, say where.
const BPF_OBJ_PIN: u64 = 6;

/// Requests of ioctl(2), include/uapi/asm-generic/ioctls.h and include/uapi/linux/sockios.h: whether a descriptor
/// waits, a terminal's state, and the numbers of interfaces. They are plain numbers, since C libraries do not agree on
/// their type.
const IOCTLS: [u64; 6] = [
    0x5421, 0x541b, 0x5451, // FIONBIO, FIONREAD, FIOCLEX
    0x5401, // TCGETS
    0x8933, 0x8910, // SIOCGIFINDEX, SIOCGIFNAME
];

/// Families of sockets that every agent makes. The control socket has been made before.
const FAMILIES: [libc::c_int; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The bits of a socket's type, include/linux/net.h: the others are flags.
const TYPE_MASK: u64 = 0xf;

/// Options of prctl(2): the names of threads and of memory.
const PRCTLS: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// The filters, in the order of their installation.
///
/// # Errors
/// There are none for this architecture.
pub(super) fn filters(calls: Calls) -> Result<[BpfProgram; 2], BackendError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    // Its flags are in memory, which a filter cannot read. The C library takes this for an old kernel, and uses clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, errno(libc::ENOSYS), architecture)?;
    let rest = SeccompFilter::new(rules(calls)?, errno(libc::EPERM), SeccompAction::Allow, architecture)?;
    Ok([clone3.try_into()?, rest.try_into()?])
}

fn rules(calls: Calls) -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().chain(LEGACY).map(|call| (*call, Vec::new())).collect();
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let of_int =
        |values: &[libc::c_int]| values.iter().map(|value| u64::from(value.unsigned_abs())).collect();
    let own_pid = vec![u64::from(std::process::id())];
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    for (call, argument, values) in [
        (libc::SYS_bpf, 0, BPF_COMMANDS.into_iter().chain(calls.pin.then_some(BPF_OBJ_PIN)).collect()),
        (libc::SYS_ioctl, 1, IOCTLS.to_vec()),
        (libc::SYS_socket, 0, of_int(&FAMILIES)),
        (libc::SYS_prctl, 0, of_int(&PRCTLS)),
        // A panic aborts.
        (libc::SYS_tgkill, 0, own_pid),
        // Its own limits.
        (libc::SYS_prlimit64, 0, vec![0]),
    ] {
        let of_call: Result<Vec<_>, _> =
            values.into_iter().map(|value| rule(argument, SeccompCmpOp::Eq, value)).collect();
        rules.insert(call, of_call?);
    }
    if calls.unix_datagrams {
        let family = u64::from(libc::AF_UNIX.unsigned_abs());
        let datagrams = u64::from(libc::SOCK_DGRAM.unsigned_abs());
        let of_unix = SeccompRule::new(vec![
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?,
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(TYPE_MASK), datagrams)?,
        ])?;
        rules.entry(libc::SYS_socket).or_default().push(of_unix);
    }
    Ok(rules)
}

fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?])
}

/// Whether this kernel supports filters of system calls.
pub(super) fn is_supported() -> bool {
    std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}
