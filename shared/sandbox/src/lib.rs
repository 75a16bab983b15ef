//! Untrusted programs in Docker cells.
//!
//! A [`Sandbox`] keeps a pool of *cells*: containers without network, capabilities or anything to
//! write to, started ahead, each with a supervisor as its PID 1. A [`Cell`] is taken for one
//! submission and serves one tenant all its life. Every [`Cell::run`] gets surroundings of its own
//! (see [`Isolation`]), of which nothing is left when it is over.
//!
//! Known: a program can read the names (not the content) of the host's directories that hold the
//! image's layers, in `/proc/self/mountinfo`.
//!
//! A [`Builder`] is the second door: a fresh container for one build, with a disk and more time.
//!
//! What a program does, however bad, is a [`Report`]. A [`SandboxError`] is always about us.
//!
//! ```no_run
//! use flotilla_sandbox::{Exit, File, Run, RunLimits, Sandbox, SandboxConfig, SandboxError};
//!
//! # async fn example() -> Result<(), SandboxError> {
//! let sandbox = Sandbox::connect(SandboxConfig::default()).await?;
//! let mut cell = sandbox.cell("a-school").await?;
//! cell.load(&[File { name: "main.py".into(), bytes: b"print(input())".to_vec() }]).await?;
//! let report = cell
//!     .run(&Run {
//!         argv: vec!["/usr/bin/python3".into(), "main.py".into()],
//!         stdin: b"hello\n".to_vec(),
//!         limits: RunLimits::default(),
//!     })
//!     .await?;
//! assert_eq!((report.exit, report.stdout), (Exit::Exited(0), b"hello\n".to_vec()));
//! cell.finish().await;
//! sandbox.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod asked;
mod builder;
mod cell;
mod config;
mod container;
mod engine;
mod error;
mod exchange;
mod keeper;
mod link;
mod owner;
mod pool;
mod profile;
mod report;

use std::sync::Arc;
use std::time::Duration;

pub use asked::{MAX_STDERR_BYTES, MAX_STDOUT_BYTES};
pub use builder::{Build, BuildLimits, Builder, Built, Ending, Started};
pub use cell::Cell;
pub use config::{CellLimits, Isolation, SandboxConfig};
pub use error::SandboxError;
pub use flotilla_supervisor::protocol::{File, Limits as RunLimits, Run};
pub use report::{Exit, Reason, Report};

use pool::Pool;
use tokio_util::sync::DropGuard;

/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// A pool of cells on a Docker engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pool: Arc<Pool>,
    /// Closes the pool when the last clone is gone; cells still in use are then not taken back.
    _open: Arc<DropGuard>,
}

impl Sandbox {
    /// Connects to the engine and proves that cells work on it by making a first one. Removes what
    /// dead workers left there.
    ///
    /// # Errors
    /// [`SandboxError::EngineUnreachable`], [`SandboxError::ImageMissing`] or
    /// [`SandboxError::NamespacesForbidden`], each with what to do about it.
    pub async fn connect(config: SandboxConfig) -> Result<Self, SandboxError> {
        let engine = engine::Engine::connect(config.docker_host.as_deref()).await?;
        let image_id = engine.image_id(&config.image).await?;
        keeper::remove_orphans(&engine).await?;
        let pool = Arc::new(Pool::new(config, engine, image_id));
        if let Some(slot) = pool.slot() {
            let first = pool.create(slot).await?;
            pool.add(first);
        }
        keeper::start(&pool);
        let open = pool.closed.clone().drop_guard();
        Ok(Self { pool, _open: Arc::new(open) })
    }

    /// Whether the engine answers, within 3 s.
    ///
    /// # Errors
    /// [`SandboxError::EngineUnreachable`] when it does not.
    pub async fn check(&self) -> Result<(), SandboxError> {
        self.pool.engine.ping().await
    }

    /// A cell for a tenant: one that served it before, a warm one that served nobody, or a new one.
    /// Waits while [`SandboxConfig::max_cells`] are in use.
    ///
    /// # Errors
    /// Those of making a container; all but a missing image are transient.
    pub async fn cell(&self, tenant: &str) -> Result<Cell, SandboxError> {
        let (container, lease) = self.pool.take(tenant).await?;
        Ok(Cell::new(Arc::clone(&self.pool), tenant, container, lease))
    }

    /// The id of the cells' image (a digest), for records.
    #[must_use]
    pub fn image_id(&self) -> &str {
        &self.pool.image_id
    }

    /// Removes every cell of this sandbox, those in use too, and makes no more.
    pub async fn shutdown(&self) {
        self.pool.closed.cancel();
        let all = async {
            self.pool.drain().await;
            keeper::remove_all_of(&self.pool).await
        };
        match tokio::time::timeout(SHUTDOWN, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cells may be left; a later sweep removes them")
            }
            Err(_) => tracing::warn!("cells may be left; a later sweep removes them"),
        }
    }
}
