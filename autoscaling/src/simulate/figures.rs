//! Figures of runs: quantiles, intervals, and who beats whom.

use serde::Serialize;

use super::{Outcome, clairvoyant};
use crate::observed::Millis;

/// A policy's place: what it costs and how long jobs wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Point {
    /// Whose it is, with its setting.
    pub name: String,
    /// Cost relative to the clairvoyant schedule.
    pub cost: Interval,
    /// The median wait, in seconds.
    pub p50: Interval,
    /// What 95 of 100 jobs wait at most, in seconds.
    pub p95: Interval,
    /// What 99 of 100 jobs wait at most, in seconds.
    pub p99: Interval,
    /// The part of the jobs that waits for more than 300 s.
    pub late: Interval,
    /// Jobs killed at work by a scale-in.
    pub killed: Interval,
    /// Jobs that were never done.
    pub undone: Interval,
}

/// The median over seeds, between the least and the most of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The least.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The most.
    pub high: f64,
}

impl Outcome {
    /// The part of the jobs that waited for more than 300 s.
    fn late(&self) -> f64 {
        let late = self.waits.iter().filter(|wait| **wait > 300_000).count();
        late as f64 / self.waits.len().max(1) as f64
    }
}

impl Interval {
    /// Of one value for each seed.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.first().copied(), values.last().copied());
        let count = values.len();
        let middle = values.get(count / 2).copied().unwrap_or_default();
        let other = values.get(count.saturating_sub(1) / 2).copied().unwrap_or_default();
        let median = f64::midpoint(middle, other);
        Self { low: low.unwrap_or_default(), median, high: high.unwrap_or_default() }
    }
}

/// What the part `q` of the values is at most (nearest rank); zero where there are none.
pub fn quantile(values: &[u32], q: f64) -> u32 {
    let mut values = values.to_vec();
    let rank = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    match values.len() {
        0 => 0,
        _ => *values.select_nth_unstable(rank).1,
    }
}

impl Point {
    /// A policy's place, by its runs with one seed each, beside what the clairvoyant schedule costs.
    pub fn of(name: &str, runs: &[Outcome], clairvoyant: Millis) -> Self {
        let over =
            |figure: &dyn Fn(&Outcome) -> f64| Interval::of(runs.iter().map(figure).collect());
        let wait = |part| over(&|run: &Outcome| f64::from(quantile(&run.waits, part)) / 1000.0);
        let cost = clairvoyant.max(1) as f64;
        Self {
            name: name.to_owned(),
            cost: over(&|run| run.cost as f64 / cost),
            p50: wait(0.5),
            p95: wait(0.95),
            p99: wait(0.99),
            late: over(&Outcome::late),
            killed: over(&|run| run.killed as f64),
            undone: over(&|run| run.undone as f64),
        }
    }

    /// Whoever leaves more jobs undone beats nobody: what is not done costs nothing.
    fn beats(&self, other: &Self) -> bool {
        let cheaper = self.cost.median < other.cost.median;
        cheaper && self.p95.median < other.p95.median && self.undone.high <= other.undone.high
    }
}

/// Those of ours that one of the others beats in both cost and p95 wait.
pub fn dominated<'a>(ours: &'a [Point], others: &[Point]) -> Vec<&'a Point> {
    ours.iter().filter(|it| others.iter().any(|other| other.beats(it))).collect()
}

/// Those that none of all beats in both cost and p95 wait, the cheapest first. What nobody can build is
/// no part of it: the clairvoyant schedule beats them all.
pub fn front(all: &[Point]) -> Vec<&Point> {
    let real = || all.iter().filter(|it| it.name != clairvoyant::NAME);
    let mut best: Vec<&Point> = real().filter(|it| !real().any(|other| other.beats(it))).collect();
    best.sort_by(|a, b| a.cost.median.total_cmp(&b.cost.median));
    best
}
