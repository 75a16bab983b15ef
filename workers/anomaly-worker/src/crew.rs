//! Whether this worker has the tables to itself.
//!
//! A worker that does may keep what it read: all that is stored is stored by it. As soon as there
//! is another, both read again before they compare. The row `workers` of the table of edges tells
//! who is there: every worker counts up its own beat in it, every second. Nobody's clock is compared
//! with another's: a worker is gone when its beat has stood still for [`GONE`] of this one's time.
//!
//! A worker that finds another *sole* does not work until that one has let go, which it does at its
//! next beat, or is gone. And what was done counts only if the worker's own beat was not older than
//! [`HOLD`], which is less, when the readings were stored: so whatever a sole worker decided from
//! its memory, was stored before anybody else began to read. What it compares from memory it writes
//! only while it is sole, and before it says that it is not, all that is under way has ended.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, RwLockReadGuard, watch};

use crate::tables::Edges;

/// How often a worker counts up its beat.
const BEAT: Duration = Duration::from_secs(1);
/// The same while it waits for another to let go.
const WAITING: Duration = Duration::from_millis(200);
/// How long a beat holds.
const HOLD: Duration = Duration::from_secs(3);
/// How long a beat stands still until its worker is gone.
const GONE: Duration = Duration::from_secs(6);
/// How long to wait for what is under way, before a worker is sole or is not any more.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing yet.
    Waiting,
    /// Go by what it remembers, since it became sole for this time.
    Sole(u64),
    /// Go by what it reads.
    Shared,
}

/// Who is there, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Roll {
    sole: Option<String>,
    beats: BTreeMap<String, u64>,
}

/// This worker among those that are there.
#[derive(Debug)]
pub(crate) struct Crew {
    edges: Edges,
    me: String,
    mode: watch::Sender<(Mode, Instant)>,
    seen: Mutex<HashMap<String, (u64, Instant)>>,
    /// Read by all that is under way.
    gate: RwLock<()>,
}

impl Roll {
    /// This worker's next beat, when these others are gone; and what it may do then.
    fn beat(mut self, me: &str, gone: &[String], epoch: u64) -> (Self, Mode) {
        self.beats.retain(|id, _| !gone.contains(id));
        *self.beats.entry(me.to_owned()).or_default() += 1;
        self.sole = self.sole.filter(|id| self.beats.contains_key(id));
        let alone = self.beats.len() == 1;
        let mode = match &self.sole {
            Some(sole) if sole != me => Mode::Waiting,
            _ if alone => Mode::Sole(epoch),
            _ => Mode::Shared,
        };
        if mode != Mode::Waiting {
            self.sole = alone.then(|| me.to_owned());
        }
        (self, mode)
    }

    /// Whether this worker is the one who does what only one should.
    fn leads(&self, me: &str) -> bool {
        self.beats.keys().next().is_some_and(|first| first == me)
    }
}

impl Crew {
    pub(crate) fn new(edges: Edges, me: String) -> Self {
        let mode = watch::Sender::new((Mode::Waiting, Instant::now()));
        Self { edges, me, mode, seen: Mutex::default(), gate: RwLock::default() }
    }

    /// What this worker may do now.
    pub(crate) fn mode(&self) -> Mode {
        let (mode, since) = *self.mode.borrow();
        if since.elapsed() < HOLD { mode } else { Mode::Waiting }
    }

    /// Why this worker may do nothing.
    pub(crate) fn why_waiting(&self) -> String {
        self.slow().unwrap_or_else(|| {
            "another worker has these tables to itself and has not let go yet, or work is still \
             under way here"
                .to_owned()
        })
    }

    /// Why this worker is no longer the one that it was alone.
    pub(crate) fn why_not_sole(&self) -> String {
        let came = || "another worker came, or this one was sole anew: it is compared again";
        self.slow().unwrap_or_else(|| came().to_owned())
    }

    /// Whether the own beat is too old to go by.
    fn slow(&self) -> Option<String> {
        let age = self.mode.borrow().1.elapsed();
        (age >= HOLD).then(|| {
            format!(
                "this worker's own beat is {:.1} s old, and {} s are allowed: DynamoDB answers \
                 slowly, or the machine is overloaded",
                age.as_secs_f64(),
                HOLD.as_secs()
            )
        })
    }

    /// Held while something is under way.
    pub(crate) async fn under_way(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Waits until this worker may do something.
    pub(crate) async fn ready(&self, limit: Duration) -> bool {
        let may = async {
            let mut mode = self.mode.subscribe();
            while self.mode() == Mode::Waiting {
                if mode.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, may).await.is_ok()
    }

    /// Counts up the beat; whether this worker leads, and how soon the next one is due.
    pub(crate) async fn beat(&self) -> Result<(bool, Duration), Failure> {
        let began = Instant::now();
        let (version, roll) = self.edges.roll::<Roll>().await?;
        let gone = self.gone(&roll, began);
        let before = self.mode();
        let epoch = match before {
            Mode::Sole(epoch) => epoch,
            _ => version + 1,
        };
        let (roll, mode) = roll.beat(&self.me, &gone, epoch);
        // Nothing that reads may be under way when a memory begins, and nothing that goes by a
        // memory when the others are told that they may begin.
        let _nothing = match (before, mode) {
            (Mode::Sole(_), Mode::Sole(_)) | (Mode::Shared, Mode::Shared) => None,
            (_, Mode::Waiting) => {
                self.mode.send_modify(|it| it.0 = Mode::Waiting);
                None
            }
            _ => {
                self.mode.send_modify(|it| it.0 = Mode::Waiting);
                let gate = tokio::time::timeout(UNDER_WAY, self.gate.write()).await;
                Some(gate.map_err(|_| Failure::transient("crew", "work is under way"))?)
            }
        };
        if !self.edges.write_roll(version, &roll).await? {
            return Ok((false, Duration::ZERO));
        }
        self.mode.send_replace((mode, began));
        let next = if mode == Mode::Waiting { WAITING } else { BEAT };
        Ok((roll.leads(&self.me), next))
    }

    /// The others whose beats stand still.
    fn gone(&self, roll: &Roll, now: Instant) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| roll.beats.contains_key(id));
        let mut gone = Vec::new();
        for (id, beat) in roll.beats.iter().filter(|it| *it.0 != self.me) {
            let known = seen.entry(id.clone()).or_insert((*beat, now));
            if known.0 != *beat {
                *known = (*beat, now);
            }
            if now.duration_since(known.1) > GONE {
                gone.push(id.clone());
            }
        }
        gone
    }

    /// Tells the others that this worker is gone; what is not told they find out.
    pub(crate) async fn leave(&self) {
        self.mode.send_modify(|it| it.0 = Mode::Waiting);
        let _nothing = tokio::time::timeout(UNDER_WAY, self.gate.write()).await;
        let left = async {
            let (version, mut roll) = self.edges.roll::<Roll>().await?;
            roll.beats.remove(&self.me);
            roll.sole = roll.sole.filter(|id| *id != self.me);
            self.edges.write_roll(version, &roll).await
        };
        if let Err(failure) = left.await {
            tracing::warn!(
                "the other workers find out that this one is gone by waiting: {failure}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn roll(sole: Option<&str>, beats: &[&str]) -> Roll {
        let beats = beats.iter().map(|id| ((*id).to_owned(), 1)).collect();
        Roll { sole: sole.map(str::to_owned), beats }
    }

    #[test]
    fn a_second_worker_waits_until_the_first_has_let_go() {
        let (one, mode) = Roll::default().beat("a", &[], 1);
        assert_eq!((mode, one.sole.as_deref()), (Mode::Sole(1), Some("a")));
        let (both, mode) = one.beat("b", &[], 2);
        assert_eq!((mode, both.sole.as_deref()), (Mode::Waiting, Some("a")));
        let (free, mode) = both.beat("a", &[], 3);
        assert_eq!((mode, free.sole.as_deref()), (Mode::Shared, None));
        let (free, mode) = free.beat("b", &[], 4);
        assert_eq!((mode, free.leads("a"), free.leads("b")), (Mode::Shared, true, false));
        let (alone, mode) = free.beat("b", &["a".to_owned()], 5);
        assert_eq!((mode, alone.sole.as_deref()), (Mode::Sole(5), Some("b")));
    }

    #[test]
    fn who_is_gone_is_no_longer_sole() {
        let (next, mode) = roll(Some("a"), &["a", "b"]).beat("b", &["a".to_owned()], 1);
        assert_eq!((mode, next.sole.as_deref()), (Mode::Sole(1), Some("b")));
        let (next, mode) = roll(Some("a"), &["b"]).beat("c", &[], 1);
        assert_eq!((mode, next.sole), (Mode::Shared, None));
    }

    proptest! {
        #[test]
        fn a_sole_worker_is_never_beside_one_who_works(steps in prop::collection::vec((0..3_usize, any::<bool>()), 1..40)) {
            let (mut roll, mut modes) = (Roll::default(), [Mode::Waiting; 3]);
            let names = ["a", "b", "c"];
            for (worker, leaves) in steps {
                if leaves {
                    // It stops first, and is then found to be gone.
                    modes[worker] = Mode::Waiting;
                    roll.beats.remove(names[worker]);
                    continue;
                }
                let (next, mode) = roll.beat(names[worker], &[], 1);
                (roll, modes[worker]) = (next, mode);
                let soles = modes.iter().filter(|it| matches!(it, Mode::Sole(_))).count();
                let working = modes.iter().filter(|it| **it != Mode::Waiting).count();
                prop_assert!(soles == 0 || working == 1, "{:?}", modes);
            }
        }
    }
}
