//! One at a time per edge, and one for all who wait.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// With more names than this, all that nobody holds are forgotten.
const NAMES: usize = 10_000;

/// Whose turn it is, by name.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: Mutex<HashMap<String, Arc<Turn>>>,
}

#[derive(Debug, Default)]
struct Turn {
    lock: Arc<AsyncMutex<()>>,
    begun: AtomicU64,
    /// The number of the last that ended well.
    ended: AtomicU64,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _mine: OwnedMutexGuard<()>,
    /// As long as somebody holds it, nobody begins another of its name.
    _turn: Arc<Turn>,
}

impl Turns {
    /// Has `work` done for this name after now: by this caller, or by another whose work began
    /// after this call did.
    pub(crate) async fn after_now<E>(
        &self,
        name: &str,
        work: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let turn = self.turn(name);
        let before = turn.begun.load(SeqCst);
        let _mine = turn.lock.lock().await;
        if turn.ended.load(SeqCst) > before {
            return Ok(());
        }
        let number = turn.begun.fetch_add(1, SeqCst) + 1;
        work().await?;
        turn.ended.store(number, SeqCst);
        Ok(())
    }

    /// Has this caller's own work done for this name, when it is its turn.
    pub(crate) async fn alone<E>(
        &self,
        name: &str,
        work: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let turn = self.turn(name);
        let _mine = turn.lock.lock().await;
        work().await
    }

    /// Holds the turns of all these names, in their order, so that nobody waits for another who waits.
    /// Who holds them has no work done for any name.
    pub(crate) async fn hold(&self, names: &BTreeSet<String>) -> Vec<Held> {
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            let turn = self.turn(name);
            held.push(Held { _mine: turn.lock.clone().lock_owned().await, _turn: turn });
        }
        held
    }

    fn turn(&self, name: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > NAMES {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(name.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_served_by_one_and_none_by_what_began_before() {
        let (turns, count) = (Turns::default(), AtomicU64::new(0));
        let ask = async |delay| {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let work = async || {
                count.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, ()>(())
            };
            turns.after_now("a", work).await
        };
        let all = futures::future::join_all([ask(0), ask(10), ask(20), ask(30)]).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(count.load(SeqCst), 2);
        ask(0).await.unwrap();
        assert_eq!(count.load(SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn while_turns_are_held_nobody_works_for_these_names() {
        let (turns, names) = (Turns::default(), ["a", "b"].map(str::to_owned).into());
        let held = turns.hold(&names).await;
        let work = turns.alone("b", async || Ok::<(), ()>(()));
        let waited = tokio::time::timeout(Duration::from_secs(1), work).await;
        assert!(waited.is_err());
        assert_eq!(turns.alone("c", async || Ok::<(), ()>(())).await, Ok(()));
        drop(held);
        assert_eq!(turns.alone("b", async || Ok::<(), ()>(())).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_serves_nobody_else() {
        let turns = Turns::default();
        let fail = turns.after_now("a", async || {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Err(())
        });
        let wait = turns.after_now("a", async || Ok::<(), ()>(()));
        assert_eq!(tokio::join!(fail, wait), (Err(()), Ok(())));
    }
}
