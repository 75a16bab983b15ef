//! What a program may use, and how it ends.

use std::time::Duration;

use flotilla_sandbox::{Exit, MAX_STDERR_BYTES, MAX_STDOUT_BYTES, Reason, RunLimits};

use crate::common::{Bed, limits, text};

crate::in_both_modes! {
    a_program_gets_its_input_and_its_output_comes_back
    a_memory_bomb_is_out_of_memory
    a_child_killed_for_memory_counts_though_the_parent_exits_0
    a_fork_bomb_ends
    a_thread_bomb_ends
    a_flood_on_stdout_is_ended_at_the_limit
    the_most_output_that_may_be_asked_for_comes_back_whole
    a_flood_on_stderr_is_ended_and_a_little_too_much_is_cut
    a_sleeper_is_ended_by_the_clock
    a_spinner_that_ignores_signals_is_ended_by_its_cpu_time
    cpu_time_of_children_counts
    a_crash_is_a_signal_without_a_core
    arithmetic_recursion_and_regular_expressions_end
    raw_bytes_come_back_as_they_are
}

async fn a_program_gets_its_input_and_its_output_comes_back(mut bed: Bed) {
    let report = bed.judge_with_input("print(input()[::-1])", b"olleh\n").await;
    assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "hello"));
    assert!(report.cpu > Duration::ZERO && report.max_rss_bytes > 1 << 20);
    let large = vec![b'x'; 3 << 20];
    let report = bed.judge_with_input("import sys; print(len(sys.stdin.read()))", &large).await;
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
    let ended = matches!(report.exit, Exit::Exited(1) | Exit::Killed(Reason::Cpu | Reason::Wall));
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
    assert!(report.stdout_truncated);
    assert!(report.max_rss_bytes > 1 << 20, "{report:?}");
    bed.close().await;
}

async fn the_most_output_that_may_be_asked_for_comes_back_whole(mut bed: Bed) {
    let (stdout_bytes, stderr_bytes) = (MAX_STDOUT_BYTES, MAX_STDERR_BYTES);
    let limits = RunLimits { stdout_bytes, stderr_bytes, cpu_ms: 5_000, ..limits() };
    let program = format!(
        "import os
for fd, size in ((1, {stdout_bytes}), (2, {stderr_bytes})):
    for _ in range(size >> 16): os.write(fd, b'x' * (1 << 16))"
    );
    let report = bed.judge_within(&program, limits).await;
    let sizes = (report.stdout.len() as u64, report.stderr.len() as u64);
    assert_eq!((report.exit, sizes), (Exit::Exited(0), (stdout_bytes, stderr_bytes)));
    assert!(!report.stdout_truncated && !report.stderr_truncated && !report.oom);
    bed.close().await;
}

async fn a_flood_on_stderr_is_ended_and_a_little_too_much_is_cut(mut bed: Bed) {
    let report = bed.judge("import sys\nwhile 1: sys.stderr.write('x' * 10000)").await;
    assert_eq!(report.exit, Exit::Killed(Reason::Output));
    assert_eq!(report.stderr.len() as u64, limits().stderr_bytes);
    let report = bed.judge("import sys\nsys.stderr.write('x' * 100000)\nprint('done')").await;
    assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "done"));
    assert!(report.stderr_truncated && report.stderr.len() as u64 == limits().stderr_bytes);
    bed.close().await;
}

async fn a_sleeper_is_ended_by_the_clock(mut bed: Bed) {
    let limits = RunLimits { wall_ms: 500, ..limits() };
    let program =
        "import time\nb = bytearray(50 << 20)\nprint('before', flush=True)\ntime.sleep(1e6)";
    let report = bed.judge_within(program, limits).await;
    assert_eq!(report.exit, Exit::Killed(Reason::Wall));
    assert_eq!(text(&report), "before", "what was written before the end is kept");
    assert!(report.wall < Duration::from_millis(2_500));
    let memory = (50 << 20)..(100 << 20);
    assert!(memory.contains(&report.max_rss_bytes), "its memory is told: {report:?}");
    bed.close().await;
}

async fn a_spinner_that_ignores_signals_is_ended_by_its_cpu_time(mut bed: Bed) {
    let program = "import signal
for s in range(1, 32):
    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)
while 1: pass";
    let report = bed.judge_within(program, RunLimits { cpu_ms: 500, ..limits() }).await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
    assert!(report.cpu < Duration::from_millis(1_500), "{:?}", report.cpu);
    assert!(report.max_rss_bytes > 1 << 20, "{report:?}");
    bed.close().await;
}

async fn cpu_time_of_children_counts(mut bed: Bed) {
    let program = "import os, time
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while 1: pass
time.sleep(100)";
    let report = bed.judge_within(program, RunLimits { cpu_ms: 600, ..limits() }).await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
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
    let report = bed.judge("import re; re.match('(a+)+$', 'a' * 40 + 'b')").await;
    assert_eq!(report.exit, Exit::Killed(Reason::Cpu));
    let report = bed.judge("10 ** 10 ** 8").await;
    assert!(report.exit == Exit::Killed(Reason::Cpu) || report.oom, "{report:?}");
    let recursion = "import sys; sys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()";
    let report = bed.judge_within(recursion, RunLimits { cpu_ms: 3_000, ..limits() }).await;
    assert!(report.oom || !matches!(report.exit, Exit::Exited(0)), "{report:?}");
    bed.close().await;
}

async fn raw_bytes_come_back_as_they_are(mut bed: Bed) {
    let report = bed.judge(r"import os; os.write(1, b'\xff\xfe\x00'); os._exit(7)").await;
    assert_eq!((report.exit, report.stdout.as_slice()), (Exit::Exited(7), &b"\xff\xfe\x00"[..]));
    bed.close().await;
}
