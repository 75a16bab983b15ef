//! Work in the background: warm cells, and no orphans.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::ContainerSummary;
use futures::future::join_all;

use crate::SandboxError;
use crate::engine::Engine;
use crate::owner::{Life, Owner};
use crate::pool::Pool;
use crate::profile::{DEADLINE, OWNER, POOL};

/// How often orphans and old cells are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// The first and the longest pause after an engine that did not do what it was asked.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Keeps warm cells ready until the pool is closed or dropped.
pub(crate) async fn keep_warm(pool: Weak<Pool>) {
    let mut pause = PAUSE.0;
    while let Some(pool) = pool.upgrade() {
        let wait = match fill(&pool).await {
            Ok(()) => {
                pause = PAUSE.0;
                SWEEP
            }
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "no warm cell can be made");
                pause = (pause * 2).min(PAUSE.1);
                pause
            }
        };
        if !wait_for_need(&pool, wait, pause > PAUSE.0).await {
            return;
        }
    }
}

/// Waits for the pool to need a cell; after a failure only time helps. `false` when it is closed.
async fn wait_for_need(pool: &Pool, wait: Duration, failed: bool) -> bool {
    let needed = async {
        if failed {
            std::future::pending::<()>().await;
        }
        pool.refill.notified().await;
    };
    tokio::select! {
        () = pool.closed.cancelled() => false,
        () = needed => true,
        () = tokio::time::sleep(wait) => true,
    }
}

async fn fill(pool: &Pool) -> Result<(), SandboxError> {
    while pool.unassigned() < pool.config.warm && !pool.closed.is_cancelled() {
        let Some(slot) = pool.slot() else {
            return Ok(());
        };
        let cell = pool.create(slot).await?;
        if pool.closed.is_cancelled() {
            cell.remove().await;
        } else {
            pool.add(cell);
        }
    }
    Ok(())
}

/// Removes orphans and old cells again and again, until the pool is closed or dropped.
pub(crate) async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        tokio::select! {
            () = pool.closed.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        pool.retire_old().await;
        pool.refill.notify_one();
        pool.engine.remove_left_over().await;
        if let Err(error) = remove_orphans(&pool.engine).await {
            tracing::warn!(%error, "orphaned cells could not be looked for");
        }
    }
}

/// Removes the containers whose worker is dead, whoever made them, and those whose time is over and
/// whose worker cannot be looked at from here.
pub(crate) async fn remove_orphans(engine: &Engine) -> Result<(), SandboxError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    remove_where(engine, |cell| is_orphan(cell, now)).await
}

/// Removes the containers of a pool, those in use too.
pub(crate) async fn remove_all_of(pool: &Pool) -> Result<(), SandboxError> {
    remove_where(&pool.engine, |cell| label(cell, POOL) == Some(&pool.id)).await
}

async fn remove_where(
    engine: &Engine,
    which: impl Fn(&ContainerSummary) -> bool,
) -> Result<(), SandboxError> {
    let cells = engine.ours().await?;
    let ids = cells.iter().filter(|cell| which(cell)).filter_map(|cell| cell.id.as_deref());
    let removed = join_all(ids.map(|id| engine.remove(id))).await;
    removed.into_iter().collect()
}

/// A worker that lives retires its own cells when they are idle: a deadline is not for those, or it
/// would end a run. A container that has our label but not a word of ours in it is left alone.
fn is_orphan(cell: &ContainerSummary, now: u64) -> bool {
    let deadline = label(cell, DEADLINE).and_then(|seconds| seconds.parse::<u64>().ok());
    let owner = label(cell, OWNER).and_then(Owner::parse);
    match owner.map_or(Life::Unknown, |owner| owner.life()) {
        Life::Alive => false,
        Life::Dead => true,
        Life::Unknown => deadline.is_some_and(|deadline| deadline < now),
    }
}

fn label<'a>(cell: &'a ContainerSummary, name: &str) -> Option<&'a str> {
    cell.labels.as_ref()?.get(name).map(String::as_str)
}

/// Starts both; they end with the pool.
pub(crate) fn start(pool: &Arc<Pool>) {
    tokio::spawn(keep_warm(Arc::downgrade(pool)));
    tokio::spawn(sweep(Arc::downgrade(pool)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(owner: &str, deadline: &str) -> ContainerSummary {
        let labels = [(OWNER, owner), (DEADLINE, deadline)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ContainerSummary { labels: Some(labels.into()), ..Default::default() }
    }

    #[test]
    fn a_live_workers_cell_is_never_an_orphan_however_old() {
        let alive = Owner::current().to_string();
        assert!(!is_orphan(&cell(&alive, "100"), u64::MAX));
    }

    #[test]
    fn a_cell_of_an_unknown_worker_is_an_orphan_after_its_deadline() {
        let here = Owner::current().to_string();
        let boot = here.split(' ').next().unwrap();
        for unknown in [format!("{boot} pid:[1] 1 1"), "a later format".into()] {
            assert!(!is_orphan(&cell(&unknown, "100"), 100), "{unknown}");
            assert!(is_orphan(&cell(&unknown, "100"), 101), "{unknown}");
        }
    }

    #[test]
    fn a_dead_workers_cell_is_an_orphan_at_once() {
        let dead = Owner::current().to_string() + "9";
        assert!(is_orphan(&cell(&dead, "100"), 1));
        assert!(!is_orphan(&cell("", ""), u64::MAX));
    }
}
