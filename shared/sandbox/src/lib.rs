//! Untrusted programs in Docker cells.

mod config;
mod error;
mod report;

pub use config::{CellLimits, Isolation, SandboxConfig};
pub use error::SandboxError;
pub use flotilla_supervisor::protocol::{File, Limits as RunLimits, Run};
pub use report::{Exit, Reason, Report};

/// A pool of cells on a Docker engine.
#[derive(Debug, Clone)]
pub struct Sandbox {
    image_id: String,
}

/// A cell, held for one submission.
#[derive(Debug)]
pub struct Cell {}

fn unready<T>() -> Result<T, SandboxError> {
    Err(SandboxError::Protocol("not there yet".into()))
}

impl Sandbox {
    /// Connects and checks.
    pub async fn connect(_config: SandboxConfig) -> Result<Self, SandboxError> {
        unready()
    }
    /// Whether the engine answers.
    pub async fn check(&self) -> Result<(), SandboxError> {
        unready()
    }
    /// A cell for a tenant.
    pub async fn cell(&self, _tenant: &str) -> Result<Cell, SandboxError> {
        unready()
    }
    /// The image's digest.
    pub fn image_id(&self) -> &str {
        &self.image_id
    }
    /// Removes every cell of ours.
    pub async fn shutdown(&self) {}
}

impl Cell {
    /// Loads files.
    pub async fn load(&mut self, _files: &[File]) -> Result<(), SandboxError> {
        unready()
    }
    /// Runs.
    pub async fn run(&mut self, _run: &Run) -> Result<Report, SandboxError> {
        unready()
    }
    /// Gives the cell back.
    pub async fn finish(self) {}
}
