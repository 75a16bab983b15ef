//! One run at a time: `serve` talks to the host, `run` supervises, `spawn` makes the processes,
//! `surroundings` and `program` are what happens in them.

mod capture;
mod cgroup;
mod filter;
mod host;
mod memory;
mod program;
mod run;
mod serve;
mod spawn;
mod surroundings;
mod wipe;

pub(crate) use serve::serve;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The user of a run, inside its user namespace or (container mode) in the container.
const RUN_UID: u32 = 1000;

/// How runs are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Fresh namespaces for each.
    Namespaces,
    /// Kill and wipe after each.
    Container,
}

/// A step of ours that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failed {
    stage: String,
    errno: i32,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.stage, Errno::from_raw(self.errno))
    }
}

/// Names the step that a result belongs to.
trait Stage<T> {
    fn stage(self, name: &str) -> Result<T, Failed>;
}

impl<T> Stage<T> for nix::Result<T> {
    fn stage(self, name: &str) -> Result<T, Failed> {
        self.map_err(|errno| Failed { stage: name.into(), errno: errno as i32 })
    }
}

impl<T> Stage<T> for std::io::Result<T> {
    fn stage(self, name: &str) -> Result<T, Failed> {
        let errno = |e: std::io::Error| e.raw_os_error().unwrap_or(0);
        self.map_err(|e| Failed { stage: name.into(), errno: errno(e) })
    }
}
