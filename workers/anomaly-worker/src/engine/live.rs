//! The shortcut for readings in order.

use std::collections::VecDeque;

use super::{DeviceRule, DeviceStand, Kind, Limits, Machine, Moment, Review, State, state::Walked};
use crate::reading::Reading;

/// A machine with where it stands at its newest reading.
#[derive(Debug, Clone)]
pub struct Live<M> {
    /// The version of the row that the state was read from or written to.
    pub version: u64,
    state: State<M>,
    /// Before the newest time at which something was said.
    before: M,
    end: M,
    /// What was said at that time.
    said: [Option<f64>; 2],
    said_at: i64,
    horizon: i64,
    /// What does not count yet, since it takes a while to the following sensor.
    pending: VecDeque<Moment>,
    /// Readings that are still taken without a review: after so many the base may move.
    credit: u32,
    settles_at: i64,
    stale: bool,
}

impl<M: Machine> Live<M> {
    /// A machine that was not looked at yet: it needs a review.
    pub fn new(version: u64, state: State<M>) -> Self {
        Self {
            version,
            before: M::default(),
            end: M::default(),
            said: [None; 2],
            said_at: -1,
            horizon: -1,
            pending: VecDeque::new(),
            credit: 0,
            settles_at: i64::MAX,
            stale: true,
            state,
        }
    }

    /// What was told.
    pub fn state(&self) -> &State<M> {
        &self.state
    }

    /// Whether only a review can tell what changes.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Has the next look be a review.
    pub fn outdate(&mut self) {
        self.stale = true;
    }

    /// Takes a reading that is newer than all of its sensor, and no duplicate; whether it is
    /// certain that no problem changes.
    pub fn push(&mut self, rule: &M::Rule, of_current: bool, at: i64, filling: f64) -> bool {
        self.stale = self.stale || at < self.horizon || self.credit == 0;
        self.stale = self.stale || at >= self.settles_at;
        if self.stale {
            return false;
        }
        self.credit -= 1;
        self.horizon = at;
        let delay = if of_current { M::delay(rule) } else { 0 };
        let moment = Moment { at: at + delay, of_current, filling };
        self.stale = if delay > 0 {
            self.pending.push_back(moment);
            !self.count_pending(rule, at)
        } else {
            !(self.count_pending(rule, at) && self.count(rule, moment))
        };
        !self.stale
    }

    /// Has what is pending until then count.
    fn count_pending(&mut self, rule: &M::Rule, until: i64) -> bool {
        while let Some(moment) = self.pending.front().copied().filter(|it| it.at <= until) {
            self.pending.pop_front();
            if !self.count(rule, moment) {
                return false;
            }
        }
        true
    }

    fn count(&mut self, rule: &M::Rule, moment: Moment) -> bool {
        let Moment { at, of_current, filling } = moment;
        let end = usize::from(!of_current);
        if at > self.said_at {
            self.before.clone_from(&self.end);
            (self.said, self.said_at) = ([None; 2], at);
        } else if at < self.said_at || self.said[end].is_some() {
            return false;
        } else {
            self.end.clone_from(&self.before);
        }
        self.said[end] = Some(filling);
        let [current, following] = self.said;
        let moment = |of_current, filling| Moment { at, of_current, filling };
        let changed = match (current, following) {
            (Some(a), Some(b)) => {
                self.end.step(rule, &[moment(true, a), moment(false, b)], &mut Vec::new())
            }
            (Some(a), None) => self.end.step(rule, &[moment(true, a)], &mut Vec::new()),
            (None, Some(b)) => self.end.step(rule, &[moment(false, b)], &mut Vec::new()),
            (None, None) => false,
        };
        !changed
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
        let state = self.state.clone().at_clock(clock);
        let walked = state.walk(rule, current, following);
        let mut review = state.conclude(rule, limits, &walked);
        // The clock alone is no reason to write.
        if review.next == state {
            review.next = self.state.clone();
        }
        if review.next == self.state {
            self.settle(rule, limits, walked);
        }
        review
    }

    /// After a review that led to nothing.
    fn settle(&mut self, rule: &M::Rule, limits: &Limits, walked: Walked<M>) {
        let last = walked.moments.last().map_or(-1, |it| it.at);
        (self.said, self.said_at) = ([None; 2], last);
        let mut twice = walked.turned;
        for moment in walked.moments.iter().rev().take_while(|it| it.at == last) {
            let slot = &mut self.said[usize::from(!moment.of_current)];
            twice |= slot.replace(moment.filling).is_some();
        }
        // What the clock alone brought about, the next reading may take back.
        let quiet = walked.end.quiet_until(rule);
        let by_clock = quiet.is_some_and(|until| until < self.state.clock());
        (self.before, self.end) = (walked.before, walked.end);
        self.horizon = walked.horizon;
        self.pending = walked.pending.iter().copied().collect();
        let credit = limits.fold.max(walked.moments.len() / 2) as u32;
        self.credit = if by_clock { 0 } else { credit };
        self.settles_at = self.state.settles_at(limits);
        // What turned at the last time may turn back at the same time: no shortcut for that time.
        if twice {
            self.said = [Some(f64::NAN); 2];
        }
        self.stale = false;
    }

    /// What was to be written is written.
    pub fn written(&mut self, version: u64, next: State<M>) {
        (self.version, self.state, self.stale) = (version, next, true);
    }
}

impl Live<DeviceStand> {
    /// Whether the device is silent when the clock has come so far (Unix milliseconds), though
    /// that was not told, or may be.
    pub fn is_overdue(&self, rule: &DeviceRule, clock: i64) -> bool {
        let told = |it: &super::Episode| it.kind == Kind::Silence && it.resolved.is_none();
        let quiet = self.end.quiet_until(rule);
        self.stale
            || quiet.is_some_and(|until| until < clock) && !self.state.told().iter().any(told)
    }
}
