//! What is expected of an edge and of a device, and what a pair of levels means.

use serde::{Deserialize, Serialize};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Less arrives than flows.
    Obstruction,
    /// More arrives than flows.
    Problem,
    /// A device is not heard.
    Silence,
    /// A level is above or below what is allowed.
    Threshold,
    /// A level is outside of what the device can measure.
    Range,
    /// A level changes faster than it can.
    Rate,
    /// A level does not change any more.
    Stuck,
    /// Levels move away from where they began.
    Drift,
    /// A level is not what it is at this time of the season.
    Seasonal,
    /// A level is far from those shortly before.
    Outlier,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Obstruction,
        Self::Problem,
        Self::Silence,
        Self::Threshold,
        Self::Range,
        Self::Rate,
        Self::Stuck,
        Self::Drift,
        Self::Seasonal,
        Self::Outlier,
    ];

    /// As it is written; the first two as the original service wrote them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Obstruction => "OBSTRUCTION",
            Self::Problem => "PROBLEM",
            Self::Silence => "SILENCE",
            Self::Threshold => "THRESHOLD",
            Self::Range => "RANGE",
            Self::Rate => "RATE",
            Self::Stuck => "STUCK",
            Self::Drift => "DRIFT",
            Self::Seasonal => "SEASONAL",
            Self::Outlier => "OUTLIER",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether it is told of one device, and not of two neighbours.
    pub fn is_of_a_device(self) -> bool {
        !matches!(self, Self::Obstruction | Self::Problem)
    }
}

/// How the levels of an edge are compared.
///
/// The following level is expected at `ratio` times the current one. The default is the table of
/// the original service over its levels 100 (correct flow), 50 (low) and 0 (none), read as a
/// comparison: equal is OK, less at the following sensor is an obstruction, more is a problem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What part of the current level is expected at the following sensor; above zero.
    pub ratio: f64,
    /// How far a level may be from what is expected; not negative.
    pub tolerance: f64,
    /// The same as a part of what is expected, beside `tolerance`; not negative.
    pub relative: f64,
    /// More than this below what is expected is an obstruction; else the tolerances decide.
    pub obstruction: Option<f64>,
    /// More than this above what is expected is a problem; else the tolerances decide.
    pub problem: Option<f64>,
    /// A problem ends only so far within what is allowed; not negative.
    pub hysteresis: f64,
    /// How long what passes the current sensor takes to the following one, in milliseconds.
    pub delay: i64,
    /// How far the clocks of both may be apart, in milliseconds: nothing opens by as much more as
    /// both have lately moved, the same way, within this time.
    pub clock: i64,
    /// How old a sensor's last word may be, in milliseconds, to be compared: current, following.
    /// An older one means that the sensor is silent, not that nothing flows.
    pub stale: [Option<i64>; 2],
    /// When an answer counts.
    pub confirm: Confirm,
}

/// When an answer that differs from the one before counts, and when it is a new problem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confirm {
    /// An answer must have lasted so long, in milliseconds.
    pub debounce: i64,
    /// An answer must have been given so often in a row; from 1.
    pub count: u32,
    /// What levels were beyond their bound must add up to so much, answer by answer; not negative. Then
    /// a contrary answer takes off what it is on the other side, and the row ends when nothing is left:
    /// a cumulative sum (E. S. Page, Continuous Inspection Schemes, Biometrika 41, 1954), which tells
    /// when a change began though some readings in between say otherwise. Of edges alone.
    pub sum: f64,
    /// A problem that comes back within so many milliseconds is the same problem, flapping.
    pub flap: i64,
    /// An answer that begins with a sensor's word is dated in the middle of the time since the sensor's word
    /// before, if that is no longer than this, in milliseconds: it began at any time between the two. A word
    /// that comes while the other sensor's is stale, by no more than this, dates what is answered later. After
    /// a longer time nobody knows, and where this is 0 it is dated by the word. Of edges alone.
    pub between: i64,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { debounce: 0, count: 1, sum: 0.0, flap: 0, between: 0 }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            tolerance: 0.0,
            relative: 0.0,
            obstruction: None,
            problem: None,
            hysteresis: 0.0,
            delay: 0,
            clock: 0,
            stale: [None; 2],
            confirm: Confirm::default(),
        }
    }
}

impl Rule {
    /// What is wrong, if anything is, where nothing was wrong before.
    pub fn compare(&self, current: f64, following: f64) -> Option<Kind> {
        self.gap(current, following, 0.0).answer(None)
    }

    /// How far apart the levels are, where they may differ by so much more before it counts.
    #[inline]
    pub(super) fn gap(&self, current: f64, following: f64, slack: f64) -> Gap {
        let expected = (self.ratio * current).clamp(f64::MIN, f64::MAX);
        let allowed = self.tolerance + self.relative * expected.abs();
        let bounds = [self.problem, self.obstruction].map(|own| own.unwrap_or(allowed));
        Gap { more: following - expected, bounds, slack, hysteresis: self.hysteresis }
    }
}

/// How much more arrives than is expected, and how much may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    more: f64,
    /// Of a problem, and of an obstruction.
    bounds: [f64; 2],
    slack: f64,
    hysteresis: f64,
}

impl Gap {
    /// What is wrong, if anything is, where this was wrong before.
    #[inline]
    pub(super) fn answer(&self, open: Option<Kind>) -> Option<Kind> {
        match () {
            () if self.beyond(Kind::Problem, open) > 0.0 => Some(Kind::Problem),
            () if self.beyond(Kind::Obstruction, open) > 0.0 => Some(Kind::Obstruction),
            () => None,
        }
    }

    /// How far the levels are on the side of an answer that differs from what was wrong before.
    pub(super) fn speaks_for(&self, answer: Option<Kind>, open: Option<Kind>) -> f64 {
        match (answer, open) {
            (Some(kind), _) => self.beyond(kind, open),
            (None, Some(kind)) => -self.beyond(kind, open),
            (None, None) => 0.0,
        }
    }

    /// How far the levels are beyond the bound of an obstruction, or else of a problem.
    #[inline]
    fn beyond(&self, kind: Kind, open: Option<Kind>) -> f64 {
        let [problem, obstruction] = self.bounds;
        let (more, bound) = match kind {
            Kind::Obstruction => (-self.more, obstruction),
            _ => (self.more, problem),
        };
        // What may be for the clocks' sake opens nothing, and ends nothing.
        more - match open == Some(kind) {
            true => (bound - self.hysteresis).max(0.0),
            false => bound + self.slack,
        }
    }
}

/// What is expected of a device beside its neighbours. The parts that are not there are not
/// looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceRule {
    /// Where the device is, for those who listen to a part only.
    pub zone: Option<String>,
    /// A reading is expected so often, in milliseconds.
    pub interval: Option<i64>,
    /// After so many milliseconds without a reading the device is silent.
    pub silence: Option<i64>,
    /// Levels that are allowed.
    pub threshold: Option<Threshold>,
    /// Levels that can be.
    pub range: Option<Range>,
    /// How fast a level can change.
    pub rate: Option<Rate>,
    /// How long a level can stay.
    pub stuck: Option<Stuck>,
    /// How far levels may move from where they began.
    pub drift: Option<Drift>,
    /// How far a level may be from what it is at this time of the season.
    pub seasonal: Option<Seasonal>,
    /// How far a level may be from those shortly before.
    pub outlier: Option<Outlier>,
    /// When an answer counts, for all but silence.
    pub confirm: Confirm,
}

impl DeviceRule {
    /// Whether anything is looked at of the device alone.
    pub fn is_watched(&self) -> bool {
        self.kinds().next().is_some()
    }

    /// What is looked at of the device alone.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        let looked_at = [
            (self.silence.is_some(), Kind::Silence),
            (self.threshold.is_some(), Kind::Threshold),
            (self.range.is_some(), Kind::Range),
            (self.rate.is_some(), Kind::Rate),
            (self.stuck.is_some(), Kind::Stuck),
            (self.drift.is_some(), Kind::Drift),
            (self.seasonal.is_some(), Kind::Seasonal),
            (self.outlier.is_some(), Kind::Outlier),
        ];
        looked_at.into_iter().filter(|it| it.0).map(|it| it.1)
    }
}

/// Levels that are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The highest.
    pub above: Option<f64>,
    /// The lowest.
    pub below: Option<f64>,
    /// It ends only so far within; not negative.
    pub hysteresis: f64,
}

/// Levels that a device can measure: what is outside is its fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// How fast a level can change, from one reading to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// So much …
    pub most: f64,
    /// … in so many milliseconds.
    pub per: i64,
}

/// How long a level can stay where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stuck {
    /// In milliseconds.
    pub lasting: i64,
    /// Levels that differ by no more than this are the same.
    pub within: f64,
}

/// A two-sided cumulative sum (E. S. Page, Continuous Inspection Schemes, Biometrika 41, 1954) of
/// deviations from mean and standard deviation of the first readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// The sum, in standard deviations, that is too much.
    pub most: f64,
    /// What of each deviation is not summed, in standard deviations.
    pub slack: f64,
    /// How many readings tell mean and deviation.
    pub warm_up: u32,
}

impl Default for Drift {
    fn default() -> Self {
        Self { most: 12.0, slack: 1.0, warm_up: 100 }
    }
}

/// A mean and a mean deviation for each part of a period, both exponentially weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seasonal {
    /// The period in milliseconds, counted from the Unix epoch.
    pub period: i64,
    /// Its parts; at most 168.
    pub buckets: u16,
    /// So many standard deviations are too many.
    pub deviations: f64,
    /// A smaller difference is none.
    pub least: f64,
    /// How many readings of a part come before it is compared.
    pub warm_up: u32,
}

impl Default for Seasonal {
    fn default() -> Self {
        Self { period: 86_400_000, buckets: 24, deviations: 5.0, least: 0.0, warm_up: 60 }
    }
}

/// An exponentially weighted mean (S. W. Roberts, Control Chart Tests Based on Geometric Moving
/// Averages, Technometrics 1, 1959) and mean deviation, of readings clipped at three standard
/// deviations (P. J. Huber, Robust Estimation of a Location Parameter, 1964), so that what stands
/// out does not teach; at twenty in the warm-up, which begins with the one in the middle of three.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// So many standard deviations are too many.
    pub deviations: f64,
    /// A smaller difference is none.
    pub least: f64,
    /// How many readings come before one is compared.
    pub warm_up: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self { deviations: 6.0, least: 0.0, warm_up: 50 }
    }
}
