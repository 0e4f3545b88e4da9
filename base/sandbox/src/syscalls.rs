//! seccomp: the system calls of a program that computes, reads files, and answers on a socket it was given.
//!
//! Everything else fails with EPERM; `clone3` with ENOSYS, so that libc falls back to `clone`, whose flags a filter can
//! see: threads yes, processes no.

use std::{collections::BTreeMap, env::consts::ARCH};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Calls that are allowed whatever their arguments.
const ALLOWED: &[i64] = &[
    // Files and memory.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Waiting and answering on what is open already.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Threads, signals and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The older forms that x86-64 has beside them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// `ioctl` requests: non-blocking, how much can be read, whether it is a terminal.
const IOCTLS: [u64; 3] = [0x5421, 0x541b, 0x5401];
/// `prctl` requests: the name of a thread, of a mapping.
const PRCTLS: [u64; 2] = [15, 0x5356_4d41];

pub(crate) fn confine() -> Result<(), String> {
    let why = |error: seccompiler::Error| error.to_string();
    apply_filter(&threads_only()?).map_err(why)?;
    apply_filter(&allowed()?).map_err(why)
}

/// What a guest may not ask for: what reaches into other processes, or changes the machine.
const DENIED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
];

/// Flags of `clone` that make namespaces: mounts, control groups, host names, messages, users, processes, networks.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// All but what a guest may not ask for; of sockets, those between processes of this machine alone.
pub(crate) fn confine_guest() -> Result<(), String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    rules.insert(libc::SYS_socket, vec![rule(0, Width::Dword, Op::Ne, unix)?]);
    let namespace = |flag: &libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        rule(0, Width::Qword, Op::MaskedEq(flag), flag)
    };
    rules.insert(libc::SYS_clone, NAMESPACES.iter().map(namespace).collect::<Result<_, _>>()?);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let why = |error: seccompiler::Error| error.to_string();
    apply_filter(&threads_only()?).map_err(why)?;
    apply_filter(&compile(rules, SeccompAction::Allow, denied)?).map_err(why)
}

/// Whether filters can be made for this machine; a kernel without seccomp is seen in `/proc`.
pub(crate) fn probe() -> Result<(), String> {
    allowed()?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    if status.contains("Seccomp:") { Ok(()) } else { Err("this kernel has no seccomp".into()) }
}

fn arch() -> Result<TargetArch, String> {
    TargetArch::try_from(ARCH).map_err(|error| error.to_string())
}

/// `clone3` does not exist; all else is left to the next filter.
fn threads_only() -> Result<BpfProgram, String> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    compile(rules, SeccompAction::Allow, missing)
}

fn allowed() -> Result<BpfProgram, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone3, Vec::new());
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or(0);
    rules.insert(libc::SYS_clone, vec![rule(0, Width::Qword, Op::MaskedEq(thread), thread)?]);
    rules.insert(libc::SYS_socketpair, vec![rule(0, Width::Dword, Op::Eq, u64::from(libc::AF_UNIX.unsigned_abs()))?]);
    rules.insert(libc::SYS_ioctl, each(1, &IOCTLS)?);
    rules.insert(libc::SYS_prctl, each(0, &PRCTLS)?);
    // Limits may be read, not set.
    rules.insert(libc::SYS_prlimit64, vec![rule(2, Width::Qword, Op::Eq, 0)?]);
    // A process may end itself by a signal, and nobody else.
    rules.insert(libc::SYS_tgkill, vec![rule(0, Width::Dword, Op::Eq, u64::from(std::process::id()))?]);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    compile(rules, denied, SeccompAction::Allow)
}

fn each(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, String> {
    values.iter().map(|value| rule(argument, Width::Dword, Op::Eq, *value)).collect()
}

fn rule(argument: u8, width: Width, op: Op, value: u64) -> Result<SeccompRule, String> {
    let condition = SeccompCondition::new(argument, width, op, value).map_err(|error| error.to_string())?;
    SeccompRule::new(vec![condition]).map_err(|error| error.to_string())
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    let filter = SeccompFilter::new(rules, otherwise, matched, arch()?).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}
