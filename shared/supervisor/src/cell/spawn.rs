//! The processes of a run: the first one in its namespaces, which waits for the program's.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use flotilla_supervisor::protocol::{File, Run};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::program::Program;
use super::surroundings::{self, Owner};
use super::{Failed, Isolation, Stage as _};

/// What the processes of a run tell the supervisor, a line of JSON each, on a pipe that the program
/// does not have.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// The program ended: its status as `wait4` gives it, and its largest resident set in bytes.
    Ended { status: i32, max_rss_bytes: u64 },
    /// It never started.
    Failed(Failed),
}

/// A run that was started, with the supervisor's ends of its pipes, none of which blocks.
pub(super) struct Spawned {
    pub(super) init: Pid,
    pub(super) status: OwnedFd,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts a run.
pub(super) fn spawn(
    isolation: Isolation,
    owner: Owner,
    filter: &Filter,
    files: &[File],
    run: &Run,
) -> Result<Spawned, Failed> {
    let (stdin, their_stdin) = pipe(Flow::ToProgram)?;
    let (stdout, their_stdout) = pipe(Flow::FromProgram)?;
    let (stderr, their_stderr) = pipe(Flow::FromProgram)?;
    let (status, their_status) = pipe(Flow::FromProgram)?;
    match clone(isolation)? {
        Some(init) => Ok(Spawned { init, status, stdin, stdout, stderr }),
        None => {
            // As long as anybody holds the writing end, the program's input has no end.
            drop((stdin, stdout, stderr, status));
            let streams = [their_stdin, their_stdout, their_stderr];
            first(owner, their_status, Program { run, files, filter, isolation, streams })
        }
    }
}

#[derive(PartialEq)]
enum Flow {
    ToProgram,
    FromProgram,
}

/// Our end, which does not block, and theirs, which does.
fn pipe(flow: Flow) -> Result<(OwnedFd, OwnedFd), Failed> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).stage("pipe")?;
    let (ours, theirs) = if flow == Flow::ToProgram { (writer, reader) } else { (reader, writer) };
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).stage("pipe")?;
    Ok((ours, theirs))
}

/// Forks into the namespaces of a run, if it gets any. `None` in the child.
#[allow(unsafe_code, reason = "no wrapper forks into new namespaces in one step")]
fn clone(isolation: Isolation) -> Result<Option<Pid>, Failed> {
    let namespaces = match isolation {
        Isolation::Container => 0,
        Isolation::Namespaces => {
            libc::CLONE_NEWUSER
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWCGROUP
        }
    };
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and without a stack this is `fork`: the child has its own copy of
    // everything, and there is one thread only, so no lock is held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let pid = Errno::result(pid).stage("make the run's namespaces")?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// The first process of a run: pid 1 of its namespace, where its end is the end of all. It waits
/// for the program and for whatever becomes its child, says how the program ended, and exits.
fn first(owner: Owner, status: OwnedFd, program: Program<'_>) -> ! {
    let told = match start(owner, &status, program) {
        Ok(main) => wait_for(main),
        Err(failed) => Status::Failed(failed),
    };
    tell(&status, &told);
    exit()
}

#[allow(unsafe_code, reason = "a forked child must fork again")]
fn start(owner: Owner, status: &OwnedFd, program: Program<'_>) -> Result<Pid, Failed> {
    let cell_proc = match program.isolation {
        Isolation::Namespaces => surroundings::enter(owner, &program.run.limits)?,
        Isolation::Container => {
            open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).stage("open /proc")?
        }
    };
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.stage("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let Err(failed) = program.exec(&cell_proc);
            tell(status, &Status::Failed(failed));
            exit()
        }
    }
}

#[allow(unsafe_code, reason = "nix has no wait4, and only that gives the resident set")]
fn wait_for(main: Pid) -> Status {
    loop {
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both pointers are to memory of ours of the right type, for the time of the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, 0, usage.as_mut_ptr()) };
        if pid == main.as_raw() {
            // SAFETY: all zero is a valid value of this struct of integers, and wait4 filled it.
            let usage = unsafe { usage.assume_init() };
            let max_rss_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
            return Status::Ended { status, max_rss_bytes };
        }
        if pid < 0 && Errno::last() != Errno::EINTR {
            return Status::Failed(Failed { stage: "wait4".into(), errno: Errno::last_raw() });
        }
    }
}

/// A line far smaller than what a pipe takes at once.
fn tell(status: &OwnedFd, told: &Status) {
    let mut line = serde_json::to_vec(told).unwrap_or_default();
    line.push(b'\n');
    if let Ok(fd) = status.try_clone() {
        // If nobody reads any more there is nobody to tell.
        let _ = std::fs::File::from(fd).write_all(&line);
    }
}

#[allow(unsafe_code, reason = "a forked child must not run its parent's exit handlers")]
fn exit() -> ! {
    // SAFETY: ends this process; touches nothing of it.
    unsafe { libc::_exit(0) }
}
