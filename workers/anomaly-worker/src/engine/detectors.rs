//! What looks at the readings of one device: each remembers little, and the same however many
//! readings there were.

use serde::{Deserialize, Serialize};

use super::{DeviceRule, Drift, Kind, Outlier, Sample, Seasonal, Threshold, episode::exact};

/// Of a normal distribution, the standard deviation is so many mean absolute deviations: √(π/2).
const DEVIATION: f64 = 1.253_314_137_315_500_3;
/// The weight of the newest reading, once there were enough.
const WEIGHT: f64 = 0.05;
/// What is further away than so many standard deviations teaches no more than what is there.
const CLIP: f64 = 3.0;
/// The same while little is known: so far apart are those of a signal with few steps.
const EARLY: f64 = 20.0;
/// By so many readings it begins: by the one in the middle, since any of them may stand out.
const FIRST: u32 = 3;

/// A standard deviation is taken to be no less than so much of the level, or of one.
const LEAST: f64 = 0.001;

/// What is further from zero than this is taken to be so far, where levels are subtracted and
/// squared: levels can be anything finite, and what is remembered must stay finite, too.
const FARTHEST: f64 = 1e100;

/// What a detector is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) now: Sample,
    pub(super) before: Option<Sample>,
    /// Whether the problem that it tells is open.
    pub(super) open: bool,
}

/// A detector with what it remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Detector {
    Threshold,
    Range,
    Rate,
    /// Where the level was when it last moved.
    Stuck(Option<Sample>),
    Drift(Sums),
    /// A level for each part of the period.
    Seasonal(Vec<Level>),
    Outlier(Level),
}

/// Mean and deviation of the first readings, and the sums of what came after. As long as there are fewer
/// than [`FIRST`], the sums are these readings.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    count: u32,
    #[serde(with = "exact")]
    mean: f64,
    /// The sum of squared deviations (B. P. Welford, Technometrics 4, 1962).
    #[serde(with = "exact")]
    squares: f64,
    #[serde(with = "exact")]
    up: f64,
    #[serde(with = "exact")]
    down: f64,
}

/// A level and how far readings are from it. As long as there are fewer than [`FIRST`], these readings.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Level {
    count: u32,
    #[serde(with = "exact")]
    mean: f64,
    #[serde(with = "exact")]
    deviation: f64,
}

impl Detector {
    /// The detectors of a rule, in the order of their kinds.
    pub(super) fn of(rule: &DeviceRule) -> impl Iterator<Item = Self> {
        let seasons = |it: Seasonal| vec![Level::default(); it.buckets.into()];
        [
            rule.threshold.map(|_| Self::Threshold),
            rule.range.map(|_| Self::Range),
            rule.rate.map(|_| Self::Rate),
            rule.stuck.map(|_| Self::Stuck(None)),
            rule.drift.map(|_| Self::Drift(Sums::default())),
            rule.seasonal.map(|it| Self::Seasonal(seasons(it))),
            rule.outlier.map(|_| Self::Outlier(Level::default())),
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn count(rule: &DeviceRule) -> usize {
        [
            rule.threshold.is_some(),
            rule.range.is_some(),
            rule.rate.is_some(),
            rule.stuck.is_some(),
            rule.drift.is_some(),
            rule.seasonal.is_some(),
            rule.outlier.is_some(),
        ]
        .into_iter()
        .map(usize::from)
        .sum()
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Threshold => Kind::Threshold,
            Self::Range => Kind::Range,
            Self::Rate => Kind::Rate,
            Self::Stuck(_) => Kind::Stuck,
            Self::Drift(_) => Kind::Drift,
            Self::Seasonal(_) => Kind::Seasonal,
            Self::Outlier(_) => Kind::Outlier,
        }
    }

    /// The bytes of its table of seasons, if it has one.
    pub(super) fn seasons(&self) -> usize {
        match self {
            Self::Seasonal(levels) => levels.capacity() * size_of::<Level>(),
            _ => 0,
        }
    }

    pub(super) fn is_wanted(&self, rule: &DeviceRule) -> bool {
        Self::of(rule).any(|it| it.kind() == self.kind())
    }

    /// Looks at the next reading; whether it is wrong. What the rule does not have is never wrong.
    pub(super) fn look(&mut self, rule: &DeviceRule, seen: Seen) -> bool {
        let level = seen.now.filling;
        match self {
            Self::Threshold => rule.threshold.is_some_and(|it| is_beyond(it, level, seen.open)),
            Self::Range => rule.range.is_some_and(|it| !(it.min..=it.max).contains(&level)),
            Self::Rate => rule.rate.zip(seen.before).is_some_and(|(rate, before)| {
                let passed = (seen.now.at - before.at) as f64;
                let moved = (bounded(level) - bounded(before.filling)).abs();
                passed > 0.0 && moved * rate.per as f64 > rate.most * passed
            }),
            Self::Stuck(anchor) => rule.stuck.is_some_and(|stuck| {
                let moved =
                    |it: &Sample| (bounded(level) - bounded(it.filling)).abs() > stuck.within;
                let since = *anchor.get_or_insert(seen.now);
                if moved(&since) {
                    *anchor = Some(seen.now);
                    return false;
                }
                seen.now.at - since.at >= stuck.lasting
            }),
            Self::Drift(sums) => rule.drift.is_some_and(|drift| sums.look(drift, level)),
            Self::Seasonal(levels) => rule.seasonal.is_some_and(|seasonal| {
                let buckets = levels.len() as i64;
                let part = seen.now.at.rem_euclid(seasonal.period) * buckets / seasonal.period;
                let found = levels.get_mut(part as usize);
                found.is_some_and(|it| it.look(&seasonal.like(), level))
            }),
            Self::Outlier(known) => rule.outlier.is_some_and(|it| known.look(&it, level)),
        }
    }
}

fn bounded(level: f64) -> f64 {
    level.clamp(-FARTHEST, FARTHEST)
}

fn is_beyond(threshold: Threshold, level: f64, open: bool) -> bool {
    let slack = if open { threshold.hysteresis } else { 0.0 };
    threshold.above.is_some_and(|above| level > above - slack)
        || threshold.below.is_some_and(|below| level < below + slack)
}

impl Seasonal {
    fn like(&self) -> Outlier {
        Outlier { deviations: self.deviations, least: self.least, warm_up: self.warm_up }
    }
}

impl Level {
    /// Compares with what was known before, and learns.
    fn look(&mut self, rule: &Outlier, level: f64) -> bool {
        if !(self.mean.is_finite() && self.deviation.is_finite()) {
            // As it was once stored.
            *self = Self::default();
        }
        let level = bounded(level);
        if self.count < FIRST {
            match self.count {
                0 => self.mean = level,
                1 => self.deviation = level,
                _ => (self.mean, self.deviation) = middle([self.mean, self.deviation, level]),
            }
            self.count += 1;
            return false;
        }
        // What has stood still, or has few steps, must not make every step an outlier.
        let least = LEAST * self.mean.abs().max(1.0);
        let (far, sigma) = (level - self.mean, (self.deviation * DEVIATION).max(least));
        let known = self.count >= rule.warm_up;
        let wrong = known && far.abs() > rule.least && far.abs() > rule.deviations * sigma;
        // Early on every reading counts alike.
        let weight = (1.0 / f64::from(self.count + 1)).max(WEIGHT);
        let clip = if known { CLIP } else { EARLY };
        let most = (clip * sigma).max(rule.least);
        let far = far.clamp(-most, most);
        self.mean += weight * far;
        self.deviation += weight * (far.abs() - self.deviation);
        self.count = self.count.saturating_add(1);
        wrong
    }
}

impl Sums {
    fn look(&mut self, rule: Drift, level: f64) -> bool {
        if ![self.mean, self.squares, self.up, self.down].iter().all(|it| it.is_finite()) {
            *self = Self::default();
        }
        let level = bounded(level);
        if self.count < rule.warm_up.max(FIRST) {
            self.learn(level);
            return false;
        }
        let far = (level - self.mean) / self.sigma();
        // Bounded, so that what has come back is told to have come back.
        let most = 2.0 * rule.most;
        self.up = (self.up + far - rule.slack).clamp(0.0, most);
        self.down = (self.down - far - rule.slack).clamp(0.0, most);
        self.up.max(self.down) > rule.most
    }

    fn learn(&mut self, level: f64) {
        let sigma = self.sigma();
        self.count += 1;
        match self.count {
            1 => self.up = level,
            2 => self.down = level,
            FIRST => {
                let (mean, near) = middle([self.up, self.down, level]);
                let squares = f64::from(FIRST) * near * near;
                *self = Self { count: FIRST, mean, squares, up: 0.0, down: 0.0 };
            }
            count => {
                let far = (level - self.mean).clamp(-EARLY * sigma, EARLY * sigma);
                self.mean += far / f64::from(count);
                self.squares += far * far * (1.0 - 1.0 / f64::from(count));
            }
        }
    }

    /// The standard deviation. A signal that stood still while it was learnt must not make every step a
    /// drift.
    fn sigma(&self) -> f64 {
        let least = LEAST * self.mean.abs().max(1.0);
        (self.squares / f64::from(self.count.max(1))).sqrt().max(least)
    }
}

/// The one of three in the middle, and how far the nearer of the others is from it.
fn middle(mut levels: [f64; 3]) -> (f64, f64) {
    levels.sort_unstable_by(f64::total_cmp);
    let [low, middle, high] = levels;
    (middle, (middle - low).min(high - middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(levels: impl IntoIterator<Item = f64>) -> Vec<bool> {
        let (mut level, rule) = (Level::default(), Outlier::default());
        levels.into_iter().map(|it| level.look(&rule, it)).collect()
    }

    #[test]
    fn an_outlier_is_told_right_after_the_warm_up_however_high_the_level() {
        let warm_up = Outlier::default().warm_up as usize;
        for high in [0.0_f64, 100.0, 1e6] {
            let noise = |n: usize| high + [0.0, 1.0, -1.0][n % 3] * high.max(1.0) / 100.0;
            let far = high + high.max(1.0) / 4.0;
            let levels = (0..warm_up).map(noise).chain([far]);
            let found = found(levels);
            assert!(!found[..warm_up].contains(&true) && found[warm_up], "{high}");
        }
    }

    /// A number from −1 to 1 that looks random: the golden ratio's multiples.
    fn noise(number: u32) -> f64 {
        (f64::from(number) * 0.618_033_988_749_895).fract() * 2.0 - 1.0
    }

    #[test]
    fn a_spike_among_the_first_blinds_neither_the_outlier_nor_the_drift_detector() {
        for (place, spike) in [(9, 1000.0), (0, 1e5), (1, -1e5), (2, 1e5), (20, 1e9), (45, 1e5)] {
            let level = |number: u32| match number {
                60 | 100 => 80.0,
                _ if number == place => spike,
                _ => 50.0 + noise(number),
            };
            let found = found((0..200).map(level));
            let places: Vec<_> =
                found.iter().enumerate().filter(|it| *it.1).map(|it| it.0).collect();
            assert_eq!(places, [60, 100], "{spike} at {place}");
            let (mut sums, rule) = (Sums::default(), Drift::default());
            let drifts = |number: u32| f64::from(number.max(500) - 500) * 0.02;
            let level = |number: u32| match number {
                _ if number == place => spike,
                _ => 50.0 + noise(number) + drifts(number),
            };
            let first = (0..900).find(|number| sums.look(rule, level(*number)));
            assert!(
                first.is_some_and(|it| (500..750).contains(&it)),
                "{spike} at {place}: {first:?}"
            );
        }
    }

    #[test]
    fn what_stood_still_is_no_outlier_by_its_last_digit() {
        let still = std::iter::repeat_n(80.0, 200);
        assert!(!found(still.clone().chain([80.1, 80.0, 79.9])).contains(&true));
        assert!(found(still.chain([90.0])).contains(&true));
    }
}
