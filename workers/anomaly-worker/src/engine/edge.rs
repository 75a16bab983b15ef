//! An edge: what is settled, and what was told of the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Episode, Rule, Sample, episode::Stand};
use crate::reading::{Reading, distinct};

/// The most changes of one review: a transaction of DynamoDB takes 100 items.
pub const CHANGES: usize = 90;

/// How much of the past an edge keeps open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How late a reading may come, in milliseconds of event time behind the newest of its edge.
    pub lateness: i64,
    /// The base moves on once it can take so many readings.
    pub fold: usize,
    /// With more readings than this since the base it moves on whatever the lateness.
    pub most: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lateness: 3_600_000, fold: 256, most: 4096 }
    }
}

/// The state of an edge: where it stood at its base, and the episodes since, as they were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// What happened until then (Unix milliseconds) is settled.
    until: i64,
    stand: Stand,
    told: Vec<Episode>,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The episode is new, or not as it was told.
    Tell(Episode),
    /// The episode that was told to open at this time did not.
    Retract(i64),
}

/// What a look at the readings led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// At most [`CHANGES`], in order of time; there may be more after them.
    pub changes: Vec<Change>,
    /// The state once they are told.
    pub next: Edge,
}

/// One sensor's new word.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: i64,
    of_current: bool,
    filling: f64,
}

impl Default for Edge {
    fn default() -> Self {
        Self { until: -1, stand: Stand::default(), told: Vec::new() }
    }
}

impl Edge {
    /// A reading at this time or before (Unix milliseconds) comes too late.
    pub fn settled_until(&self) -> i64 {
        self.until
    }

    /// The readings after this time (Unix milliseconds) are what a review needs.
    pub fn needs_after(&self, limits: &Limits) -> i64 {
        self.until.saturating_sub(limits.lateness).max(-1)
    }

    /// Recomputes the episodes since the base from all readings [after](Self::needs_after) it.
    pub fn review(
        &self,
        rule: &Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Review {
        let moments = self.moments(current, following);
        let (stand, mut episodes) = walk(rule, self.stand, &moments);
        episodes.extend(stand.open);
        let changes = self.changes(&episodes);
        let next = match changes.is_empty() {
            true => self.moved_on(rule, limits, &moments),
            false => self.having_told(&changes),
        };
        Review { changes, next }
    }

    /// What was said since the base, in order. Older readings only tell duplicates.
    fn moments(&self, current: Vec<Reading>, following: Vec<Reading>) -> Vec<Moment> {
        let of = |readings, of_current| {
            let readings = distinct(readings).into_iter().filter(|it| it.at > self.until);
            readings.map(move |it| Moment { at: it.at, of_current, filling: it.filling })
        };
        let mut moments: Vec<_> = of(current, true).chain(of(following, false)).collect();
        // Stable: the order within one time and sensor stays.
        moments.sort_by_key(|moment| moment.at);
        moments
    }

    fn changes(&self, episodes: &[Episode]) -> Vec<Change> {
        let by_time = |episodes: &[Episode]| -> BTreeMap<i64, Episode> {
            episodes.iter().map(|episode| (episode.opened.at, *episode)).collect()
        };
        let (told, found) = (by_time(&self.told), by_time(episodes));
        let gone =
            told.keys().filter(|at| !found.contains_key(at)).map(|at| (*at, Change::Retract(*at)));
        let new = found.iter().filter(|(at, episode)| told.get(at) != Some(episode));
        let new = new.map(|(at, episode)| (*at, Change::Tell(*episode)));
        let changes: BTreeMap<i64, Change> = gone.chain(new).collect();
        changes.into_values().take(CHANGES).collect()
    }

    fn having_told(&self, changes: &[Change]) -> Self {
        let mut told: BTreeMap<i64, Episode> =
            self.told.iter().map(|episode| (episode.opened.at, *episode)).collect();
        for change in changes {
            match change {
                Change::Tell(episode) => told.insert(episode.opened.at, *episode),
                Change::Retract(at) => told.remove(at),
            };
        }
        Self { told: told.into_values().collect(), ..self.clone() }
    }

    /// The same with a later base, where it can take enough.
    fn moved_on(&self, rule: &Rule, limits: &Limits, moments: &[Moment]) -> Self {
        let Some(until) = base(limits, moments) else { return self.clone() };
        let settled = moments.partition_point(|moment| moment.at <= until);
        let (stand, _) = walk(rule, self.stand, &moments[..settled]);
        let lasts = |it: &&Episode| it.resolved.is_none_or(|turn| turn.at > until);
        let told = self.told.iter().filter(lasts).copied().collect();
        Self { until, stand, told }
    }
}

/// Where the base can move to.
fn base(limits: &Limits, moments: &[Moment]) -> Option<i64> {
    let newest = moments.last()?.at;
    if moments.len() > limits.most {
        return Some(moments[moments.len() / 2].at);
    }
    let until = newest - limits.lateness.saturating_mul(2) - 1;
    let settled = moments.partition_point(|moment| moment.at <= until);
    (settled >= limits.fold.max(1)).then_some(until)
}

/// Compares once at every time at which something was said; gives where that ends, and the
/// episodes that ended on the way.
fn walk(rule: &Rule, mut stand: Stand, moments: &[Moment]) -> (Stand, Vec<Episode>) {
    let mut ended = Vec::new();
    for at_once in moments.chunk_by(|a, b| a.at == b.at) {
        for Moment { at, of_current, filling } in at_once.iter().copied() {
            let end = if of_current { &mut stand.current } else { &mut stand.following };
            *end = Some(Sample { at, filling });
        }
        ended.extend(stand.compare(rule, at_once[0].at));
    }
    (stand, ended)
}
