//! What a program writes, and what is left of it.

use flotilla_sandbox::{Exit, Isolation, RunLimits};

use crate::CTYPES;
use crate::common::{Bed, limits, text};

crate::in_both_modes! {
    a_full_tmp_is_the_programs_error
    a_million_files_are_the_programs_error
    a_sparse_file_is_the_programs_error
    nothing_can_be_written_elsewhere
    nothing_is_left_for_the_next_run
    a_deep_tree_and_odd_names_are_gone_for_the_next_run
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
    let report = bed.judge("open('/tmp/sparse', 'wb').truncate(1 << 50)").await;
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
    let report = bed.judge_within(program, RunLimits { cpu_ms: 3_000, ..limits() }).await;
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
    assert_eq!(text(&report), "[['main.py'], [], []]\n-1 -1 -1 -1", "{report:?}");
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
    assert_eq!(text(&bed.judge("import os; print(os.listdir('/tmp'))").await), "['main.py']");
    bed.close().await;
}
