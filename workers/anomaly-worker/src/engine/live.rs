//! The shortcut for readings in order.

use super::{
    DeviceRule, DeviceStand, Kind, Limits, Machine, Moment, Review, State,
    state::Walked,
    window::{Run, Window},
};
use crate::reading::Reading;

/// A machine with where it stands at its newest reading.
#[derive(Debug, Clone)]
pub struct Live<M: Machine> {
    /// The version of the row that the state was read from or written to.
    pub version: u64,
    state: State<M>,
    front: M::Front,
    horizon: i64,
    /// So many readings are still taken before the base may move.
    credit: u32,
    due: Due,
    /// Whether the base is to move as far as it can.
    settle: bool,
}

/// What is to be done before a machine stands where its readings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The base may move, and nothing else changes.
    Base,
    /// A later base is to be written.
    Write,
    /// Nothing, but the next reading needs a review.
    NextReview,
    Review,
}

impl<M: Machine> Live<M> {
    /// A machine that was not looked at yet: it needs a review.
    pub fn new(version: u64, state: State<M>) -> Self {
        let (front, horizon, credit) = (M::Front::default(), -1, 0);
        Self { version, front, horizon, credit, due: Due::Review, settle: false, state }
    }

    /// Has the next looks move the base as far as they can.
    pub fn settle(&mut self) {
        (self.settle, self.due) = (true, Due::Review);
    }

    /// What was told.
    pub fn state(&self) -> &State<M> {
        &self.state
    }

    /// Whether it needs a review.
    pub fn is_stale(&self) -> bool {
        !matches!(self.due, Due::Nothing | Due::NextReview)
    }

    /// Has the next look be a review of all readings.
    pub fn outdate(&mut self) {
        self.due = Due::Review;
    }

    /// Takes a reading that is newer than all of its sensor, and no duplicate; whether no review is
    /// needed. The window is that of the current sensor, or of the device.
    pub fn push(
        &mut self,
        rule: &M::Rule,
        limits: &Limits,
        said: (bool, i64, f64),
        window: &Window,
    ) -> bool {
        let (of_current, at, filling) = said;
        let known = matches!(self.due, Due::Nothing | Due::Base | Due::Write)
            && at >= self.horizon
            && at > self.state.settled_until()
            && at < self.state.settles_at(limits);
        let since = self.horizon;
        self.horizon = since.max(at);
        if !(known
            && self.hear(rule, Moment { at, of_current, again: false, filling }, since, window))
        {
            self.due = Due::Review;
            return false;
        }
        self.credit = self.credit.saturating_sub(1);
        if self.credit == 0 && self.due == Due::Nothing {
            self.due = Due::Base;
        }
        self.due == Due::Nothing
    }

    /// Has a reading count, or what was pending until then.
    fn hear(&mut self, rule: &M::Rule, said: Moment, since: i64, window: &Window) -> bool {
        let (delay, of_current) = (M::delay(rule), true);
        if delay > 0 {
            let Some(pending) = window.packed_after(since - delay) else { return false };
            for (at, filling) in pending.between(i64::MIN, said.at - delay).iter() {
                let moment = Moment { at: at + delay, of_current, again: false, filling };
                if !M::hear(&mut self.front, rule, moment) {
                    return false;
                }
            }
        }
        delay > 0 && said.of_current || M::hear(&mut self.front, rule, said)
    }

    /// Moves the base along readings in order, without a look at all of them; none where that is
    /// not enough.
    pub(super) fn fold<'w>(
        &mut self,
        rule: &M::Rule,
        limits: &Limits,
        runs: impl FnOnce() -> [Option<Run<'w>>; 2],
    ) -> Option<Review<M>> {
        if self.due != Due::Base || self.state.is_unlinked() {
            return None;
        }
        let [Some(current), Some(following)] = runs() else { return None };
        let next = self.state.folded(rule, limits, self.horizon, [current, following])?;
        self.credit = credit(limits, current.len() + following.len());
        self.due = if next == self.state { Due::Nothing } else { Due::Write };
        Some(Review { changes: Vec::new(), corrected: Vec::new(), next, link: None })
    }

    /// Recomputes from all readings that the state [needs](State::needs_after). Where that leads
    /// to nothing that is to be written, readings in order can be pushed again.
    pub fn review(
        &mut self,
        rule: &M::Rule,
        limits: &Limits,
        clock: i64,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Review<M> {
        let state = self.state.clone().at_clock(limits, clock);
        self.review_as(state, rule, limits, current, following)
    }

    /// The same where what happened until then (Unix milliseconds) is final.
    pub fn review_closed(
        &mut self,
        rule: &M::Rule,
        limits: &Limits,
        at: i64,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Review<M> {
        let state = self.state.clone().closed_at(at);
        self.review_as(state, rule, limits, current, following)
    }

    fn review_as(
        &mut self,
        state: State<M>,
        rule: &M::Rule,
        limits: &Limits,
        current: Vec<Reading>,
        following: Vec<Reading>,
    ) -> Review<M> {
        let delay = M::delay(rule);
        let read = current.iter().map(|it| it.at + delay).collect::<Vec<_>>();
        let walked = state.walk(rule, limits, current, following);
        let fold = if self.settle { 0 } else { limits.fold };
        let mut review = state.conclude(rule, &Limits { fold, ..*limits }, &walked);
        // The clock alone is no reason to write.
        if review.next == state {
            review.next = self.state.clone();
        }
        if review.next == self.state {
            let pending = read.iter().filter(|at| **at > walked.horizon).count();
            self.stand_at(limits, &walked);
            // A duplicate that is pending would be heard.
            let heard_twice = pending != walked.pending;
            // What the clock alone tells, a reading may take back.
            let lasting = |clock| {
                let mut found = Vec::new();
                walked.end.lasting(rule, clock, &mut found);
                found
            };
            if heard_twice || lasting(0) != lasting(state.clock()) {
                self.due = Due::NextReview;
            }
        } else {
            self.due = Due::Review;
        }
        review
    }

    /// After a review that led to nothing.
    fn stand_at(&mut self, limits: &Limits, walked: &Walked<M>) {
        self.settle = false;
        self.front = M::front(walked);
        self.horizon = walked.horizon;
        self.credit = credit(limits, walked.moments.len());
        self.due = Due::Nothing;
    }

    /// What was to be written is written.
    pub fn written(&mut self, version: u64, next: State<M>) {
        (self.version, self.state) = (version, next);
        self.due = if self.due == Due::Write { Due::Nothing } else { Due::Review };
    }

    /// Another wrote this.
    pub fn outrun(&mut self, version: u64, state: State<M>) {
        (self.version, self.state, self.due) = (version, state, Due::Review);
    }

    /// The bytes that it takes beside its own.
    pub(super) fn bytes(&self) -> usize {
        self.state.bytes() + M::bytes_of(&self.front)
    }
}

/// How many readings are taken between two looks, when there are so many open.
fn credit(limits: &Limits, open: usize) -> u32 {
    u32::try_from(limits.fold.max(open / 2)).unwrap_or(u32::MAX).max(1)
}

impl Live<DeviceStand> {
    /// The bytes of tables of seasons, at the base and at the newest reading.
    pub(super) fn seasons(&self) -> usize {
        self.state.stand().seasons() + self.front.seasons()
    }

    /// Whether the device is silent when the clock has come so far (Unix milliseconds), though
    /// that was not told, or may be; or whether what was told of it becomes final.
    pub fn is_overdue(&self, rule: &DeviceRule, limits: &Limits, clock: i64) -> bool {
        let told = |it: &super::Told| it.kind == Kind::Silence && it.resolved.is_none();
        let quiet = self.front.quiet_until(rule);
        self.is_stale()
            || self.state.closes(limits, clock)
            || quiet.is_some_and(|until| until < clock) && !self.state.told().iter().any(told)
    }
}
