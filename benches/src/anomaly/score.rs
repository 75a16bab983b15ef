//! How well what was told of a sewer is what was wrong with it.

use std::collections::BTreeSet;

use super::sewer::{Truth, Wrong};

/// A problem counts as the one that was there if it opened so many intervals from when that could be
/// known, at the most.
const NEAR: i64 = 3;

/// A problem as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub wrong: Wrong,
    /// Since when, in milliseconds.
    pub opened: i64,
    /// When it was told first, in milliseconds.
    pub first_told: i64,
    /// Whether it was told to follow from another.
    pub follows: bool,
}

/// How well problems were told.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The part of what was told that was there.
    pub precision: f64,
    /// The part of what was there that was told.
    pub recall: f64,
    /// From when something could be known to when it was told, in milliseconds, in order.
    pub delays: Vec<i64>,
    /// What was told, and what was there.
    pub counts: [usize; 2],
    /// What was there and was not told.
    pub missed: Vec<Truth>,
    /// What was told and was not there.
    pub untrue: Vec<Told>,
}

impl Score {
    /// Of everything that was told, under an interval in milliseconds.
    pub fn of_all(told: &[Told], truth: &[Truth], interval: i64) -> Self {
        Self::compared(told.to_vec(), truth.to_vec(), truth.len(), interval, |taken, it| {
            *taken == *it
        })
    }

    /// Of causes alone: of what belongs together one is to be told as the cause.
    pub fn of_causes(told: &[Told], truth: &[Truth], interval: i64) -> Self {
        let told = told.iter().filter(|it| !it.follows).copied().collect();
        let groups: BTreeSet<usize> = truth.iter().map(|it| it.group).collect();
        let causes = truth.iter().filter(|it| it.cause).copied().collect();
        Self::compared(told, causes, groups.len(), interval, |taken, it| taken.group == it.group)
    }

    /// What is told takes from `left` the nearest that it can be, and all that is `taken` with it.
    fn compared(
        told: Vec<Told>,
        mut left: Vec<Truth>,
        real: usize,
        interval: i64,
        with: impl Fn(&Truth, &Truth) -> bool,
    ) -> Self {
        let counts = [told.len(), real];
        let (mut untrue, mut delays) = (Vec::new(), Vec::new());
        for it in told {
            let far = |truth: &&Truth| (truth.since - it.opened).abs();
            let same = left.iter().filter(|truth| truth.wrong == it.wrong);
            let Some(taken) =
                same.min_by_key(far).copied().filter(|it| far(&it) <= NEAR * interval)
            else {
                untrue.push(it);
                continue;
            };
            delays.push(it.first_told - taken.since);
            left.retain(|it| !with(&taken, it));
        }
        delays.sort_unstable();
        let part = |of: usize| if of == 0 { 1.0 } else { delays.len() as f64 / of as f64 };
        let (precision, recall) = (part(counts[0]), part(counts[1]));
        Self { precision, recall, delays, counts, missed: left, untrue }
    }
}
