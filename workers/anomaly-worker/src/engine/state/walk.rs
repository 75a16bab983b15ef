//! The walk through all readings since the base.

use std::collections::{BTreeMap, HashSet};

use super::{Key, Limits, Machine, Moment, State};
use crate::{
    engine::{Episode, told::Told},
    reading::{Reading, distinct},
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
        let (mut moments, horizon) = self.moments(rule, limits, current, following);
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
        Walked { before, end, turned, moments, pending, horizon, ended, bound, sure, surely_ended }
    }

    /// What was said since the base, in order, and the time of the newest reading: of duplicates,
    /// too, or it would go back when an earlier reading shows that the newest is one. Older readings
    /// only tell duplicates.
    fn moments(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> (Vec<Moment>, i64) {
        let newest = current.iter().chain(&following).map(|it| it.at).max();
        let horizon = newest.unwrap_or(-1).max(self.until);
        let of = |readings, of_current, delay: i64| {
            let readings = distinct(readings, limits.lateness).into_iter();
            readings.map(move |it| Moment { at: it.at + delay, of_current, filling: it.filling })
        };
        let delay = M::delay(rule);
        let mut moments: Vec<_> = of(current, true, delay).chain(of(following, false, 0)).collect();
        moments.retain(|it| it.at > self.until);
        // Stable: the order within one time and sensor stays.
        moments.sort_by_key(|moment| moment.at);
        (moments, horizon)
    }
}
