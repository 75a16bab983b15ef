//! What a [`crate::Sandbox`] is asked to be.

use std::str::FromStr;
use std::time::Duration;

/// How runs inside a cell are kept apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Fresh Linux namespaces and file systems for every run, inside a container without any
    /// capability. Needs a host that allows unprivileged user namespaces.
    #[default]
    Namespaces,
    /// The container alone: every cell serves one submission, and between its runs everything is
    /// killed and wiped.
    Container,
}

impl Isolation {
    /// The name that [`FromStr`] takes and the supervisor knows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Container => "container",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "namespaces" => Ok(Self::Namespaces),
            "container" => Ok(Self::Container),
            other => Err(format!("{other:?} is no isolation: use `namespaces` or `container`")),
        }
    }
}

/// Limits of a whole cell, fixed when it is created. Limits of a run are
/// [`crate::RunLimits`].
#[derive(Debug, Clone, PartialEq)]
pub struct CellLimits {
    /// Memory of everything in the cell, `/tmp` included, in bytes; there is no swap.
    pub memory_bytes: u64,
    /// Processes and threads in the cell; the supervisor takes two of them.
    pub pids: u32,
    /// Processors, as a fraction.
    pub cpus: f64,
    /// Size of `/tmp` in container mode, in bytes.
    pub tmp_bytes: u64,
    /// Files in `/tmp` in container mode.
    pub tmp_inodes: u64,
    /// Size of `/dev/shm` in container mode, in bytes.
    pub shm_bytes: u64,
}

impl Default for CellLimits {
    fn default() -> Self {
        let run = crate::RunLimits::default();
        Self {
            memory_bytes: 256 << 20,
            pids: 64,
            cpus: 1.0,
            tmp_bytes: run.tmp_bytes,
            tmp_inodes: run.tmp_inodes,
            shm_bytes: run.shm_bytes,
        }
    }
}

/// How [`crate::Sandbox::connect`] sets up.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxConfig {
    /// The engine's address (`unix:///…`); without one that of `DOCKER_HOST`, else the local socket.
    pub docker_host: Option<String>,
    /// The image of the cells; it must be on the engine already.
    pub image: String,
    /// How runs are kept apart.
    pub isolation: Isolation,
    /// The name of this worker, put on every container as the label `flotilla.worker`.
    pub worker_id: String,
    /// Cells kept ready that no tenant has used yet.
    pub warm: usize,
    /// Cells at any time, those in use and those kept warm together. At least 1.
    pub max_cells: usize,
    /// Limits of each cell.
    pub cell: CellLimits,
    /// A cell is removed after this many [`crate::Cell::load`]s. In container mode it is 1.
    pub max_submissions_per_cell: u32,
    /// A cell is removed when it is idle and older than this.
    pub max_cell_age: Duration,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            docker_host: None,
            image: "flotilla-python3:latest".into(),
            isolation: Isolation::default(),
            worker_id: "local".into(),
            warm: 2,
            max_cells: 4,
            cell: CellLimits::default(),
            max_submissions_per_cell: 50,
            max_cell_age: Duration::from_secs(15 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_is_read_by_the_name_it_shows() {
        for mode in [Isolation::Namespaces, Isolation::Container] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("Namespaces".parse::<Isolation>().unwrap_err().contains("`namespaces`"));
    }
}
