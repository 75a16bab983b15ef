//! A cell in use.

use std::sync::Arc;

use flotilla_supervisor::protocol::{File, Reply, Request, Run};

use crate::SandboxError;
use crate::asked::{check_files, check_run};
use crate::container::Container;
use crate::exchange::{Fit, Outcome, exchange, surprise};
use crate::pool::{Lease, Pool};
use crate::report::Report;

/// A cell, held by one submission of one tenant. Give it back with [`Cell::finish`]; dropped
/// without that (a cancelled job, a panic), its container is killed and removed.
#[derive(Debug)]
pub struct Cell {
    pool: Arc<Pool>,
    tenant: String,
    container: Option<Container>,
    /// What a container that takes the place of a stuck one must be given first.
    files: Vec<File>,
    runs: u64,
    /// Something happened after which the container serves no other submission.
    spent: bool,
    /// The container was stuck and is removed; the next run gets another.
    replace: bool,
    _lease: Lease,
}

impl Cell {
    pub(crate) fn new(pool: Arc<Pool>, tenant: &str, container: Container, lease: Lease) -> Self {
        let (tenant, container) = (tenant.into(), Some(container));
        let (files, runs, spent, replace) = (Vec::new(), 0, false, false);
        Self { pool, tenant, container, files, runs, spent, replace, _lease: lease }
    }

    /// Gives the cell the files of a submission, in place of any before. Every run finds fresh
    /// copies of them in its working directory.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] for names that are not plain or more than 16 MiB together;
    /// otherwise the cell is lost, and another may do.
    pub async fn load(&mut self, files: &[File]) -> Result<(), SandboxError> {
        check_files(files)?;
        self.files = files.to_vec();
        if self.replace {
            // The next run loads them.
            return Ok(());
        }
        let mut container = self.hold()?;
        fill(&mut container, &self.files).await?;
        self.container = Some(container);
        Ok(())
    }

    /// Runs a program to its end. The cell watches the limits; the host's own clock ends what the
    /// cell does not. A cell that is stuck although the engine works counts as a program that was
    /// ended by the clock ([`crate::Reason::Wall`]); the next run then gets another container, with
    /// the same files.
    ///
    /// A cell in which the kernel killed for want of memory serves its submission to the end, and
    /// is then removed.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] for a run that no cell takes. [`SandboxError::EngineUnreachable`]
    /// when an engine that stalls leaves it open how the program would have ended. After any error
    /// but `Invalid` the cell is lost and removed; another may do.
    pub async fn run(&mut self, run: &Run) -> Result<Report, SandboxError> {
        check_run(run)?;
        if self.replace {
            self.container = Some(self.another().await?);
            (self.replace, self.spent) = (false, false);
        }
        self.runs += 1;
        let mut container = self.hold()?;
        match exchange(&self.pool.engine, &mut container, self.runs, run).await? {
            Outcome::Told(report, Fit(fit)) => {
                self.container = Some(container);
                self.spent |= !fit;
                Ok(report)
            }
            Outcome::Stuck(report) => {
                tracing::warn!(cell = container.name(), "a cell did not end a run; it is removed");
                self.replace = true;
                container.remove().await;
                Ok(report)
            }
        }
    }

    /// Gives the cell back. It serves the same tenant again, or is removed (before this returns).
    pub async fn finish(mut self) {
        match self.container.take() {
            Some(container) if self.spent => {
                container.remove().await;
                self.pool.refill.notify_one();
            }
            Some(container) => self.pool.give_back(container).await,
            None => self.pool.refill.notify_one(),
        }
    }

    /// Takes the container out for the time of one exchange: a future that is dropped in the middle
    /// of it drops the container with it, and what was not read cannot be taken for the next answer.
    fn hold(&mut self) -> Result<Container, SandboxError> {
        let gone = || SandboxError::CellDied {
            doing: "idle: it was lost in an earlier run",
            last_words: String::new(),
        };
        self.container.take().ok_or_else(gone)
    }

    /// A container for the rest of this submission. The lease stands for any one container.
    async fn another(&mut self) -> Result<Container, SandboxError> {
        let mut container = self.pool.container(&self.tenant).await?;
        fill(&mut container, &self.files).await?;
        Ok(container)
    }
}

/// Loads files into a container, in place of any before.
async fn fill(container: &mut Container, files: &[File]) -> Result<(), SandboxError> {
    container.submissions += 1;
    let request = Request::Load { files: files.to_vec() };
    match container.ask(&request, "taking files").await? {
        Reply::Loaded => Ok(()),
        other => Err(surprise(&other)),
    }
}
