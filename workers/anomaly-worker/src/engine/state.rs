//! A machine at its base, and what was told since.

mod base;
mod review;
mod walk;

use serde::{Deserialize, Serialize};

use super::{
    Episode, Kind,
    told::{Told, packed},
};
use crate::reading::Base;

pub use self::{
    review::{Change, Review},
    walk::Walked,
};

/// The most changes of one review: a transaction of DynamoDB takes 100 items.
pub const CHANGES: usize = 90;
/// With more episodes than this told since the base it moves on, whatever the lateness: a row takes
/// 400 KB, and an episode about 20 bytes of it.
const TOLD: usize = 8192;

/// How much of the past is kept open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How late a reading may come, in milliseconds of event time behind the newest of its edge; and
    /// for so long after one that counts another of its number is its duplicate.
    pub lateness: i64,
    /// The base moves on once it can take so many readings; at 0 whenever it can.
    pub fold: usize,
    /// With more readings than this since the base it moves on whatever the lateness.
    pub most: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lateness: 3_600_000, fold: 256, most: 32_768 }
    }
}

/// One sensor's new word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// When it counts, in Unix milliseconds: event time, and for an edge's current sensor the
    /// travel delay more.
    pub at: i64,
    /// Whether it is of the edge's current sensor, or of the device.
    pub of_current: bool,
    /// Whether it is a duplicate under another time: the device was heard, and said nothing new.
    pub again: bool,
    /// The level.
    pub filling: f64,
}

/// What is known at a time, and how it goes on.
pub trait Machine: Clone + Default + PartialEq {
    /// What is expected.
    type Rule;
    /// Whether it matters that a device was heard where it said nothing new.
    const HEARS_AGAIN: bool = false;
    /// A machine at its newest reading.
    type Front: Clone + Default + std::fmt::Debug;

    /// How long after its time a word of the current sensor counts, in milliseconds.
    fn delay(_: &Self::Rule) -> i64 {
        0
    }

    /// Takes all that is said at one time, in order; adds the episodes that end. Whether any
    /// opened or ended.
    fn step(&mut self, rule: &Self::Rule, said: &[Moment], ended: &mut Vec<Episode>) -> bool;

    /// Adds what lasts when the clock has come so far (Unix milliseconds), and what ended but may
    /// come back.
    fn lasting(&self, rule: &Self::Rule, clock: i64, found: &mut Vec<Episode>);

    /// Until when (Unix milliseconds) no clock changes anything, if one ever does.
    fn quiet_until(&self, _: &Self::Rule) -> Option<i64> {
        None
    }

    /// Where a walk ended.
    fn front(walked: &Walked<Self>) -> Self::Front;

    /// Takes what is said next; whether it is certain that no episode opened or ended. Where it is
    /// not, only a walk tells how things stand.
    fn hear(front: &mut Self::Front, rule: &Self::Rule, moment: Moment) -> bool;

    /// The bytes that it takes beside its own, without tables of seasons.
    fn bytes(&self) -> usize;

    /// The same of a front.
    fn bytes_of(front: &Self::Front) -> usize;
}

/// What tells the episodes of a machine apart: what keeps them apart in the table, and the time of
/// opening.
pub type Key = (Option<Kind>, i64);

/// A machine where it stood at its base, and the episodes since, as they were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State<M> {
    /// What happened until then (Unix milliseconds) is settled.
    until: i64,
    /// How far the clock has come, in Unix milliseconds, where silence was looked for.
    #[serde(default)]
    clock: i64,
    /// What happened until then (Unix milliseconds) is settled, too: a device was silent for long
    /// after that was told, nobody said anything at an edge for long, or too much is open.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    closed: i64,
    stand: M,
    #[serde(with = "packed")]
    told: Box<[Told]>,
    /// What most machines have nothing of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rare: Option<Box<Rare>>,
}

/// What a state seldom has, so that it costs the others one word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Rare {
    /// Since when (Unix milliseconds) what was told is still to be linked with what was told of
    /// neighbours; [`LINKED`] where nothing is.
    unlinked_since: i64,
    /// Of each sensor's numbers that came more than once before the base: when the one that counted last
    /// was said (Unix milliseconds), where the readings before the base do not tell it.
    numbers: InDoubt,
}

impl Default for Rare {
    fn default() -> Self {
        Self { unlinked_since: LINKED, numbers: InDoubt::default() }
    }
}

/// Numbers of the current sensor and of the following one, each with the time of the reading that counted.
type InDoubt = [Vec<(u64, i64)>; 2];

/// After all times.
const LINKED: i64 = i64::MAX;

fn never() -> i64 {
    -1
}

fn is_never(at: &i64) -> bool {
    *at == never()
}

impl<M: Machine> Default for State<M> {
    fn default() -> Self {
        Self::beginning(M::default())
    }
}

impl Episode {
    /// What tells it from the others of its machine.
    pub fn key(&self) -> Key {
        (Some(self.kind).filter(|kind| kind.is_of_a_device()), self.opened.at)
    }
}

impl<M: Machine> State<M> {
    /// A machine of which nothing is settled.
    pub fn beginning(stand: M) -> Self {
        Self { until: -1, clock: 0, closed: never(), stand, told: Box::default(), rare: None }
    }

    /// What happened until then (Unix milliseconds) is not compared again.
    pub fn settled_until(&self) -> i64 {
        self.until
    }

    /// A reading that counts at this time or before (Unix milliseconds) comes too late, when the
    /// newest reading is of the time `horizon`: what was told of that time is final.
    pub fn late_until(&self, limits: &Limits, horizon: i64) -> i64 {
        let in_time = horizon.saturating_sub(limits.lateness);
        self.until.max(self.closed).max(in_time.saturating_sub(1))
    }

    /// Whether a reading that counts at this time (Unix milliseconds) is nearly too late, or is, when
    /// the newest reading is of the time `horizon`: half a lateness more of that, and it were.
    pub fn is_nearly_late(&self, limits: &Limits, at: i64, horizon: i64) -> bool {
        at <= self.late_until(limits, horizon).saturating_add(limits.lateness / 2)
    }

    /// The same when the clock has come so far (Unix milliseconds). Where a silence was told a
    /// lateness ago and nothing came since, what it says is final.
    #[must_use]
    pub fn at_clock(mut self, limits: &Limits, clock: i64) -> Self {
        if self.closes(limits, clock) {
            self.closed = self.closed.max(self.clock);
        }
        self.clock = self.clock.max(clock);
        self
    }

    /// Whether a silence becomes final when the clock has come so far (Unix milliseconds).
    pub(super) fn closes(&self, limits: &Limits, clock: i64) -> bool {
        let waits = |it: &Told| it.kind == Kind::Silence && it.resolved.is_none() && !it.settled;
        clock.saturating_sub(self.clock) > limits.lateness && self.told.iter().any(waits)
    }

    /// The same where what happened until then (Unix milliseconds) is final: nothing came for so long that
    /// nothing more is waited for.
    #[must_use]
    pub fn closed_at(self, at: i64) -> Self {
        Self { closed: self.closed.max(at), ..self }
    }

    /// The same, had all that lasts ended then (Unix milliseconds): where it is looked at again,
    /// what still lasts is told again. None where nothing lasts.
    pub fn ended_at(&self, at: i64) -> Option<Self> {
        let ended = |it: &Told| match it.resolved {
            None => Told { resolved: Some(at.max(it.opened)), settled: true, ..*it },
            Some(_) => *it,
        };
        let lasts = self.told.iter().any(|it| it.resolved.is_none());
        lasts.then(|| Self { told: self.told.iter().map(ended).collect(), ..self.clone() })
    }

    /// The machine at its base.
    pub(super) fn stand(&self) -> &M {
        &self.stand
    }

    /// How far the clock has come, in Unix milliseconds.
    pub(super) fn clock(&self) -> i64 {
        self.clock
    }

    /// The episodes that were told and may still change.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// The readings after this time (Unix milliseconds) are what a review needs.
    pub fn needs_after(&self, rule: &M::Rule, limits: &Limits) -> i64 {
        let needs = self.until.saturating_sub(limits.lateness);
        needs.saturating_sub(M::delay(rule)).max(-1)
    }

    /// What is known of the numbers of the current sensor and of the following one.
    fn bases(&self, rule: &M::Rule) -> [Base<'_>; 2] {
        let known = |end: usize| self.numbers().map_or(&[][..], |it| it[end].as_slice());
        let of_current = self.until.saturating_sub(M::delay(rule));
        [
            Base { until: of_current, counted: known(0) },
            Base { until: self.until, counted: known(1) },
        ]
    }

    /// Since when (Unix milliseconds) what was told is still to be linked.
    fn unlinked_since(&self) -> i64 {
        self.rare.as_ref().map_or(LINKED, |it| it.unlinked_since)
    }

    /// Whether what was told is still to be linked.
    pub(super) fn is_unlinked(&self) -> bool {
        self.unlinked_since() != LINKED
    }

    /// The numbers of which the readings before the base do not tell which counted.
    fn numbers(&self) -> Option<&InDoubt> {
        self.rare.as_ref().map(|it| &it.numbers)
    }

    /// The same with this told since then to be linked.
    fn with_unlinked_since(self, unlinked_since: i64) -> Self {
        let numbers = self.numbers().cloned().unwrap_or_default();
        self.with_rare(Rare { unlinked_since, numbers })
    }

    /// The same with these numbers in doubt.
    fn with_numbers(self, numbers: InDoubt) -> Self {
        let unlinked_since = self.unlinked_since();
        self.with_rare(Rare { unlinked_since, numbers })
    }

    fn with_rare(self, rare: Rare) -> Self {
        Self { rare: (rare != Rare::default()).then(|| Box::new(rare)), ..self }
    }

    /// The bytes that it takes beside its own.
    pub(super) fn bytes(&self) -> usize {
        let in_doubt = |it: &Rare| it.numbers.iter().map(|it| size_of_val(&**it)).sum::<usize>();
        let rare = self.rare.as_ref().map_or(0, |it| size_of::<Rare>() + in_doubt(it));
        self.stand.bytes() + size_of_val(&*self.told) + rare
    }

    /// From when on (Unix milliseconds) something told becomes settled.
    pub(super) fn settles_at(&self, limits: &Limits) -> i64 {
        let open = self.told.iter().filter(|it| !it.settled);
        let settles = |it: &Told| it.turned().saturating_add(limits.lateness).saturating_add(1);
        open.map(settles).min().unwrap_or(i64::MAX)
    }

    /// How far the clock has come, in Unix milliseconds; the same state otherwise.
    #[must_use]
    pub fn with_clock_of<N>(self, other: &State<N>) -> Self {
        Self { clock: other.clock, ..self }
    }
}
