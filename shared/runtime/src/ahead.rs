//! How far receives run ahead of the slots.
//!
//! With receives for free slots alone, a slot whose job is shorter than a call stands empty most of
//! the time: N slots and calls of L are never more than N/L messages a second, however short the
//! jobs are. So while the queue is deep and the jobs are short, messages are asked for that will find
//! a slot by the time that they are here: where a job takes S, N·L/S end meanwhile. That is the bound.
//! How much of it is of use is felt for, once in a call's time, by what messages wait here for their
//! start, as a sender feels for what a path carries (Brakmo and Peterson's Vegas, 1994): the bound
//! knows nothing of a processor that is busy.

use std::time::Duration;

use tokio::time::Instant;

use crate::queue::BATCH;

/// Jobs that take more calls' time than this gain next to nothing by it.
const SHORT: f64 = 3.0;
/// The share of a call's time that messages may wait for their start, and what is always little.
const LITTLE: (f64, f64) = (0.5, 0.010);
/// What was learned of a deep queue holds for so long after its last receive.
const FRESH: Duration = Duration::from_secs(1);
/// After messages found no slot in time, nothing is asked for ahead for so long.
const SOBER: Duration = Duration::from_secs(2);
/// What a receive said of its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// It brought about what was asked for: there is more.
    Deep,
    /// It brought some.
    Shallow,
    /// It brought nothing.
    Empty,
}

/// What is known when the next size of the look-ahead is decided on; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Known {
    /// How many slots there are.
    pub(crate) slots: usize,
    /// The most that is allowed.
    pub(crate) most: usize,
    /// What is asked for ahead now.
    pub(crate) ahead: usize,
    /// How long a job has its slot, of the longer ones.
    pub(crate) service: f64,
    /// What a receive takes at its best.
    pub(crate) latency: f64,
    /// How long messages wait here for their start.
    pub(crate) wait: f64,
}

impl Known {
    /// How many jobs end while a receive is on its way, if that is worth anything.
    fn bound(&self) -> usize {
        if self.service > SHORT * self.latency {
            return 0;
        }
        let ends = self.slots as f64 * self.latency / self.service.max(1e-6);
        (ends as usize).min(self.most)
    }

    /// How many messages to ask for beyond the slots from now on.
    pub(crate) fn decide(&self) -> usize {
        let (share, always) = LITTLE;
        let little = (share * self.latency).max(always);
        let next = match self.wait {
            wait if wait <= little => self.ahead + BATCH.max(self.ahead / 2),
            wait if wait <= 2.0 * little => self.ahead,
            _ => self.ahead - self.ahead.div_ceil(4),
        };
        next.min(self.bound())
    }
}

/// A mean that forgets, and how far values are from it (RFC 6298, section 2).
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    known: bool,
    mean: f64,
    deviation: f64,
}

impl Mean {
    fn see(&mut self, value: f64) {
        if !self.known {
            *self = Self { known: true, mean: value, deviation: value / 2.0 };
            return;
        }
        let off = value - self.mean;
        self.deviation += (off.abs() - self.deviation) / 4.0;
        self.mean += off / 8.0;
    }

    /// What few values are above.
    fn high(&self) -> f64 {
        self.mean + 2.0 * self.deviation
    }
}

/// What was learned of jobs and receives, and how far ahead these run.
#[derive(Debug)]
pub(crate) struct Ahead {
    slots: usize,
    most: usize,
    now: usize,
    service: Mean,
    wait: Mean,
    /// The quickest receive; it is forgotten slowly.
    latency: Option<f64>,
    /// The last decision.
    decided: Option<Instant>,
    /// The last receive from a deep queue.
    deep: Option<Instant>,
    sober_until: Option<Instant>,
}

impl Ahead {
    pub(crate) fn new(slots: usize, most: usize) -> Self {
        let (service, wait) = (Mean::default(), Mean::default());
        let (latency, decided, deep, sober_until) = (None, None, None, None);
        Self { slots, most, now: 0, service, wait, latency, decided, deep, sober_until }
    }

    /// The most that can ever be asked for beyond the slots.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many messages may be asked for beyond the slots.
    pub(crate) fn allowed(&self) -> usize {
        let fresh = self.now > 0 && self.deep.is_some_and(|deep| deep.elapsed() <= FRESH);
        if fresh { self.now } else { 0 }
    }

    /// A job had its slot for so long.
    pub(crate) fn served(&mut self, took: Duration) {
        self.service.see(took.as_secs_f64());
    }

    /// A message waited so long for its start.
    pub(crate) fn waited(&mut self, took: Duration) {
        self.wait.see(took.as_secs_f64());
    }

    /// A message found no slot in time and goes back: what was learned is wrong.
    pub(crate) fn misjudged(&mut self) {
        self.now = 0;
        self.sober_until = Some(Instant::now() + SOBER);
    }

    /// A receive came back.
    pub(crate) fn received(&mut self, took: Duration, depth: Depth) {
        match depth {
            Depth::Empty => self.now = 0,
            Depth::Shallow => {}
            Depth::Deep => self.deeply_received(took.as_secs_f64()),
        }
    }

    fn deeply_received(&mut self, took: f64) {
        let (now, best) = (Instant::now(), self.latency.unwrap_or(took));
        // What was asked for ahead before the pause is of another time.
        self.now = self.allowed();
        self.deep = Some(now);
        let latency = if took < best { took } else { best + (took - best) / 256.0 };
        self.latency = Some(latency);
        // What came of the last decision is seen after a call's time.
        let soon = |at: Instant| now.duration_since(at).as_secs_f64() < latency;
        let sober = self.sober_until.is_some_and(|until| now < until);
        if sober || !self.service.known || self.decided.is_some_and(soon) {
            return;
        }
        self.decided = Some(now);
        let (service, wait) = (self.service.high(), self.wait.mean);
        let Self { slots, most, now: ahead, .. } = *self;
        self.now = Known { slots, most, ahead, service, latency, wait }.decide();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known() -> impl Strategy<Value = Known> {
        let times = (0.0..2.0, 0.0..2.0, 0.0..1.0);
        (1usize..300, 0usize..2000, 0usize..2000, times).prop_map(
            |(slots, most, ahead, (service, latency, wait))| Known {
                slots,
                most,
                ahead: ahead.min(most),
                service,
                latency,
                wait,
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_is_asked_for_that_finds_no_slot_when_it_is_here(known in known()) {
            let ahead = known.decide();
            prop_assert!(ahead <= known.most);
            let ends = known.slots as f64 * known.latency / known.service;
            prop_assert!(ahead as f64 <= ends, "{ahead} of {ends}");
        }

        #[test]
        fn jobs_that_are_not_short_are_received_for_free_slots_alone(known in known()) {
            let service = known.latency * SHORT + 0.001;
            prop_assert_eq!(Known { service, ..known }.decide(), 0);
        }

        #[test]
        fn where_messages_wait_it_only_shrinks_and_ends(known in known()) {
            let mut known = Known { wait: known.latency + 0.021, ..known };
            for _ in 0..64 {
                let next = known.decide();
                prop_assert!(next < known.ahead || known.ahead == 0);
                known.ahead = next;
            }
            prop_assert_eq!(known.ahead, 0);
        }

        #[test]
        fn where_nothing_waits_it_grows_to_what_ends_meanwhile(
            slots in 1usize..300, latency in 0.001f64..0.1, share in 0.01f64..3.0,
        ) {
            let service = latency * share;
            let mut known = Known { slots, most: MOST, ahead: 0, service, latency, wait: 0.0 };
            for _ in 0..20 {
                known.ahead = known.decide();
            }
            let ends = (slots as f64 * latency / service) as usize;
            prop_assert_eq!(known.ahead, ends.min(MOST));
        }
    }

    const CALL: Duration = Duration::from_millis(10);
    /// What its worker may ask for ahead.
    const MOST: usize = 512;

    /// A deep queue of jobs that take so long and wait for nothing.
    async fn learned(job: Duration) -> Ahead {
        let mut ahead = Ahead::new(64, MOST);
        for _ in 0..100 {
            tokio::time::advance(CALL).await;
            ahead.served(job);
            ahead.waited(Duration::ZERO);
            ahead.received(CALL, Depth::Deep);
        }
        ahead
    }

    #[tokio::test(start_paused = true)]
    async fn short_jobs_on_a_deep_queue_are_received_ahead_and_long_ones_are_not() {
        assert_eq!(learned(Duration::from_micros(50)).await.allowed(), MOST);
        assert!((58..=64).contains(&learned(CALL).await.allowed()));
        assert_eq!(learned(CALL * 4).await.allowed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_receive_ends_it_and_so_does_a_pause() {
        let mut ahead = learned(CALL).await;
        ahead.received(CALL, Depth::Shallow);
        assert!(ahead.allowed() > 0);
        tokio::time::advance(FRESH + CALL).await;
        assert_eq!(ahead.allowed(), 0);
        ahead.received(CALL, Depth::Deep);
        assert!(ahead.allowed() <= BATCH, "it begins anew");
        ahead.received(CALL, Depth::Empty);
        assert_eq!(ahead.allowed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_long_job_among_short_ones_makes_it_careful() {
        let mut ahead = learned(Duration::from_micros(50)).await;
        ahead.served(Duration::from_secs(1));
        tokio::time::advance(CALL).await;
        ahead.received(CALL, Depth::Deep);
        assert_eq!(ahead.allowed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_message_that_found_no_slot_nothing_is_asked_for_ahead_for_a_while() {
        let mut ahead = learned(CALL).await;
        ahead.misjudged();
        for _ in 0..150 {
            tokio::time::advance(CALL).await;
            ahead.received(CALL, Depth::Deep);
            assert_eq!(ahead.allowed(), 0);
        }
        tokio::time::advance(SOBER).await;
        ahead.received(CALL, Depth::Deep);
        assert!(ahead.allowed() > 0);
    }
}
