//! What a program asks of the kernel.

use flotilla_sandbox::Exit;

use crate::CTYPES;
use crate::common::{Bed, text};

crate::in_both_modes! {
    dangerous_system_calls_are_refused
    dangerous_socket_families_are_refused
    calls_of_another_architecture_are_refused
    a_program_from_memory_is_as_limited
    pid_1_cannot_be_traced_read_or_written
}

/// Prints `name errno` for each call given as Python tuples `(name, number, arguments…)`.
fn try_calls(calls: &str) -> String {
    format!(
        "{CTYPES}for name, *call in [{calls}]:\n    ctypes.set_errno(0)\n    \
         r = libc.syscall(*[ctypes.c_long(a) for a in call])\n    \
         print(name, ctypes.get_errno() if r == -1 else 'worked', flush=True)\n"
    )
}

/// Every line ends with the number of `EPERM`.
#[track_caller]
fn all_refused(printed: &str, count: usize) {
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    let passed: Vec<_> = lines.iter().filter(|line| !line.ends_with(" 1")).collect();
    assert!(passed.is_empty(), "not EPERM: {passed:?}");
}

async fn dangerous_system_calls_are_refused(mut bed: Bed) {
    let calls = [
        ("unshare", "272, 0x10000000"),
        ("setns", "308, 0, 0"),
        ("mount", "165, 0, 0, 0, 0, 0"),
        ("umount2", "166, 0, 0"),
        ("pivot_root", "155, 0, 0"),
        ("chroot", "161, 0"),
        ("fsopen", "430, 0, 0"),
        ("open_tree", "428, 0, 0, 0"),
        ("move_mount", "429, 0, 0, 0, 0, 0"),
        ("keyctl", "250, 0, -3, 0"),
        ("add_key", "248, 0, 0, 0, 0, -3"),
        ("request_key", "249, 0, 0, 0, 0"),
        ("bpf", "321, 0, 0, 0"),
        ("userfaultfd", "323, 0"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0"),
        ("io_uring_setup", "425, 1, 0"),
        ("io_uring_enter", "426, 0, 0, 0, 0"),
        ("settimeofday", "164, 0, 0"),
        ("clock_settime", "227, 0, 0"),
        ("adjtimex", "159, 0"),
        ("clock_adjtime", "305, 0, 0"),
        ("personality", "135, 0x0040000"),
        ("open_by_handle_at", "304, 0, 0, 0"),
        ("kexec_load", "246, 0, 0, 0, 0"),
        ("init_module", "175, 0, 0, 0"),
        ("quotactl", "179, 0, 0, 0, 0"),
        ("swapon", "167, 0, 0"),
        ("reboot", "169, 0, 0, 0"),
        ("seccomp", "317, 0, 0, 0"),
        ("syslog", "103, 3, 0, 0"),
        ("sync", "162"),
        ("sethostname", "170, 0, 0"),
        ("iopl", "172, 3"),
        ("modify_ldt", "154, 0, 0, 0"),
        ("clone(NEWUSER)", "56, 0x10000011, 0, 0, 0, 0"),
        ("clone(NEWNET)", "56, 0x40000011, 0, 0, 0, 0"),
    ];
    let tuples = calls.map(|(name, arguments)| format!("('{name}', {arguments})")).join(", ");
    all_refused(&text(&bed.judge(&try_calls(&tuples)).await), calls.len());
    let absent = try_calls("('clone3', 435, 0, 0), ('newer', 470, 0), ('newest', 500, 0)");
    let absent = text(&bed.judge(&absent).await);
    assert!(
        absent.lines().count() == 3 && absent.lines().all(|line| line.ends_with(" 38")),
        "{absent}"
    );
    bed.close().await;
}

async fn dangerous_socket_families_are_refused(mut bed: Bed) {
    let program = "import socket
for family in range(0, 46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind)
            print(family)
        except OSError: pass
print('end')";
    let opened = text(&bed.judge(program).await);
    let allowed = ["1", "2", "10", "end"];
    assert!(opened.lines().all(|family| allowed.contains(&family)), "{opened}");
    bed.close().await;
}

async fn calls_of_another_architecture_are_refused(mut bed: Bed) {
    // getpid by `int 0x80`: 32-bit calls have other numbers, which the filter does not know.
    let program = format!(
        "{CTYPES}import mmap\nprint('before', flush=True)
code = mmap.mmap(-1, 4096, prot=7)
code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())"
    );
    let report = bed.judge(&program).await;
    // SIGSYS; SIGSEGV on a kernel that has no 32-bit calls at all.
    assert!(matches!(report.exit, Exit::Signaled(31 | 11)), "{report:?}");
    assert_eq!(text(&report), "before");
    // The x32 variant of a call; the cell's own filter kills for it.
    let report = bed.judge(&try_calls("('getpid by x32', 0x40000000 + 39)")).await;
    assert!(report.exit == Exit::Signaled(31) || text(&report).ends_with(" 1"), "{report:?}");
    bed.close().await;
}

async fn a_program_from_memory_is_as_limited(mut bed: Bed) {
    let program = "import os
fd = os.memfd_create('python', 0)
os.write(fd, open('/usr/bin/python3', 'rb').read())
script = '''import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000), ctypes.get_errno())'''
os.execve(fd, ['python3', '-I', '-c', script], {})";
    let report = bed.judge(program).await;
    assert_eq!(text(&report), "-1 1", "{report:?}");
    bed.close().await;
}

async fn pid_1_cannot_be_traced_read_or_written(mut bed: Bed) {
    let program = "import os
for pid in ('1', str(os.getppid())):
    for name in ('mem', 'environ', 'maps', 'fd/0', 'fd/1', 'cwd/x', 'root/etc/passwd', 'auxv'):
        for mode in ('rb', 'r+b'):
            try:
                open(f'/proc/{pid}/{name}', mode).read(1)
                print('opened', pid, name, mode)
            except OSError: pass
print('end')";
    assert_eq!(text(&bed.judge(program).await), "end");
    let program = try_calls(
        "('attach', 101, 16, 1, 0, 0), ('seize', 101, 0x4206, 1, 0, 0), ('traceme', 101, 0, 0, 0, 0),
         ('vm_readv', 310, 1, 0, 0, 0, 0, 0), ('vm_writev', 311, 1, 0, 0, 0, 0, 0),
         ('pidfd_getfd', 438, 0, 0, 0), ('prlimit', 302, 1, 7, 0, 0), ('kcmp', 312, 1, 1, 0, 0, 0)",
    );
    all_refused(&text(&bed.judge(&program).await), 8);
    bed.close().await;
}
