//! Edges at which nobody says anything any more.
//!
//! What was told of an edge is final once readings came that are a lateness newer. Where both its sensors
//! stop there are none, so the worker that leads the crew looks at the edges of which something is still
//! provisional: where nothing came for a lateness, and for as long as a message may be held by a worker
//! that is gone, what was said is final, and what comes of that time is late.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flotilla_runtime::Failure;

use super::Worker;
use crate::{
    crew::Mode,
    plans::Known,
    tables::{Subject, now_ms},
};

/// How often to look at the least and at the most: it reads the whole table of edges.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(900);

/// The edges of which something is provisional.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<(Option<Instant>, HashMap<Subject, Stood>)>);

/// The version of a row and the time of the newest reading, and since when both have stood still, by the
/// clock that silence is told by (Unix milliseconds).
#[derive(Debug, Clone, Copy)]
struct Stood {
    at: (u64, i64),
    since: i64,
}

impl Quiet {
    /// Whether it is time to look; notes that it is done.
    fn begin(&self, every: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = state.0.is_none_or(|at| at.elapsed() >= every);
        if due {
            state.0 = Some(Instant::now());
        }
        due
    }

    /// For how long, in milliseconds, each of these has stood still; what is not among them is forgotten.
    fn stood(&self, now: i64, found: &[(Subject, (u64, i64))]) -> Vec<i64> {
        let known = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1;
        let since = |(subject, at): &(Subject, (u64, i64))| {
            let before = known.get(subject).filter(|it| it.at == *at);
            before.map_or(now, |it| it.since)
        };
        let since: Vec<_> = found.iter().map(since).collect();
        let stood = found.iter().zip(&since);
        *known =
            stood.map(|((it, at), since)| (it.clone(), Stood { at: *at, since: *since })).collect();
        since.into_iter().map(|since| now.saturating_sub(since)).collect()
    }
}

impl Worker {
    /// Has what was told of edges be final where nothing came for long.
    pub(super) async fn close_quiet(self: Arc<Self>) {
        let lateness = Duration::from_millis(self.config.limits.lateness.unsigned_abs());
        if !self.quiet.begin((lateness / 4).clamp(OFTEN, SELDOM)) {
            return;
        }
        if let Err(failure) = self.close_all_quiet().await {
            tracing::warn!("what was told of quiet edges becomes final later: {failure}");
        }
    }

    async fn close_all_quiet(&self) -> Result<(), Failure> {
        let known = self.plans.get().await?;
        let found = self.provisional(&known).await?;
        if found.is_empty() {
            self.quiet.stood(0, &[]);
            return Ok(());
        }
        // As far as what waits on the queue may still tell of them, not further.
        let clock = now_ms().saturating_sub(self.lag.now().await?);
        let wait = self.config.limits.lateness.saturating_add(self.config.held.as_millis() as i64);
        let stood = self.quiet.stood(clock, &found);
        for ((subject, (_, newest)), stood) in found.iter().zip(stood) {
            let Some(following) = subject.following().filter(|_| stood > wait) else { continue };
            let ends = [subject.current(), following];
            // One after the other: the beat that changes the mode waits for what is under way.
            let _gate = self.crew.under_way().await;
            match self.crew.mode() {
                Mode::Sole(epoch) => self.close_sole(epoch, &known, ends, *newest).await?,
                Mode::Shared => self.close_shared(&known, ends, *newest).await?,
                Mode::Waiting => return Ok(()),
            }
        }
        Ok(())
    }

    /// The edges of which something is provisional, with the versions of their rows and the times of
    /// their newest readings.
    async fn provisional(&self, known: &Known) -> Result<Vec<(Subject, (u64, i64))>, Failure> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (some, last) = self.edges.provisional(after.as_deref()).await?;
            for (subject, version) in some {
                let Some(following) = subject.following().filter(|_| known.has(&subject)) else {
                    continue;
                };
                let ends = [subject.current(), following].map(|id| self.readings.last(id));
                let newest = futures::future::try_join_all(ends).await?;
                let newest = newest.into_iter().flatten().map(|it| it.at).max().unwrap_or(-1);
                found.push((subject, (version, newest)));
            }
            after = last;
            if after.is_none() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_quiet_as_long_as_neither_its_row_nor_its_newest_reading_changes() {
        let quiet = Quiet::default();
        let edge = |id: &str| Subject::Edge { current: id.to_owned(), following: "z".to_owned() };
        let stood = |now, all: &[(&str, (u64, i64))]| {
            let all: Vec<_> = all.iter().map(|(id, at)| (edge(id), *at)).collect();
            quiet.stood(now, &all)
        };
        assert_eq!(stood(100, &[("a", (1, 5)), ("b", (1, 5))]), [0, 0]);
        assert_eq!(stood(150, &[("a", (1, 5)), ("b", (1, 6))]), [50, 0]);
        assert_eq!(stood(170, &[("a", (2, 5)), ("b", (1, 6))]), [0, 20]);
        assert_eq!(stood(180, &[("b", (1, 6))]), [30]);
        assert_eq!(stood(190, &[("a", (2, 5))]), [0]);
    }
}
