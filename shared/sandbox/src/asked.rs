//! What a cell is asked for, checked before it is sent.

use flotilla_supervisor::frame;
use flotilla_supervisor::protocol::{File, Run, safe_name};

use crate::{RunLimits, SandboxError};

/// The most of a submission's files together, or of a run's input, in bytes.
const MOST_IN: usize = 16 << 20;
/// The most that [`RunLimits::stdout_bytes`] may be, in bytes (16 MiB); a run that asks for more is
/// [`SandboxError::Invalid`].
pub const MAX_STDOUT_BYTES: u64 = 16 << 20;
/// The most that [`RunLimits::stderr_bytes`] may be, in bytes (4 MiB); a run that asks for more is
/// [`SandboxError::Invalid`].
pub const MAX_STDERR_BYTES: u64 = 4 << 20;
/// Both travel in one frame, as base64, with a little around them.
const _: () = assert!(
    (MAX_STDOUT_BYTES + MAX_STDERR_BYTES).div_ceil(3) * 4 + 4_096 <= frame::MAX_FRAME as u64
);
/// The longest argument, in bytes; the kernel's own limit counts the NUL after it.
const LONGEST_ARGUMENT: u64 = (128 << 10) - 1;
/// The most of all arguments together, in bytes, a pointer to each included.
const MOST_ARGUMENTS: u64 = 1 << 20;
/// The longest run, in milliseconds.
const LONGEST: u64 = 60 * 60 * 1000;

pub(crate) fn check_files(files: &[File]) -> Result<(), SandboxError> {
    if let Some(file) = files.iter().find(|file| !safe_name(&file.name)) {
        return Err(SandboxError::Invalid(format!("{:?} is not a plain file name", file.name)));
    }
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    at_most("the files together", total as u64, MOST_IN as u64)
}

pub(crate) fn check_run(run: &Run) -> Result<(), SandboxError> {
    let absolute = run.argv.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || run.argv.iter().any(|argument| argument.contains('\0')) {
        let argv = run.argv.first();
        return Err(SandboxError::Invalid(format!(
            "the program must be an absolute path, its arguments without NUL bytes: {argv:?}"
        )));
    }
    let RunLimits { cpu_ms, wall_ms, stdout_bytes, stderr_bytes, .. } = run.limits;
    check_sizes(&run.argv)?;
    at_most("the input", run.stdin.len() as u64, MOST_IN as u64)?;
    at_most("the limit of the output", stdout_bytes, MAX_STDOUT_BYTES)?;
    at_most("the limit of the error output", stderr_bytes, MAX_STDERR_BYTES)?;
    at_most("the limit of the time, in ms,", cpu_ms.max(wall_ms), LONGEST)
}

/// The kernel takes no longer argument, and the lot must fit beside the stack.
fn check_sizes(argv: &[String]) -> Result<(), SandboxError> {
    let longest = argv.iter().map(String::len).max().unwrap_or(0) as u64;
    at_most("the longest argument", longest, LONGEST_ARGUMENT)?;
    at_most("the arguments together", argv.iter().map(|a| a.len() as u64 + 9).sum(), MOST_ARGUMENTS)
}

fn at_most(what: &str, value: u64, most: u64) -> Result<(), SandboxError> {
    match value <= most {
        true => Ok(()),
        false => Err(SandboxError::Invalid(format!("{what} is {value}, at most {most} are taken"))),
    }
}
