//! The walk through all readings since the base.

use std::collections::{BTreeMap, HashSet};

use super::{Key, Limits, Machine, Moment, State};
use crate::{
    engine::{Episode, told::Told},
    reading::{Reading, Sorted},
};

/// Where a walk through the readings ended.
#[derive(Debug)]
pub struct Walked<M> {
    /// Before the last time at which something was said.
    pub(in crate::engine) before: M,
    pub(in crate::engine) end: M,
    /// Whether an episode opened or ended at the last time.
    pub(in crate::engine) turned: bool,
    pub(in crate::engine) moments: Vec<Moment>,
    /// How much was said that does not count yet.
    pub(in crate::engine) pending: usize,
    /// The time of the newest reading.
    pub(in crate::engine) horizon: i64,
    pub(super) ended: Vec<Episode>,
    /// Until when no reading that is still in time changes anything, in Unix milliseconds; where it
    /// stood then, and how many had ended.
    pub(super) bound: i64,
    sure: M,
    surely_ended: usize,
    /// The readings of the current sensor and of the following one.
    pub(super) sorted: [Sorted; 2],
}

impl<M: Machine> Walked<M> {
    /// What no reading that is still in time can change.
    pub(super) fn certain(&self, rule: &M::Rule) -> HashSet<Told> {
        let mut lasting = Vec::new();
        self.sure.lasting(rule, self.bound.saturating_add(1), &mut lasting);
        self.ended[..self.surely_ended].iter().chain(&lasting).map(Told::of).collect()
    }
}

impl<M: Machine> State<M> {
    /// All episodes from the base on that these readings tell, in order of their opening; nothing
    /// is settled.
    pub fn replay(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Vec<Episode> {
        let walked = self.walk(rule, limits, current, following);
        let mut episodes = walked.ended;
        walked.end.lasting(rule, self.clock, &mut episodes);
        let found: BTreeMap<Key, Episode> =
            episodes.into_iter().map(|episode| (episode.key(), episode)).collect();
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|it| (it.opened.at, it.kind));
        found
    }

    /// Goes from the base to the newest reading.
    pub(in crate::engine) fn walk(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Walked<M> {
        let newest = current.iter().chain(&following).map(|it| it.at).max();
        // Of duplicates, too, or it would go back when an earlier reading shows that the newest is one.
        let horizon = newest.unwrap_or(-1).max(self.until);
        let [first, second] = self.bases(rule);
        let sorted = [
            Sorted::of(current, limits.lateness, first),
            Sorted::of(following, limits.lateness, second),
        ];
        let mut moments = self.moments(M::delay(rule), &sorted);
        let bound = self.late_until(limits, horizon);
        let counted = moments.partition_point(|it| it.at <= horizon);
        let pending = moments.len() - counted;
        moments.truncate(counted);
        let mut ended = Vec::new();
        self.stand.lasting(rule, 0, &mut ended);
        ended.retain(|it| it.resolved.is_some());
        let (mut before, mut end, mut turned) = (self.stand.clone(), self.stand.clone(), false);
        let mut sure = None;
        let mut chunks = moments.chunk_by(|a, b| a.at == b.at).peekable();
        while let Some(said) = chunks.next() {
            if sure.is_none() && said[0].at > bound {
                sure = Some((end.clone(), ended.len()));
            }
            if chunks.peek().is_none() {
                before = end.clone();
            }
            turned = end.step(rule, said, &mut ended);
        }
        let (sure, surely_ended) = sure.unwrap_or_else(|| (end.clone(), ended.len()));
        Walked {
            before,
            end,
            turned,
            moments,
            pending,
            horizon,
            ended,
            bound,
            sure,
            surely_ended,
            sorted,
        }
    }

    /// What was said since the base, in order. Older readings only tell duplicates.
    fn moments(&self, delay: i64, [current, following]: &[Sorted; 2]) -> Vec<Moment> {
        let of = |readings: &[Reading], of_current, again| -> Vec<Moment> {
            let delay = if of_current { delay } else { 0 };
            let moment =
                |it: &Reading| Moment { at: it.at + delay, of_current, again, filling: it.filling };
            readings.iter().map(moment).filter(|it| it.at > self.until).collect()
        };
        let mut moments = of(&current.counted, true, false);
        if M::HEARS_AGAIN {
            moments.extend(of(&current.again, true, true));
        }
        moments.extend(of(&following.counted, false, false));
        // Stable: the order within one time and sensor stays.
        moments.sort_by_key(|moment| moment.at);
        moments
    }
}
