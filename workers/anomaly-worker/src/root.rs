//! Which of several problems is the cause of the others.
//!
//! What is told of a device is either a *fault* of the sensor (silence, a level that it cannot
//! measure, a level that does not move), or an *observation* (a level that is high, or moves fast):
//! what a fault says is not so, what is observed is. No cause begins after its effect, by what the
//! sensor that both have in common had said when each opened.
//!
//! - A fault is the cause of what the sensor's own words decided while it lasted, and not of what the
//!   word that ended it did: at its edges, and no further. A silence is of what the last word decided at
//!   them once the next was due there, unless a later word of the other end decided another edge as well.
//! - Edges belong together when they last at the same time, in part at least, and have a sensor in
//!   common; or when others between them do. They must have begun to fail together, too: within
//!   three readings of that sensor, or an hour where nobody knows how often it is read. What came
//!   later has another cause, unless it is a problem that backs up behind an obstruction that was
//!   there. Of those that belong together one is the cause: an obstruction before a problem (what
//!   backs up behind it shows upstream, and sooner), then what opened first, then what is furthest
//!   upstream.
//! - An observation follows from an edge of its device that failed by then, else from what was
//!   observed there before. It is never the cause of an edge.
//!
//! The answer depends on the problems alone, not on the order in which they are given.

mod causes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

pub use self::causes::{Pace, Paces, causes};
use crate::{
    engine::{Episode, Key},
    tables::Subject,
};

/// An episode of a subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// What it is about.
    pub subject: Subject,
    /// What was told.
    pub episode: Episode,
}

impl Trouble {
    fn ends(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.subject.current()).chain(self.subject.following())
    }
}

/// With more problems than this that belong together, the rest is left out.
const MOST: usize = 5000;

/// From when until when, in Unix milliseconds of event time.
pub type Times = (i64, i64);

/// Finds all problems that belong together with those of some subjects. It asks for problems, and
/// whoever knows them adds them, until it asks no more.
#[derive(Debug)]
pub struct Together<N> {
    neighbours: N,
    found: BTreeMap<(Subject, Key), Trouble>,
    asked: HashMap<Subject, Times>,
    next: BTreeMap<Subject, Times>,
}

impl<N: Fn(&Subject) -> Vec<Subject>> Together<N> {
    /// Knows what has a sensor in common with a subject.
    pub fn new(neighbours: N) -> Self {
        let (found, asked, next) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self { neighbours, found, asked, next }
    }

    /// Begins at a subject of which something is told otherwise since then (Unix milliseconds).
    pub fn begin(&mut self, subject: &Subject, since: i64) {
        let near = (self.neighbours)(subject);
        near.into_iter().chain([subject.clone()]).for_each(|it| self.want(it, (since, i64::MAX)));
    }

    fn want(&mut self, subject: Subject, (from, to): Times) {
        let known = self.asked.get(&subject);
        if known.is_some_and(|known| known.0 <= from && to <= known.1) {
            return;
        }
        let wide = |a: Times, b: &Times| (a.0.min(b.0), a.1.max(b.1));
        let all = known.into_iter().chain(self.next.get(&subject)).fold((from, to), wide);
        self.next.insert(subject, all);
    }

    /// What is asked for: the problems of these subjects that last at any time of these.
    pub fn asks(&mut self) -> Vec<(Subject, Times)> {
        if self.found.len() > MOST {
            return Vec::new();
        }
        let next: Vec<_> = std::mem::take(&mut self.next).into_iter().collect();
        self.asked.extend(next.iter().cloned());
        next
    }

    /// Adds a problem of a subject.
    pub fn add(&mut self, subject: &Subject, episode: Episode) {
        let trouble = Trouble { subject: subject.clone(), episode };
        if self.found.insert((subject.clone(), episode.key()), trouble).is_none() {
            let until = episode.resolved.map_or(i64::MAX, |turn| turn.at);
            for near in (self.neighbours)(subject) {
                self.want(near, (episode.opened.at, until));
            }
        }
    }

    /// What was found.
    pub fn troubles(self) -> Vec<Trouble> {
        self.found.into_values().collect()
    }
}
