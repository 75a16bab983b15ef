//! The system calls a cell may make. The filter of a run and the container's own profile are both
//! made from these tables: what is not named is refused.

/// A system call: its name as libc's constant has it (`SYS_read`, see [`name`]) and its number.
pub type Syscall = (&'static str, i64);

macro_rules! table {
    ($($name:ident)*) => {
        &[$((stringify!($name), libc::$name)),*]
    };
}

/// Allowed to a run, whatever the arguments. Not here, on purpose: everything that makes or enters
/// namespaces, mounts or changes the root, reads or steers another process, loads something into
/// the kernel, sets a clock, or opens files by handle; `io_uring`, whose operations no filter
/// sees; keys, which outlive a run; extended attributes; and `sync`, which works the host's disks.
pub const RUN: &[Syscall] = table! {
    // Files and directories.
    SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek
    SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_access SYS_pipe SYS_select SYS_dup SYS_dup2
    SYS_sendfile SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_truncate SYS_ftruncate SYS_getdents
    SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_rename SYS_mkdir SYS_rmdir SYS_creat SYS_link
    SYS_unlink SYS_symlink SYS_readlink SYS_chmod SYS_fchmod SYS_chown SYS_fchown SYS_lchown
    SYS_umask SYS_utime SYS_mknod SYS_statfs SYS_fstatfs SYS_readahead SYS_utimes
    SYS_openat SYS_mkdirat SYS_mknodat SYS_fchownat SYS_futimesat SYS_newfstatat SYS_unlinkat
    SYS_renameat SYS_linkat SYS_symlinkat SYS_readlinkat SYS_fchmodat SYS_faccessat SYS_pselect6
    SYS_ppoll SYS_splice SYS_tee SYS_sync_file_range SYS_utimensat SYS_fallocate SYS_dup3 SYS_pipe2
    SYS_preadv SYS_pwritev SYS_renameat2 SYS_copy_file_range SYS_preadv2 SYS_pwritev2
    SYS_statx SYS_openat2 SYS_close_range SYS_faccessat2 SYS_fchmodat2 SYS_ioctl SYS_fadvise64
    SYS_inotify_init SYS_inotify_add_watch SYS_inotify_rm_watch SYS_inotify_init1 SYS_memfd_create
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
    // Memory.
    SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_mlock
    SYS_munlock SYS_mlockall SYS_munlockall SYS_mlock2 SYS_remap_file_pages SYS_get_mempolicy
    SYS_set_mempolicy SYS_mbind SYS_pkey_mprotect SYS_pkey_alloc SYS_pkey_free
    // Processes and threads.
    SYS_fork SYS_vfork SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid
    SYS_getpid SYS_getppid SYS_gettid SYS_getpgrp SYS_setpgid SYS_getpgid SYS_setsid SYS_getsid
    SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_futex SYS_futex_waitv SYS_rseq
    SYS_membarrier SYS_arch_prctl SYS_prctl SYS_sched_yield SYS_sched_setparam SYS_sched_getparam
    SYS_sched_setscheduler SYS_sched_getscheduler SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_getaffinity
    SYS_sched_setattr SYS_sched_getattr SYS_getpriority SYS_setpriority SYS_getrlimit SYS_setrlimit
    SYS_getrusage SYS_getcpu SYS_times SYS_sysinfo SYS_uname SYS_pidfd_open SYS_pidfd_send_signal
    SYS_restart_syscall
    // Identity; without capabilities these only read, or change nothing.
    SYS_getuid SYS_getgid SYS_geteuid SYS_getegid SYS_setuid SYS_setgid SYS_setreuid SYS_setregid
    SYS_getgroups SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid SYS_setfsuid
    SYS_setfsgid SYS_capget SYS_capset
    // Signals and time.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait
    SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_rt_tgsigqueueinfo SYS_kill SYS_tkill
    SYS_tgkill SYS_pause SYS_alarm SYS_nanosleep SYS_getitimer SYS_setitimer SYS_gettimeofday
    SYS_time SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_timer_create
    SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create
    SYS_timerfd_settime SYS_timerfd_gettime SYS_signalfd SYS_signalfd4 SYS_eventfd SYS_eventfd2
    SYS_epoll_create SYS_epoll_ctl SYS_epoll_wait SYS_epoll_create1 SYS_epoll_pwait SYS_epoll_pwait2
    SYS_getrandom
    // Talking, within the run's own network and IPC namespaces.
    SYS_connect SYS_accept SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_bind
    SYS_listen SYS_getsockname SYS_getpeername SYS_setsockopt SYS_getsockopt SYS_accept4
    SYS_recvmmsg SYS_sendmmsg SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop
    SYS_semctl SYS_semtimedop SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink
    SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
};

/// Allowed to a run, depending on the arguments: no new namespaces by `clone`, only local and
/// Internet sockets, and one's own limits.
pub const RUN_BY_ARGUMENT: &[Syscall] =
    table! { SYS_clone SYS_socket SYS_socketpair SYS_prlimit64 };

/// What PID 1 of a cell needs besides, to make the surroundings of a run.
pub const SETUP: &[Syscall] = table! {
    SYS_unshare SYS_mount SYS_umount2 SYS_sethostname SYS_seccomp
};

/// Answered with `ENOSYS`, so that callers fall back to what can be filtered: the flags of `clone3`
/// lie in memory, where a filter does not see them.
pub const ABSENT: &[Syscall] = table! { SYS_clone3 };

/// The name as Docker's profiles have it, without libc's prefix.
#[must_use]
pub fn name(syscall: &Syscall) -> &'static str {
    syscall.0.strip_prefix("SYS_").unwrap_or(syscall.0)
}

/// Flags of `clone` that make namespaces.
pub const CLONE_NEW: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The families a run may open sockets of.
pub const SOCKET_FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_not_make_surroundings_or_reach_out_of_its_own() {
        let allowed: Vec<_> = RUN.iter().chain(RUN_BY_ARGUMENT).map(name).collect();
        for refused in [
            "unshare",
            "setns",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "ptrace",
            "bpf",
            "process_vm_readv",
            "process_vm_writev",
            "keyctl",
            "add_key",
            "request_key",
            "io_uring_setup",
            "io_uring_enter",
            "userfaultfd",
            "perf_event_open",
            "kexec_load",
            "open_by_handle_at",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "personality",
            "init_module",
            "finit_module",
            "quotactl",
            "swapon",
            "pidfd_getfd",
            "kcmp",
            "clone3",
            "fsopen",
            "fsmount",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "seccomp",
            "syslog",
        ] {
            assert!(!allowed.contains(&refused), "{refused}");
        }
    }

    #[test]
    fn no_call_is_in_two_tables() {
        let all = [RUN, RUN_BY_ARGUMENT, SETUP, ABSENT].concat();
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|call| call.1).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
