//! Traces that are made up, each of a kind that breaks one policy or another.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1, LogNormal, Pareto};

use super::{Job, Trace};
use crate::observed::Millis;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A wave a day, four times as high at its top as at its bottom.
    Diurnal,
    /// A steady trickle, and a burst of a hundredth of all jobs within a minute now and then.
    Bursty,
    /// Steady arrivals of which a few take most of the time (Pareto, index 1.5).
    HeavyTailed,
    /// A course: ever more submissions up to a deadline, and hardly any after it.
    DeadlineRush,
}

/// How long a job takes on average, about.
const SERVICE: f64 = 20_000.0;

impl Shape {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("diurnal", Self::Diurnal),
        ("bursty", Self::Bursty),
        ("heavy-tailed", Self::HeavyTailed),
        ("deadline-rush", Self::DeadlineRush),
    ];

    /// A trace of `count` jobs within about `span`.
    pub fn trace(self, count: usize, span: Millis, seed: u64) -> Trace {
        let mut random = StdRng::seed_from_u64(seed);
        let jobs = self.arrivals(count, span as f64, &mut random).into_iter().map(|at| {
            let service = self.service(&mut random).max(1.0) as Millis;
            Job { at: at as Millis, service }
        });
        Trace::new(jobs.collect())
    }

    fn arrivals(self, count: usize, span: f64, random: &mut StdRng) -> Vec<f64> {
        match self {
            Self::Diurnal => thinned(count, span, random, |part| {
                let day = part * span / 86_400_000.0;
                0.625 - 0.375 * (day * std::f64::consts::TAU).cos()
            }),
            Self::Bursty => bursts(count, span, random),
            Self::HeavyTailed => thinned(count, span, random, |_| 1.0),
            Self::DeadlineRush => thinned(count, span, random, |part| match part < 0.9 {
                true => 0.02 + 0.98 * ((part / 0.9 - 1.0) * 12.0).exp(),
                false => 0.01,
            }),
        }
    }

    fn service(self, random: &mut StdRng) -> f64 {
        let drawn = match self {
            Self::HeavyTailed => Pareto::new(SERVICE / 3.0, 1.5).ok().map(|it| it.sample(random)),
            _ => LogNormal::new((SERVICE * 0.6).ln(), 1.0).ok().map(|it| it.sample(random)),
        };
        drawn.unwrap_or(SERVICE).min(7_200_000.0)
    }
}

/// Arrivals at a rate that goes with `rate` (0 to 1) of the part of the span that is over.
fn thinned(count: usize, span: f64, random: &mut StdRng, rate: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let part: f64 = random.random();
        if random.random::<f64>() < rate(part) {
            all.push(part * span);
        }
    }
    all
}

fn bursts(count: usize, span: f64, random: &mut StdRng) -> Vec<f64> {
    let each = (count / 100).max(1);
    let mut all = thinned(count - count / 2, span, random, |_| 1.0);
    while all.len() < count {
        let at = random.random::<f64>() * span;
        let size = each.min(count - all.len());
        let mut time = at;
        all.extend((0..size).map(|_| {
            time += 60_000.0 / each as f64 * exponential(random);
            time
        }));
    }
    all
}

fn exponential(random: &mut StdRng) -> f64 {
    Exp1.sample(random)
}
