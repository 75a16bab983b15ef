//! The messages: [`Request`] from the host to the cell, [`Reply`] back.
//!
//! A cell says [`Reply::Ready`] once (or [`Reply::Unsupported`] and exits), then answers one
//! request at a time. End of file on its standard input ends the cell, whatever it is doing.

use serde::{Deserialize, Serialize};

/// What the host asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Replaces the files that every following run finds in its working directory. Answered by
    /// [`Reply::Loaded`].
    Load {
        /// The files; an empty list takes all away.
        files: Vec<File>,
    },
    /// Runs one program in fresh surroundings. Answered by [`Reply::Report`] or
    /// [`Reply::SetupFailed`].
    Run {
        /// A number of the host's choice; the answer repeats it.
        id: u64,
        /// What to run.
        run: Run,
    },
    /// Ends the run of that number now. Not answered itself (the run's report is), and ignored when
    /// that run is over already.
    Kill {
        /// The number given in [`Request::Run`].
        id: u64,
    },
    /// Answered by [`Reply::Pong`].
    Ping,
}

/// A file for the working directory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A single path component, see [`safe_name`].
    pub name: String,
    /// The content.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

/// A program and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The absolute path of the program, then its arguments. No shell is involved.
    pub argv: Vec<String>,
    /// Its standard input.
    #[serde(with = "base64_bytes")]
    pub stdin: Vec<u8>,
    /// Its limits.
    pub limits: Limits,
}

/// What a run may use. Memory and the number of processes are limits of the whole cell and not
/// here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time of all of the run's processes together, in milliseconds.
    pub cpu_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_ms: u64,
    /// Standard output kept, in bytes; a program that writes more is killed.
    pub stdout_bytes: u64,
    /// Standard error kept, in bytes; what is written after that is read and forgotten, and
    /// a program that writes [`STDERR_FLOOD`] times as much is killed.
    pub stderr_bytes: u64,
    /// Size of `/tmp`, in bytes. In container mode this is fixed when the cell is created.
    pub tmp_bytes: u64,
    /// Files and directories in `/tmp`. In container mode fixed when the cell is created.
    pub tmp_inodes: u64,
    /// Size of `/dev/shm`, in bytes. In container mode fixed when the cell is created.
    pub shm_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Size of one file that the program writes, in bytes.
    pub file_bytes: u64,
    /// Stack of the main thread, in bytes.
    pub stack_bytes: u64,
}

/// A program whose standard error is this many times what is kept of it is killed.
pub const STDERR_FLOOD: u64 = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_ms: 2_000,
            wall_ms: 6_000,
            stdout_bytes: 1 << 20,
            stderr_bytes: 64 << 10,
            tmp_bytes: 32 << 20,
            tmp_inodes: 4_096,
            shm_bytes: 16 << 20,
            open_files: 256,
            file_bytes: 32 << 20,
            stack_bytes: 8 << 20,
        }
    }
}

/// What the cell answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The first message of a cell that works.
    Ready {
        /// [`crate::PROTOCOL_VERSION`] of the supervisor.
        version: u32,
        /// How runs are kept apart: `namespaces` or `container`.
        isolation: String,
        /// Where CPU time and out-of-memory kills are read: `v1`, `v2`, or `none`.
        cgroup: String,
    },
    /// The only message of a cell that cannot work here; it exits.
    Unsupported {
        /// It is the namespaces that this host does not allow; container mode may work.
        namespaces: bool,
        /// What failed, for an operator.
        why: String,
    },
    /// The files of [`Request::Load`] are there.
    Loaded,
    /// The answer to [`Request::Ping`].
    Pong,
    /// A run is over.
    Report {
        /// The number given in [`Request::Run`].
        id: u64,
        /// How it went.
        report: Report,
    },
    /// A run never started. The program is not to blame.
    SetupFailed {
        /// The number given in [`Request::Run`].
        id: u64,
        /// The step that failed.
        stage: String,
        /// The `errno` of that step, 0 when there is none.
        errno: i32,
    },
}

/// How a run went, as the cell saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub exit: Exit,
    /// Standard output, at most the limit.
    #[serde(with = "base64_bytes")]
    pub stdout: Vec<u8>,
    /// There was more than the limit.
    pub stdout_truncated: bool,
    /// The first part of standard error, at most the limit.
    #[serde(with = "base64_bytes")]
    pub stderr: Vec<u8>,
    /// There was more than the limit.
    pub stderr_truncated: bool,
    /// CPU time of everything in the cell during the run, in microseconds.
    pub cpu_us: u64,
    /// Time from the start of the run to its end, in microseconds.
    pub wall_us: u64,
    /// The largest resident set of the program's own process, in bytes. For a run that was killed,
    /// that of any process alive just before; 0 where there was none to look at.
    pub max_rss_bytes: u64,
    /// Processes of the cell that the kernel killed for want of memory during the run.
    pub oom_kills: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It was ended for this.
    Killed(Reason),
    /// Its surroundings ended with it, and how it ended was never told. Judge it as a crash of the
    /// program.
    Vanished,
}

/// Why a program was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Its CPU time was used up.
    Cpu,
    /// Its time on the clock was up.
    Wall,
    /// It wrote more than it may.
    Output,
    /// The host asked for it.
    Host,
}

/// Whether a name may be used for a file in a run's working directory: 1 to 100 characters of
/// `A-Z a-z 0-9 . _ -`, not starting with a dot.
#[must_use]
pub fn safe_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Bytes as base64 text in JSON.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&base64::display::Base64Display::new(bytes, &STANDARD))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_as_base64_whatever_they_are() {
        let file = File { name: "a".into(), bytes: vec![0, 0xff, b'\n'] };
        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(json, r#"{"name":"a","bytes":"AP8K"}"#);
        assert_eq!(serde_json::from_str::<File>(&json).unwrap(), file);
        assert!(serde_json::from_str::<File>(r#"{"name":"a","bytes":"%"}"#).is_err());
    }

    #[test]
    fn only_a_plain_component_is_a_safe_name() {
        assert!(safe_name("main.py") && safe_name("A_1-b"));
        let long = "a".repeat(101);
        for bad in ["", ".", "..", "../a", "a/b", "a\nb", "a\0", "é", ".bashrc", &long] {
            assert!(!safe_name(bad), "{bad:?}");
        }
    }
}
