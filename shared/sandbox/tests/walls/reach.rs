//! What a program sees and reaches beside itself.

use std::time::Duration;

use flotilla_sandbox::{Exit, Isolation};

use crate::common::{Bed, text};

crate::in_both_modes! {
    a_daemon_that_holds_stdout_dies_with_its_program
    killing_everybody_and_pid_1_hurts_nobody_else
    the_environment_tells_nothing
    no_network_is_reachable
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
    assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "done"));
    assert!(report.wall < Duration::from_secs(5));
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
    assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "alive"));
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
    assert!(lines.ends_with(name) && lines.lines().count() <= 5, "{lines}");
    let resolvers = lines.lines().filter(|line| line.contains("nameserver"));
    assert!(resolvers.clone().all(|line| line.contains("127.0.0.1")), "{lines}");
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
    assert_eq!((report.exit, text(&report).as_str()), (Exit::Exited(0), "start"), "{report:?}");
    bed.close().await;
}

/// Only fresh namespaces can promise this.
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
