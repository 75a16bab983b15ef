//! How the base moves on.

use super::{InDoubt, Limits, Machine, Moment, State, TOLD, walk::Walked};
use crate::engine::{told::Told, window::Run};

impl<M: Machine> State<M> {
    /// The same with a later base, where it can take enough: before this time (Unix milliseconds).
    /// Where there is too much, half of it is settled first, so that it is told as final.
    pub(super) fn moved_on(
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
        let numbers = self.numbers_at(rule, limits, walked, until);
        Some(self.based(rule, until, stand).with_numbers(numbers))
    }

    /// What a walk from a base at this time (Unix milliseconds) must know of numbers.
    fn numbers_at(
        &self,
        rule: &M::Rule,
        limits: &Limits,
        walked: &Walked<M>,
        until: i64,
    ) -> InDoubt {
        let there = Self { until, ..self.clone() };
        let needs = there.needs_after(rule, limits);
        [0, 1].map(|end: usize| {
            let (base, until) = (self.bases(rule)[end], there.bases(rule)[end].until);
            walked.sorted[end].in_doubt(limits.lateness, base, needs, until)
        })
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
    pub(in crate::engine) fn folded(
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
        if current.len() + following.len() > limits.most
            || self.numbers().is_some_and(|it| it.iter().any(|it| !it.is_empty()))
        {
            return None;
        }
        let current = current.between(i64::MIN, until.saturating_sub(delay));
        let following = following.between(i64::MIN, until);
        if current.len() + following.len() < limits.fold.max(1) {
            return Some(self.clone());
        }
        let moment = |of_current, delay| {
            move |(at, filling): (i64, f64)| Moment {
                at: at + delay,
                of_current,
                again: false,
                filling,
            }
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
