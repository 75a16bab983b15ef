//! From a walk to what is to be told.

use std::collections::BTreeMap;

use super::{CHANGES, Key, LINKED, Limits, Machine, State, TOLD, walk::Walked};
use crate::{
    engine::{Episode, Kind, told::Told},
    reading::Reading,
};

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The episode is new, or not as it was told.
    Tell(Episode),
    /// This episode, as it was told, never was.
    Retract(Told),
}

impl Change {
    /// What tells the episode from the others of its machine.
    pub fn key(&self) -> Key {
        match self {
            Self::Tell(episode) => episode.key(),
            Self::Retract(told) => told.key(),
        }
    }

    /// What is, or was, wrong.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Tell(episode) => episode.kind,
            Self::Retract(told) => told.kind,
        }
    }

    /// Since when, in Unix milliseconds of event time.
    pub fn opened(&self) -> i64 {
        self.key().1
    }
}

/// What a look at the readings led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Review<M> {
    /// At most [`CHANGES`], in order of time; there may be more after them.
    pub changes: Vec<Change>,
    /// Of the episodes that are told, those that were told otherwise before, and not only went on.
    pub corrected: Vec<Key>,
    /// The state once they are told.
    pub next: State<M>,
    /// Since when (Unix milliseconds) what was told before is to be linked before the state is
    /// written, if it is.
    pub link: Option<i64>,
}

impl<M: Machine> State<M> {
    /// Recomputes the episodes since the base from all readings [after](Self::needs_after) it: of
    /// an edge's two sensors, or of a device and none.
    pub fn review(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Review<M> {
        let walked = self.walk(rule, limits, current, following);
        self.conclude(rule, limits, &walked)
    }

    pub(in crate::engine) fn conclude(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        walked: &Walked<M>,
    ) -> Review<M> {
        let mut episodes = walked.ended.clone();
        walked.end.lasting(rule, self.clock, &mut episodes);
        let certain = walked.certain(rule);
        for episode in &mut episodes {
            episode.settled = certain.contains(&Told::of(episode));
        }
        let changes = self.changes(&episodes);
        let all_told = changes.is_empty();
        let moved = match all_told || self.told.len() > TOLD {
            // What is before the first change was told.
            true => self.moved_on(rule, limits, walked, changes.first().map(Change::opened)),
            false => None,
        };
        if all_told || moved.is_some() {
            let next = moved.unwrap_or_else(|| self.clone());
            let next = next.with_unlinked_since(LINKED);
            let link = self.is_unlinked().then_some(self.unlinked_since());
            return Review { changes: Vec::new(), corrected: Vec::new(), next, link };
        }
        let (next, corrected) = (self.having_told(&changes), self.corrected(&changes));
        Review { changes, corrected, next, link: None }
    }

    /// Of these changes, the keys of what is told otherwise than before: it opened for another
    /// reason or at another time, or had not ended then.
    fn corrected(&self, changes: &[Change]) -> Vec<Key> {
        let otherwise = |it: &Episode| {
            let before = self.told.iter().find(|told| told.key() == it.key());
            let now = Told::of(it);
            let moved = changes.iter().any(|change| match change {
                Change::Retract(gone) => gone.kind == it.kind && gone.lasts_with(it),
                Change::Tell(_) => false,
            });
            moved
                || before.is_some_and(|told| {
                    let ended = told.resolved.is_some() && told.flaps == it.flaps;
                    let end = |it: &Told| (it.resolved, it.digests[1]);
                    told.digests[0] != now.digests[0] || ended && end(told) != end(&now)
                })
        };
        let told = changes.iter().filter_map(|change| match change {
            Change::Tell(episode) => Some(episode),
            Change::Retract(_) => None,
        });
        told.filter(|it| otherwise(it)).map(Episode::key).collect()
    }

    fn changes(&self, episodes: &[Episode]) -> Vec<Change> {
        let told: BTreeMap<Key, Told> = self.told.iter().map(|it| (it.key(), *it)).collect();
        let found: BTreeMap<Key, &Episode> = episodes.iter().map(|it| (it.key(), it)).collect();
        let gone = told.iter().filter(|(key, _)| !found.contains_key(key));
        let gone = gone.map(|(_, told)| Change::Retract(*told));
        let new = found.iter().filter(|(key, it)| told.get(key) != Some(&Told::of(it)));
        let mut changes: Vec<_> = gone.chain(new.map(|(_, it)| Change::Tell(**it))).collect();
        changes.sort_by_key(|change| (change.opened(), change.kind()));
        changes.truncate(CHANGES);
        changes
    }

    fn having_told(&self, changes: &[Change]) -> Self {
        let mut told: BTreeMap<Key, Told> = self.told.iter().map(|it| (it.key(), *it)).collect();
        for change in changes {
            match change {
                Change::Tell(episode) => told.insert(episode.key(), Told::of(episode)),
                Change::Retract(gone) => told.remove(&gone.key()),
            };
        }
        let first = changes.iter().map(Change::opened).min();
        let unlinked_since = first.unwrap_or(LINKED).min(self.unlinked_since());
        Self { told: told.into_values().collect(), ..self.clone() }
            .with_unlinked_since(unlinked_since)
    }
}
