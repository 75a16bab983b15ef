//! When each worker was last heard of, by this process's own clock.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::fleet::{Row, Rows};
use crate::observed::{Millis, QueueSeen};

/// What is heard of the workers: a row in which nothing moves is silence.
///
/// The times in a row are those of its worker's clock, which may be minutes off. So they are compared
/// with themselves only, and the time between two changes is measured here.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    known: HashMap<String, Known>,
    /// Since when no message is in flight that no heard worker owns up to.
    owned_since: Option<Instant>,
}

/// What a row said, and since when it says that.
#[derive(Debug)]
struct Known {
    at: Millis,
    drain: Option<Millis>,
    since: Instant,
    /// Whether it ever said something else.
    moved: bool,
    /// Whether it told of itself since it was ordered to drain.
    answers: bool,
}

impl Hearing {
    /// Notes what the rows say at this look.
    pub(super) fn listen(&mut self, rows: &Rows, now: Instant) {
        self.known.retain(|id, _| rows.instances.contains_key(id));
        for (id, row) in &rows.instances {
            let before = self.known.get(id);
            if before.is_some_and(|it| (it.at, it.drain) == (row.at, row.drain)) {
                continue;
            }
            let beat = |it: &Known| it.at != row.at;
            let moved = before.is_some_and(|it| it.moved || beat(it));
            let answers = before.is_some_and(|it| it.answers || it.drain.is_some() && beat(it));
            let (at, drain) = (row.at, row.drain);
            self.known.insert(id.clone(), Known { at, drain, since: now, moved, answers });
        }
    }

    /// The workers that told of themselves once, and not for so long. One that was not heard yet by
    /// this process is judged by its clock, which can only have it taken for silent too soon: it is
    /// busy then for all that anybody knows.
    pub(super) fn silent(
        &self,
        rows: &Rows,
        limit: Duration,
        (now, wall): (Instant, Millis),
    ) -> HashSet<String> {
        let old = |row: &Row| wall.saturating_sub(row.at) > limit.as_millis() as Millis;
        let is_silent = |id: &String, row: &Row| {
            let unmoved = self.known.get(id).is_none_or(|known| !known.moved);
            row.at > 0 && (self.quiet(id, now) > limit || (unmoved && old(row)))
        };
        let silent = rows.instances.iter().filter(|(id, row)| is_silent(id, row));
        silent.map(|(id, _)| id.clone()).collect()
    }

    /// For how long nothing has moved in a row, as far as this process saw.
    pub(super) fn quiet(&self, id: &str, now: Instant) -> Duration {
        self.known.get(id).map_or(Duration::ZERO, |known| now.duration_since(known.since))
    }

    /// Notes what is in flight, and what those who are heard say that they hold.
    pub(super) fn weigh(&mut self, queues: &[QueueSeen], held: u64, now: Instant) {
        let mut counts = queues.iter().map(|queue| queue.in_flight.map(|count| count.value));
        let in_flight = counts.try_fold(0u64, |sum, count| Some(sum.saturating_add(count?)));
        match in_flight.is_some_and(|all| all <= held) {
            true => self.owned_since = self.owned_since.or(Some(now)),
            false => self.owned_since = None,
        }
    }

    /// Whether all that is in flight was owned up to for so long.
    fn all_owned(&self, lag: Duration, now: Instant) -> bool {
        self.owned_since.is_some_and(|since| now.duration_since(since) >= lag)
    }

    /// Of the instances in service those whose workers are given up: nothing was heard of them for
    /// long, and they have nothing in hand. (What a dead worker held is visible again by then.)
    ///
    /// Where fewer are heard than not, it is rather the table that fails than they: then they go one
    /// after the other.
    pub(super) fn given_up(
        &self,
        serving: &[&str],
        rows: &Rows,
        patience: &Patience,
        now: Instant,
    ) -> Vec<String> {
        let of = |id: &&&str| rows.instances.get(**id);
        let lost = |id: &&&str| of(id).is_some_and(|row| self.is_lost(id, row, patience, now));
        let waits = |id: &&&str| of(id).is_some_and(|row| self.is_unanswered(id, row));
        let heard = |id: &&&str| {
            let told = of(id).is_some_and(|row| row.at > 0) && !waits(id);
            told && self.quiet(id, now) <= patience.silent
        };
        let mut going: Vec<&str> = serving.iter().filter(lost).copied().collect();
        going.sort_unstable();
        let waiting = serving.iter().filter(waits).count();
        if serving.iter().filter(heard).count() <= going.len() + waiting {
            going.truncate(usize::from(waiting == 0));
        }
        let owned = self.all_owned(patience.lag, now);
        going.into_iter().filter(|_| owned).map(str::to_owned).collect()
    }

    fn is_lost(&self, id: &str, row: &Row, patience: &Patience, now: Instant) -> bool {
        let limit = if row.at == 0 { patience.never } else { patience.limit };
        row.drain.is_none() && row.drained.is_none() && self.quiet(id, now) > limit
    }

    /// Whether it is waited for what its worker says to an order to drain.
    fn is_unanswered(&self, id: &str, row: &Row) -> bool {
        let answers = self.known.get(id).is_some_and(|known| known.answers);
        row.drain.is_some() && row.drained.is_none() && !answers
    }

    /// Whether an instance may be ended: its worker said so, or does not answer an order to drain and
    /// holds nothing.
    pub(super) fn is_drained(
        &self,
        id: &str,
        row: &Row,
        patience: &Patience,
        now: Instant,
    ) -> bool {
        match (row.drain, row.drained) {
            (Some(_), Some(_)) => true,
            (Some(_), None) => {
                self.quiet(id, now) > patience.limit && self.all_owned(patience.lag, now)
            }
            // Stopped by somebody else: another worker may start in its place, and say so.
            (None, Some(_)) => self.quiet(id, now) > patience.silent,
            (None, None) => false,
        }
    }
}

/// A worker that is silent for so many times the time that makes it silent is given up: ordered to
/// drain, and ended when it did not hear that for as long.
const GIVEN_UP: u32 = 20;
/// One that was never heard of has so many boots' time, at the least.
const BOOTS: u32 = 3;

/// How long is waited for what.
#[derive(Debug)]
pub(super) struct Patience {
    /// For a beat.
    silent: Duration,
    /// For a worker that told of itself.
    limit: Duration,
    /// For one that never did.
    never: Duration,
    /// For what SQS counts to show.
    lag: Duration,
}

impl Patience {
    pub(super) fn new(silent: Duration, boot: Millis, lag: Duration) -> Self {
        let limit = silent.saturating_mul(GIVEN_UP);
        let never = limit.max(Duration::from_millis(boot).saturating_mul(BOOTS));
        Self { silent, limit, never, lag }
    }
}

#[cfg(test)]
mod tests;
