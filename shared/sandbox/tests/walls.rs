//! Every wall is shown by a program that tries to get through it, in both isolation modes.
//! Each test ends with a harmless program in the same cell, and with no container left.

mod common;

use std::time::Duration;

use common::{Bed, limits, text};
use flotilla_sandbox::{Exit, Isolation, Reason, RunLimits};

macro_rules! in_both_modes {
    ($($test:ident)*) => {
        mod namespaces {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Bed::new(super::Isolation::Namespaces).await).await;
            })*
        }
        mod container {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Bed::new(super::Isolation::Container).await).await;
            })*
        }
    };
}

in_both_modes! {
    a_program_gets_its_input_and_its_output_comes_back
    a_memory_bomb_is_out_of_memory
    a_child_killed_for_memory_counts_though_the_parent_exits_0
    a_fork_bomb_ends
    a_thread_bomb_ends
    a_flood_on_stdout_is_ended_at_the_limit
    a_flood_on_stderr_is_ended_and_a_little_too_much_is_cut
    a_sleeper_is_ended_by_the_clock
    a_spinner_that_ignores_signals_is_ended_by_its_cpu_time
    cpu_time_of_children_counts
    a_daemon_that_holds_stdout_dies_with_its_program
    killing_everybody_and_pid_1_hurts_nobody_else
    pid_1_cannot_be_traced_read_or_written
    dangerous_system_calls_are_refused
    dangerous_socket_families_are_refused
    calls_of_another_architecture_are_refused
    a_program_from_memory_is_as_limited
    a_full_tmp_is_the_programs_error
    a_million_files_are_the_programs_error
    a_sparse_file_is_the_programs_error
    nothing_can_be_written_elsewhere
    nothing_is_left_for_the_next_run
    a_deep_tree_and_odd_names_are_gone_for_the_next_run
    the_environment_tells_nothing
    no_network_is_reachable
    a_crash_is_a_signal_without_a_core
    arithmetic_recursion_and_regular_expressions_end
    raw_bytes_come_back_as_they_are
}

const CTYPES: &str = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n";

/// Prints `name errno` for each call given as Python tuples `(name, number, arguments…)`.
fn try_calls(calls: &str) -> String {
    format!(
        "{CTYPES}for name, *call in [{calls}]:\n    ctypes.set_errno(0)\n    \
         r = libc.syscall(*[ctypes.c_long(a) for a in call])\n    \
         print(name, ctypes.get_errno() if r == -1 else 'worked', flush=True)\n"
    )
}

async fn a_program_gets_its_input_and_its_output_comes_back(mut bed: Bed) {
    let report = bed
        .judge_with_input("print(input()[::-1])", b"olleh\n")
        .await;
    assert_eq!(
        (report.exit, text(&report).as_str()),
        (Exit::Exited(0), "hello")
    );
    assert!(report.cpu > Duration::ZERO && report.max_rss_bytes > 1 << 20);
    let large = vec![b'x'; 3 << 20];
    let report = bed
        .judge_with_input("import sys; print(len(sys.stdin.read()))", &large)
        .await;
    assert_eq!(text(&report), (3 << 20).to_string());
    bed.close().await;
}

async fn a_memory_bomb_is_out_of_memory(mut bed: Bed) {
    let report = bed.judge("b = bytearray(1 << 30)\nprint('alive')").await;
    assert!(report.oom, "{report:?}");
    assert_eq!(text(&report), "");
    bed.close().await;
}

async fn a_child_killed_for_memory_counts_though_the_parent_exits_0(mut bed: Bed) {
    let program = "import os
pid = os.fork()
if pid == 0:
    b = bytearray(1 << 30)
    os._exit(0)
os.waitpid(pid, 0)
print('done')";
    let report = bed.judge(program).await;
    assert_eq!((report.exit, report.oom), (Exit::Exited(0), true));
    bed.close().await;
}

async fn a_fork_bomb_ends(mut bed: Bed) {
    let report = bed.judge("import os\nwhile 1: os.fork()").await;
    let ended = matches!(
        report.exit,
        Exit::Exited(1) | Exit::Killed(Reason::Cpu | Reason::Wall)
    );
    assert!(ended, "{report:?}");
    bed.close().await;
}

async fn a_thread_bomb_ends(mut bed: Bed) {
    let program = "import threading, time
while 1: threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()";
    let report = bed.judge(program).await;
    assert_eq!(report.exit, Exit::Exited(1));
    bed.close().await;
}

async fn a_flood_on_stdout_is_ended_at_the_limit(mut bed: Bed) {
    let report = bed.judge("while 1: print('x' * 10000)").await;
    assert_eq!(report.exit, Exit::Killed(Reason::Output));
    assert_eq!(report.stdout.len() as u64, limits().stdout_bytes);
    assert!(report.stdout_truncated && report.wall < Duration::from_secs(1));
    bed.close().await;
}

async fn a_flood_on_stderr_is_ended_and_a_little_too_much_is_cut(mut bed: Bed) {
    let report = bed
        .judge("import sys\nwhile 1: sys.stderr.write('x' * 10000)")
        .await;
    assert_eq!(report.exit, Exit::Killed(Reason::Output));
    assert_eq!(report.stderr.len() as u64, limits().stderr_bytes);
    let report = bed
        .judge("import sys\nsys.stderr.write('x' * 100000)\nprint('done')")
        .await;
    assert_eq!(
        (report.exit, text(&report).as_str()),
        (Exit::Exited(0), "done")
    );
    assert!(report.stderr_truncated && report.stderr.len() as u64 == limits().stderr_bytes);
    bed.close().await;
}

async fn a_sleeper_is_ended_by_the_clock(mut bed: Bed) {
    let limits = RunLimits {
        wall_ms: 500,
        ..limits()
    };
    let program = "import time\nprint('before', flush=True)\ntime.sleep(1e6)";
    let report = bed.judge_within(program, limits).await;
    assert_eq!(report.exit, Exit::Killed(Reason::Wall));
    assert_eq!(
        text(&report),
        "before",
        "what was written before the end is kept"
    );
    assert!(report.wall < Duration::from_millis(1_500));
    bed.close().await;
}

async fn a_spinner_that_ignores_signals_is_ended_by_its_cpu_time(mut bed: Bed) {
    let program = "import signal
for s in range(1, 32):
    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)
while 1: pass";
    let report = bed
        .judge_within(
            program,
            RunLimits {
                cpu_ms: 500,
                ..limits()
            },
        )
        .await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
    assert!(
        report.cpu < Duration::from_millis(1_000) && report.wall < Duration::from_millis(1_500)
    );
    bed.close().await;
}

async fn cpu_time_of_children_counts(mut bed: Bed) {
    let program = "import os, time
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while 1: pass
time.sleep(100)";
    let report = bed
        .judge_within(
            program,
            RunLimits {
                cpu_ms: 600,
                ..limits()
            },
        )
        .await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
    bed.close().await;
}

const COUNT_PROCESSES: &str =
    "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))";

async fn a_daemon_that_holds_stdout_dies_with_its_program(mut bed: Bed) {
    let before = text(&bed.judge(COUNT_PROCESSES).await);
    let program = "import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while 1: pass
    os._exit(0)
print('done')";
    let report = bed.judge(program).await;
    assert_eq!(
        (report.exit, text(&report).as_str()),
        (Exit::Exited(0), "done")
    );
    assert!(report.wall < Duration::from_secs(1));
    assert_eq!(text(&bed.judge(COUNT_PROCESSES).await), before);
    bed.close().await;
}

async fn killing_everybody_and_pid_1_hurts_nobody_else(mut bed: Bed) {
    let program = "import os, signal
for pid in (-1, 1, os.getppid(), 2):
    for s in (9, 15, 19):
        try:
            if pid != os.getpid(): os.kill(pid, s)
        except OSError: pass
print('alive')";
    let report = bed.judge(program).await;
    assert_eq!(
        (report.exit, text(&report).as_str()),
        (Exit::Exited(0), "alive")
    );
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

#[track_caller]
fn all_refused(printed: &str, count: usize) {
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    let eperm = libc_eperm();
    let passed: Vec<_> = lines
        .iter()
        .filter(|line| !line.ends_with(&eperm))
        .collect();
    assert!(passed.is_empty(), "not EPERM: {passed:?}");
}

fn libc_eperm() -> String {
    " 1".into()
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
    let tuples = calls
        .map(|(name, arguments)| format!("('{name}', {arguments})"))
        .join(", ");
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
    assert!(
        opened.lines().all(|family| allowed.contains(&family)),
        "{opened}"
    );
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
    let report = bed
        .judge(&try_calls("('getpid by x32', 0x40000000 + 39)"))
        .await;
    assert!(
        report.exit == Exit::Signaled(31) || text(&report).ends_with(" 1"),
        "{report:?}"
    );
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

async fn a_full_tmp_is_the_programs_error(mut bed: Bed) {
    let program = "import os
total = 0
try:
    for i in range(1000):
        with open(f'/tmp/{i}', 'wb', buffering=0) as f:
            for _ in range(8): total += f.write(bytes(1 << 20))
finally:
    print(total)";
    let report = bed.judge(program).await;
    assert_eq!(report.exit, Exit::Exited(1));
    let written: u64 = text(&report).parse().unwrap();
    assert!(written > 0 && written <= limits().tmp_bytes, "{written}");
    bed.close().await;
}

async fn a_million_files_are_the_programs_error(mut bed: Bed) {
    let program = "import os
i = 0
try:
    while i < 1000000:
        os.close(os.open(f'/tmp/{i}', os.O_CREAT)); i += 1
finally:
    print(i)";
    let report = bed.judge(program).await;
    assert_eq!(report.exit, Exit::Exited(1));
    assert!(text(&report).parse::<u64>().unwrap() <= limits().tmp_inodes);
    bed.close().await;
}

async fn a_sparse_file_is_the_programs_error(mut bed: Bed) {
    let report = bed
        .judge("open('/tmp/sparse', 'wb').truncate(1 << 50)")
        .await;
    assert_eq!(report.exit, Exit::Exited(1));
    bed.close().await;
}

async fn nothing_can_be_written_elsewhere(mut bed: Bed) {
    let program = "import os
for top, dirs, files in os.walk('/'):
    dirs[:] = [d for d in dirs if os.path.join(top, d) not in ('/proc', '/tmp', '/dev/shm', '/dev/mqueue', '/usr/share', '/usr/lib')]
    try:
        os.close(os.open(os.path.join(top, 'written'), os.O_CREAT | os.O_WRONLY))
        print('wrote in', top)
    except OSError: pass
for path in ('/proc/self/oom_score_adj', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper'):
    try:
        os.write(os.open(path, os.O_WRONLY), b'0')
        print('wrote', path)
    except OSError: pass
print('end')";
    let report = bed
        .judge_within(
            program,
            RunLimits {
                cpu_ms: 3_000,
                ..limits()
            },
        )
        .await;
    let expected = match bed.config.isolation {
        Isolation::Namespaces => "end",
        // The program may make itself as likely a victim as the supervisor, which is far smaller.
        Isolation::Container => "wrote /proc/self/oom_score_adj\nend",
    };
    assert_eq!(text(&report), expected, "{report:?}");
    bed.close().await;
}

async fn nothing_is_left_for_the_next_run(mut bed: Bed) {
    let leave = format!(
        "{CTYPES}
for path in ('/tmp/left', '/dev/shm/left'): open(path, 'w').write('left')
os.mkdir('/tmp/closed', 0); os.symlink('/etc', '/tmp/link'); os.mkfifo('/tmp/fifo')
print(libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o600, None) >= 0)
print(libc.shmget(4711, 4096, 0o1600) >= 0, libc.semget(4711, 1, 0o1600) >= 0, libc.msgget(4711, 0o1600) >= 0)
os.chmod('/tmp', 0)"
    );
    let report = bed.judge(&leave).await;
    assert_eq!(text(&report), "True\nTrue True True", "{report:?}");
    let look = format!(
        "{CTYPES}
print([sorted(os.listdir(d)) for d in ('/tmp', '/dev/shm', '/dev/mqueue') if os.path.isdir(d)])
print(libc.mq_open(b'/left', os.O_RDWR), libc.shmget(4711, 0, 0), libc.semget(4711, 0, 0), libc.msgget(4711, 0))"
    );
    let report = bed.judge(&look).await;
    assert_eq!(
        text(&report),
        "[['main.py'], [], []]\n-1 -1 -1 -1",
        "{report:?}"
    );
    bed.close().await;
}

async fn a_deep_tree_and_odd_names_are_gone_for_the_next_run(mut bed: Bed) {
    let leave = r"import os
for name in (b'new\nline', b'\xff\xfe', b'-rf', b'x' * 255, b'...'): open(b'/tmp/' + name, 'w')
for i in range(2000):
    os.mkdir('deep'); os.chdir('deep'); open('f', 'w')
os.chmod('..', 0); os.chmod('.', 0)
print('done')";
    assert_eq!(text(&bed.judge(leave).await), "done");
    assert_eq!(
        text(&bed.judge("import os; print(os.listdir('/tmp'))").await),
        "['main.py']"
    );
    bed.close().await;
}

async fn the_environment_tells_nothing(mut bed: Bed) {
    let program = "import os
print(sorted(os.environ.items()))
for pid in os.listdir('/proc'):
    try: print(open(f'/proc/{pid}/environ').read()) if pid.isdigit() and pid != str(os.getpid()) else None
    except OSError: pass
print(open('/etc/resolv.conf').read(), os.uname().nodename)";
    let report = bed.judge(program).await;
    let name = match bed.config.isolation {
        Isolation::Namespaces => "sandbox",
        Isolation::Container => "cell",
    };
    let lines = text(&report);
    let environment = "[('HOME', '/tmp'), ('LANG', 'C.UTF-8'), \
        ('PATH', '/usr/local/bin:/usr/bin:/bin'), ('PYTHONDONTWRITEBYTECODE', '1')]";
    assert_eq!(lines.lines().next(), Some(environment));
    assert!(
        lines.ends_with(name) && lines.lines().count() <= 5,
        "{lines}"
    );
    let resolvers = lines.lines().filter(|line| line.contains("nameserver"));
    assert!(
        resolvers.clone().all(|line| line.contains("127.0.0.1")),
        "{lines}"
    );
    bed.close().await;
}

async fn no_network_is_reachable(mut bed: Bed) {
    let program = "import os, socket
print('start')
for host, port in (('169.254.169.254', 80), ('169.254.170.2', 80), ('172.17.0.1', 2375), ('172.17.0.1', 22), ('8.8.8.8', 53), ('127.0.0.1', 22)):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET, kind); s.settimeout(0.2)
        try:
            s.connect((host, port)); s.send(b'x'); s.recv(1); print('reached', host, port)
        except OSError: pass
for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock'):
    try:
        socket.socket(socket.AF_UNIX).connect(path); print('reached', path)
    except OSError: pass
try: print(socket.getaddrinfo('example.com', 80))
except OSError: pass";
    let report = bed.judge(program).await;
    assert_eq!(
        (report.exit, text(&report).as_str()),
        (Exit::Exited(0), "start"),
        "{report:?}"
    );
    bed.close().await;
}

async fn a_crash_is_a_signal_without_a_core(mut bed: Bed) {
    let report = bed.judge("import ctypes; ctypes.string_at(0)").await;
    assert_eq!(report.exit, Exit::Signaled(11));
    let report = bed.judge("import os; print(os.listdir('.'))").await;
    assert_eq!(text(&report), "['main.py']");
    bed.close().await;
}

async fn arithmetic_recursion_and_regular_expressions_end(mut bed: Bed) {
    let report = bed.judge("str(10 ** 5000)").await;
    assert_eq!(report.exit, Exit::Exited(1));
    let report = bed
        .judge("import re; re.match('(a+)+$', 'a' * 40 + 'b')")
        .await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
    let report = bed.judge("10 ** 10 ** 8").await;
    assert!(
        report.exit == Exit::Killed(Reason::Cpu) || report.oom,
        "{report:?}"
    );
    let recursion = "import sys; sys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()";
    let report = bed
        .judge_within(
            recursion,
            RunLimits {
                cpu_ms: 3_000,
                ..limits()
            },
        )
        .await;
    assert!(
        report.oom || !matches!(report.exit, Exit::Exited(0)),
        "{report:?}"
    );
    bed.close().await;
}

async fn raw_bytes_come_back_as_they_are(mut bed: Bed) {
    let report = bed
        .judge(r"import os; os.write(1, b'\xff\xfe\x00'); os._exit(7)")
        .await;
    assert_eq!(
        (report.exit, report.stdout.as_slice()),
        (Exit::Exited(7), &b"\xff\xfe\x00"[..])
    );
    bed.close().await;
}

/// What only fresh namespaces can promise.
mod namespaces_only {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn proc_and_sys_show_nothing_of_the_machine() {
        let mut bed = Bed::new(Isolation::Namespaces).await;
        let program = "import os
print(os.listdir('/sys'), sorted(n for n in os.listdir('/proc') if not n.isdigit()))
print(os.getuid(), os.getpid(), len([n for n in os.listdir('/proc') if n.isdigit()]))
print(open('/etc/hosts').read() + open('/etc/hostname').read())
print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])";
        let report = bed.judge(program).await;
        let expected = "[] ['self', 'thread-self']\n1000 2 2\n\n0000000000000000";
        assert_eq!(text(&report), expected, "{report:?}");
        bed.close().await;
    }
}
