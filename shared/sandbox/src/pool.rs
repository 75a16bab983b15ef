//! The cells that exist: a bounded number, some of them idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::container::{Container, Slot};
use crate::engine::Engine;
use crate::{Isolation, SandboxConfig, SandboxError, profile};

/// A waiter looks again after this long, even if nobody told it of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Everything that a sandbox and its cells share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) config: SandboxConfig,
    pub(crate) engine: Engine,
    pub(crate) image_id: String,
    /// A name of its own, put on its containers.
    pub(crate) id: String,
    /// Ends the background work, and everybody who waits.
    pub(crate) closed: CancellationToken,
    /// Told when a cell came back to the pool or a slot became free.
    changed: Arc<Notify>,
    /// Told when the pool may need another warm cell.
    pub(crate) refill: Notify,
    /// One permit for each cell in use. As many as there are slots, so that whoever has one finds
    /// an idle cell or a slot, or an idle cell to put away.
    leases: Arc<Semaphore>,
    /// One permit for each container, whatever its state.
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Container>>,
}

/// The right to use one cell.
pub(crate) type Lease = OwnedSemaphorePermit;

impl Pool {
    pub(crate) fn new(config: SandboxConfig, engine: Engine, image_id: String) -> Self {
        let cells = config.max_cells.max(1);
        Self {
            config,
            engine,
            image_id,
            id: uuid::Uuid::new_v4().to_string(),
            closed: CancellationToken::new(),
            changed: Arc::default(),
            refill: Notify::new(),
            leases: Arc::new(Semaphore::new(cells)),
            slots: Arc::new(Semaphore::new(cells)),
            idle: Mutex::default(),
        }
    }

    /// A container that answers, for a tenant, and the lease it is used under.
    pub(crate) async fn take(&self, tenant: &str) -> Result<(Container, Lease), SandboxError> {
        let lease = tokio::select! {
            () = self.closed.cancelled() => return Err(SandboxError::ShutDown),
            lease = Arc::clone(&self.leases).acquire_owned() => lease,
        };
        let lease = lease.map_err(|_| SandboxError::ShutDown)?;
        Ok((self.container(tenant).await?, lease))
    }

    /// A container that answers, for a tenant whose lease has none: one it used before, else one
    /// nobody used, else a new one.
    pub(crate) async fn container(&self, tenant: &str) -> Result<Container, SandboxError> {
        tokio::select! {
            () = self.closed.cancelled() => Err(SandboxError::ShutDown),
            container = self.container_while_open(tenant) => container,
        }
    }

    async fn container_while_open(&self, tenant: &str) -> Result<Container, SandboxError> {
        loop {
            let changed = self.changed.notified();
            if let Some(cell) = self.idle_for(tenant).await {
                self.refill.notify_one();
                return Ok(cell);
            }
            if let Some(slot) = self.slot() {
                let mut cell = self.create(slot).await?;
                cell.tenant = Some(tenant.into());
                return Ok(cell);
            }
            self.evict();
            let _again = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    async fn idle_for(&self, tenant: &str) -> Option<Container> {
        while let Some(mut cell) = self.pick(tenant) {
            if cell.answers().await {
                cell.tenant = Some(tenant.into());
                return Some(cell);
            }
            tracing::warn!(cell = cell.name(), "an idle cell does not answer any more");
        }
        None
    }

    fn pick(&self, tenant: &str) -> Option<Container> {
        let mut idle = self.idle();
        let own = idle.iter().rposition(|cell| cell.tenant.as_deref() == Some(tenant));
        let at = own.or_else(|| idle.iter().position(|cell| cell.tenant.is_none()))?;
        Some(idle.remove(at))
    }

    /// Puts away the cell that has been idle for longest; dropping removes it in the background.
    fn evict(&self) {
        let mut idle = self.idle();
        if !idle.is_empty() {
            let oldest = idle.remove(0);
            drop(idle);
            drop(oldest);
        }
    }

    /// The right to another container, if there is one.
    pub(crate) fn slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot { permit, changed: Arc::clone(&self.changed) })
    }

    /// A new cell, of no tenant yet.
    pub(crate) async fn create(&self, slot: Slot) -> Result<Container, SandboxError> {
        let body = profile::container(&self.config, &self.image_id, &self.id, self.engine.apparmor);
        Container::start(&self.engine, body, slot).await
    }

    /// Takes a cell back, or removes it when it has served enough.
    pub(crate) async fn give_back(&self, cell: Container) {
        if self.closed.is_cancelled() || self.is_spent(&cell) {
            cell.remove().await;
        } else {
            self.add(cell);
        }
        self.refill.notify_one();
    }

    /// Adds an idle cell.
    pub(crate) fn add(&self, cell: Container) {
        self.idle().push(cell);
        self.changed.notify_waiters();
    }

    fn is_spent(&self, cell: &Container) -> bool {
        let most = match self.config.isolation {
            Isolation::Namespaces => self.config.max_submissions_per_cell,
            Isolation::Container => 1,
        };
        cell.submissions >= most || self.is_old(cell)
    }

    fn is_old(&self, cell: &Container) -> bool {
        Instant::now() - cell.born >= self.config.max_cell_age
    }

    /// Cells that wait for their first tenant.
    pub(crate) fn unassigned(&self) -> usize {
        self.idle().iter().filter(|cell| cell.tenant.is_none()).count()
    }

    /// Removes the idle cells that are too old.
    pub(crate) async fn retire_old(&self) {
        let old: Vec<_> = self.idle().extract_if(.., |cell| self.is_old(cell)).collect();
        join_all(old.into_iter().map(Container::remove)).await;
    }

    /// Removes all idle cells.
    pub(crate) async fn drain(&self) {
        let idle = std::mem::take(&mut *self.idle());
        join_all(idle.into_iter().map(Container::remove)).await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Container>> {
        // Nothing panics while it holds the lock, and a list of cells has no broken state.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
