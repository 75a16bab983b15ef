//! A machine at its base, and what was told since.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    Episode, Kind,
    told::{Told, packed},
    window::Run,
};
use crate::reading::{Reading, distinct};

/// The most changes of one review: a transaction of DynamoDB takes 100 items.
pub const CHANGES: usize = 90;
/// With more episodes than this told since the base it moves on, whatever the lateness: a row takes
/// 400 KB, and an episode about 20 bytes of it.
const TOLD: usize = 8192;

/// How much of the past is kept open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How late a reading may come, in milliseconds of event time behind the newest of its edge; and
    /// for so long after it another of its number is its duplicate.
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
    /// The level.
    pub filling: f64,
}

/// What is known at a time, and how it goes on.
pub trait Machine: Clone + Default + PartialEq {
    /// What is expected.
    type Rule;
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
    /// after that was told, or too much is open.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    closed: i64,
    stand: M,
    #[serde(with = "packed")]
    told: Box<[Told]>,
    /// Since when (Unix milliseconds) what was told is still to be linked with what was told of
    /// neighbours; [`LINKED`] where nothing is.
    #[serde(default = "linked", skip_serializing_if = "is_linked")]
    unlinked_since: i64,
}

/// After all times.
const LINKED: i64 = i64::MAX;

fn linked() -> i64 {
    LINKED
}

fn is_linked(since: &i64) -> bool {
    *since == LINKED
}

fn never() -> i64 {
    -1
}

fn is_never(at: &i64) -> bool {
    *at == never()
}

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

/// Where a walk through the readings ended.
#[derive(Debug)]
pub struct Walked<M> {
    /// Before the last time at which something was said.
    pub(super) before: M,
    pub(super) end: M,
    /// Whether an episode opened or ended at the last time.
    pub(super) turned: bool,
    pub(super) moments: Vec<Moment>,
    /// How much was said that does not count yet.
    pub(super) pending: usize,
    /// The time of the newest reading.
    pub(super) horizon: i64,
    ended: Vec<Episode>,
    /// Until when no reading that is still in time changes anything, in Unix milliseconds; where it
    /// stood then, and how many had ended.
    bound: i64,
    sure: M,
    surely_ended: usize,
}

impl<M: Machine> Walked<M> {
    /// What no reading that is still in time can change.
    fn certain(&self, rule: &M::Rule) -> HashSet<Told> {
        let mut lasting = Vec::new();
        self.sure.lasting(rule, self.bound.saturating_add(1), &mut lasting);
        self.ended[..self.surely_ended].iter().chain(&lasting).map(Told::of).collect()
    }
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
        let (told, unlinked_since) = (Box::default(), LINKED);
        Self { until: -1, clock: 0, closed: never(), stand, told, unlinked_since }
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

    /// Whether what was told is still to be linked.
    pub(super) fn is_unlinked(&self) -> bool {
        self.unlinked_since != LINKED
    }

    /// The bytes that it takes beside its own.
    pub(super) fn bytes(&self) -> usize {
        self.stand.bytes() + size_of_val(&*self.told)
    }

    /// From when on (Unix milliseconds) something told becomes settled.
    pub(super) fn settles_at(&self, limits: &Limits) -> i64 {
        let open = self.told.iter().filter(|it| !it.settled);
        let settles = |it: &Told| it.turned().saturating_add(limits.lateness).saturating_add(1);
        open.map(settles).min().unwrap_or(i64::MAX)
    }

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

    pub(super) fn conclude(
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
            let next = State { unlinked_since: LINKED, ..next };
            let link = self.is_unlinked().then_some(self.unlinked_since);
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

    /// How far the clock has come, in Unix milliseconds; the same state otherwise.
    #[must_use]
    pub fn with_clock_of<N>(self, other: &State<N>) -> Self {
        Self { clock: other.clock, ..self }
    }

    /// Goes from the base to the newest reading.
    pub(super) fn walk(
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
        let unlinked_since = first.unwrap_or(LINKED).min(self.unlinked_since);
        Self { told: told.into_values().collect(), unlinked_since, ..self.clone() }
    }

    /// The same with a later base, where it can take enough: before this time (Unix milliseconds).
    /// Where there is too much, half of it is settled first, so that it is told as final.
    fn moved_on(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        walked: &Walked<M>,
        before: Option<i64>,
    ) -> Option<Self> {
        let too_much = self.half_of_too_much(limits, &walked.moments);
        if let Some(closed) = too_much.filter(|half| *half > walked.bound) {
            return Some(Self { closed, ..self.clone() });
        }
        let until = before.map_or(walked.bound, |before| walked.bound.min(before - 1));
        let settled = walked.moments.partition_point(|moment| moment.at <= until);
        if until <= self.until || settled < limits.fold && too_much.is_none() {
            return None;
        }
        let mut stand = self.stand.clone();
        for said in walked.moments[..settled].chunk_by(|a, b| a.at == b.at) {
            stand.step(rule, said, &mut Vec::new());
        }
        Some(self.based(rule, until, stand))
    }

    /// Where half of what is open ends, in Unix milliseconds, if that is more than can be kept.
    fn half_of_too_much(&self, limits: &Limits, moments: &[Moment]) -> Option<i64> {
        if moments.len() > limits.most {
            return moments.get(moments.len() / 2).map(|it| it.at);
        }
        if self.told.len() <= TOLD {
            return None;
        }
        let mut opened: Vec<_> = self.told.iter().map(|it| it.opened).collect();
        opened.sort_unstable();
        Some(opened[opened.len() / 2])
    }

    /// Moves the base along readings in order, where everything that they lead to is told; the
    /// same where there is not enough to take. None where only a walk can tell.
    pub(super) fn folded(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        horizon: i64,
        [current, following]: [Run<'_>; 2],
    ) -> Option<Self> {
        let (delay, until) = (M::delay(rule), self.late_until(limits, horizon));
        let [current, following] = [
            current.between(self.until - delay, i64::MAX),
            following.between(self.until, i64::MAX),
        ];
        if current.len() + following.len() > limits.most {
            return None;
        }
        let current = current.between(i64::MIN, until.saturating_sub(delay));
        let following = following.between(i64::MIN, until);
        if current.len() + following.len() < limits.fold.max(1) {
            return Some(self.clone());
        }
        let moment = |of_current, delay| {
            move |(at, filling): (i64, f64)| Moment { at: at + delay, of_current, filling }
        };
        let mut first = current.iter().map(moment(true, delay)).peekable();
        let mut second = following.iter().map(moment(false, 0)).peekable();
        let mut stand = self.stand.clone();
        while let Some(at) = first.peek().into_iter().chain(second.peek()).map(|it| it.at).min() {
            let both = (first.next_if(|it| it.at == at), second.next_if(|it| it.at == at));
            let nothing = &mut Vec::new();
            match both {
                (Some(one), Some(other)) => stand.step(rule, &[one, other], nothing),
                (one, other) => one.or(other).is_some_and(|it| stand.step(rule, &[it], nothing)),
            };
        }
        Some(self.based(rule, until, stand))
    }

    fn based(&self, rule: &M::Rule, until: i64, stand: M) -> Self {
        let mut kept = Vec::new();
        stand.lasting(rule, 0, &mut kept);
        let lasts = |it: &&Told| {
            it.resolved.is_none_or(|end| end > until)
                || kept.iter().any(|kept| kept.key() == it.key())
        };
        let told = self.told.iter().filter(lasts).copied().collect();
        Self { until, stand, told, ..self.clone() }
    }
}
