//! From a fresh process to the program: limits, user, filter, and `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use flotilla_supervisor::protocol::{File, Limits, Run};
use nix::fcntl::{OFlag, openat};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{self, Gid, Uid};

use super::filter::Filter;
use super::{Failed, Isolation, RUN_UID, Stage as _};

/// Everything that a program's process needs to know.
pub(super) struct Program<'a> {
    pub(super) run: &'a Run,
    pub(super) files: &'a [File],
    pub(super) filter: &'a Filter,
    pub(super) isolation: Isolation,
    /// The program's ends of its standard streams.
    pub(super) streams: [OwnedFd; 3],
}

const WORKING_DIRECTORY: &str = "/tmp";

/// All of a program's environment.
const ENVIRONMENT: [&std::ffi::CStr; 4] = [
    c"PATH=/usr/local/bin:/usr/bin:/bin",
    c"HOME=/tmp",
    c"LANG=C.UTF-8",
    c"PYTHONDONTWRITEBYTECODE=1",
];

impl Program<'_> {
    /// Becomes the program; comes back only when a step fails.
    pub(super) fn exec(&self, cell_proc: &OwnedFd) -> Result<Infallible, Failed> {
        unistd::setsid().stage("setsid")?;
        prefer_to_be_killed(cell_proc)?;
        self.take_streams()?;
        if self.isolation == Isolation::Container {
            drop_root()?;
        }
        self.write_files()?;
        limit(&self.run.limits)?;
        reset_signals()?;
        close_on_exec();
        prctl::set_no_new_privs().stage("no_new_privs")?;
        let argv = c_strings(&self.run.argv)?;
        let program = argv.first().ok_or(nix::errno::Errno::EINVAL).stage("argv")?;
        let refused = |_| nix::errno::Errno::last();
        self.filter.apply().map_err(refused).stage("seccomp")?;
        unistd::execve(program, &argv, &ENVIRONMENT).stage("execve")
    }

    fn take_streams(&self) -> Result<(), Failed> {
        let [stdin, stdout, stderr] = &self.streams;
        unistd::dup2_stdin(stdin).stage("stdin")?;
        unistd::dup2_stdout(stdout).stage("stdout")?;
        unistd::dup2_stderr(stderr).stage("stderr")
    }

    /// The working directory is empty and its only user is the program's, so nothing can be in the
    /// way: `create_new` makes sure.
    fn write_files(&self) -> Result<(), Failed> {
        unistd::chdir(WORKING_DIRECTORY).stage("chdir")?;
        for file in self.files {
            let mut options = std::fs::OpenOptions::new();
            let open = options.write(true).create_new(true).mode(0o644).open(&file.name);
            open.and_then(|mut out| out.write_all(&file.bytes)).stage("write a file")?;
        }
        Ok(())
    }
}

/// The program goes first when memory is short, never the supervisor. Writing it needs a dumpable
/// process; the program's own may not write it again (`/proc` is read-only, or it has no right to
/// lower it).
fn prefer_to_be_killed(cell_proc: &OwnedFd) -> Result<(), Failed> {
    prctl::set_dumpable(true).stage("prctl")?;
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(cell_proc.as_fd(), "self/oom_score_adj", flags, Mode::empty());
    let written = file.and_then(|file| unistd::write(file, b"1000"));
    prctl::set_dumpable(false).stage("prctl")?;
    written.map(drop).stage("oom_score_adj")
}

fn limit(limits: &Limits) -> Result<(), Failed> {
    // The control group is what counts CPU time; this is the second wall, a second later.
    lower(Resource::RLIMIT_CPU, limits.cpu_ms.div_ceil(1_000) + 1)?;
    lower(Resource::RLIMIT_FSIZE, limits.file_bytes)?;
    lower(Resource::RLIMIT_NOFILE, limits.open_files)?;
    lower(Resource::RLIMIT_STACK, limits.stack_bytes)?;
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(Resource::RLIMIT_MSGQUEUE, 256 << 10)?;
    lower(Resource::RLIMIT_MEMLOCK, 64 << 10)
}

/// Sets both limits, or leaves what is stricter already.
fn lower(resource: Resource, value: u64) -> Result<(), Failed> {
    let (_, hard) = getrlimit(resource).stage("getrlimit")?;
    let value = value.min(hard);
    setrlimit(resource, value, value).stage(&format!("{resource:?}"))
}

#[allow(unsafe_code, reason = "setting a signal's disposition is unsafe for what handlers may do")]
fn reset_signals() -> Result<(), Failed> {
    for number in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default disposition installs no handler.
        unsafe { signal(number, SigHandler::SigDfl) }.stage("signal")?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).stage("sigprocmask")
}

pub(super) fn drop_root() -> Result<(), Failed> {
    let (uid, gid) = (Uid::from_raw(RUN_UID), Gid::from_raw(RUN_UID));
    unistd::setgroups(&[]).stage("setgroups")?;
    unistd::setresgid(gid, gid, gid).stage("setresgid")?;
    unistd::setresuid(uid, uid, uid).stage("setresuid")
}

/// Every descriptor of ours is close-on-exec already; this holds for those nobody thought of, on
/// kernels that have the call (5.11).
#[allow(unsafe_code, reason = "the system call has no wrapper")]
fn close_on_exec() {
    // SAFETY: three integers; no memory is involved, and nothing is closed before `execve`.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

fn c_strings(arguments: &[String]) -> Result<Vec<CString>, Failed> {
    let convert = |text: &String| CString::new(text.as_str());
    let strings: Result<_, _> = arguments.iter().map(convert).collect();
    strings.map_err(|_| nix::errno::Errno::EINVAL).stage("argv")
}
