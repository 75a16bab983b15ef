//! Knative's pod autoscaler (KPA).

use std::collections::VecDeque;

use super::divided;
use crate::{
    observed::Millis,
    simulate::{Kill, Order, Scaler, View},
};

const STABLE_WINDOW: Millis = 60_000;
const PANIC_WINDOW: Millis = 6_000;
/// It panics when the short window asks for so many times what is ready.
const PANIC_THRESHOLD: f64 = 2.0;
const MAX_SCALE_UP_RATE: f64 = 1_000.0;
const MAX_SCALE_DOWN_RATE: f64 = 2.0;
const SCALE_TO_ZERO_GRACE: Millis = 30_000;

/// The concurrency of a stable window of 60 s divided by the target, or that of a panic window of
/// 6 s once it asks for twice what is ready; in panic it never shrinks; at most 1,000 times up and
/// half down at a time; to zero after a window without work and a grace time
/// (<https://knative.dev/docs/serving/autoscaling/kpa-specific/>). Pods end what they began.
#[derive(Debug, Clone)]
pub struct Knative {
    /// Jobs at a time of a pod, times the target utilization.
    target: f64,
    past: VecDeque<(Millis, f64)>,
    panic: Option<(Millis, u32)>,
    worked: Millis,
}

impl Knative {
    /// One job at a time, and this part of the pods at work (0.7 by default).
    pub fn new(utilization: f64) -> Self {
        Self { target: utilization, past: VecDeque::new(), panic: None, worked: 0 }
    }

    fn average(&self, now: Millis, window: Millis) -> f64 {
        let within = self.past.iter().filter(|(at, _)| at + window > now);
        let (sum, count) = within.fold((0.0, 0.0), |(sum, n), (_, load)| (sum + load, n + 1.0));
        sum / f64::max(count, 1.0)
    }

    fn note(&mut self, now: Millis, load: f64) {
        self.past.push_back((now, load));
        while self.past.front().is_some_and(|(at, _)| at + STABLE_WINDOW <= now) {
            self.past.pop_front();
        }
        if load > 0.0 {
            self.worked = now;
        }
    }

    fn next(&mut self, now: Millis, ready: u32, load: f64) -> u32 {
        self.note(now, load);
        let at_hand = f64::from(ready.max(1));
        let most = (MAX_SCALE_UP_RATE * at_hand).ceil() as u32;
        let least = (f64::from(ready) / MAX_SCALE_DOWN_RATE).floor() as u32;
        let of = |average: f64| divided(average, self.target);
        let bounded = |wanted: u32| wanted.max(least).min(most);
        let stable = bounded(of(self.average(now, STABLE_WINDOW)));
        let hasty = of(self.average(now, PANIC_WINDOW));
        let alarmed = f64::from(hasty) / at_hand >= PANIC_THRESHOLD;
        self.panicked(now, alarmed, ready);
        match &mut self.panic {
            Some((_, highest)) => {
                *highest = (*highest).max(stable).max(bounded(hasty));
                *highest
            }
            None if stable == 0 && now < self.worked + STABLE_WINDOW + SCALE_TO_ZERO_GRACE => 1,
            None => stable,
        }
    }

    /// Begins a panic, goes on with it, or ends it when there was none for a stable window.
    fn panicked(&mut self, now: Millis, alarmed: bool, ready: u32) {
        self.panic = match (self.panic, alarmed) {
            (Some((_, highest)), true) => Some((now, highest)),
            (None, true) => Some((now, ready)),
            (Some((at, _)), false) if at + STABLE_WINDOW < now => None,
            (panic, false) => panic,
        };
    }
}

impl Scaler for Knative {
    fn every_ms(&self) -> Millis {
        2_000
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        let load = (view.visible + view.in_flight) as f64;
        Order::size(self.next(view.now, view.ready, load), Kill::Drain)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::seen, *};
    use crate::Observed;

    #[test]
    fn the_example_of_the_documentation_ten_at_seventy_percent_is_seven() {
        // A pod for 10 requests at 70% gets its fellow at the eighth: 7 are one pod, 50 are eight.
        let sized = |load| Knative::new(10.0 * 0.7).next(0, 8, load);
        assert_eq!([28.0, 29.0, 50.0].map(sized), [4, 5, 8]);
    }

    #[test]
    fn requests_that_wait_and_that_are_served_count_against_the_pods_that_are_ready() {
        let (nothing, mut it) = (Observed::empty_group(), Knative::new(0.7));
        assert_eq!(it.every_ms(), 2_000);
        let order = it.look(&seen(&nothing, 5, 2, 8, 20));
        assert_eq!((order.desired, order.rest), (10, Kill::Drain));
        // No more than half of those that are ready go at a time.
        assert_eq!(Knative::new(0.7).look(&seen(&nothing, 0, 1, 8, 20)).desired, 4);
    }

    #[test]
    fn it_grows_by_a_thousand_times_what_is_ready_at_most() {
        let sized = |ready| Knative::new(1.0).next(0, ready, 1e6);
        assert_eq!([sized(0), sized(1), sized(7)], [1_000, 1_000, 7_000]);
    }

    /// What it says of four that are ready after half a minute of a load of four, once this load has come.
    fn after(load: f64) -> (u32, bool) {
        let mut it = Knative::new(1.0);
        for n in 0..15 {
            it.next(n * 2_000, 4, 4.0);
        }
        (it.next(30_000, 4, load), it.panic.is_some())
    }

    #[test]
    fn it_panics_where_six_seconds_ask_for_twice_what_is_ready_and_goes_by_a_minute_else() {
        // Of three looks two were at four: (4 + 4 + 13) / 3 is seven, and 16 makes it eight.
        assert_eq!(after(13.0), (5, false), "(15 · 4 + 13) / 16");
        assert_eq!(after(16.0), (8, true));
        assert_eq!(after(40.0), (16, true));
    }

    #[test]
    fn what_came_within_a_minute_counts_in_calm() {
        let mut it = Knative::new(1.0);
        let sizes =
            [(0, 4.0), (59_999, 1.0), (60_000, 1.0)].map(|(now, load)| it.next(now, 4, load));
        assert_eq!(sizes, [4, 3, 2], "(4 + 1) / 2, and then no four any more");
    }

    #[test]
    fn a_panic_is_over_a_minute_after_the_last_look_that_called_for_one() {
        let mut it = Knative::new(1.0);
        for now in [0, 10_000] {
            assert_eq!(it.next(now, 1, 4.0), 4);
        }
        let sizes = [60_000, 70_000, 70_001].map(|now| it.next(now, 4, 1.0));
        assert_eq!(sizes, [4, 4, 2], "half of four at a time");
    }

    #[test]
    fn it_panics_at_twice_what_is_ready_and_does_not_shrink_before_a_stable_window_is_over() {
        let mut it = Knative::new(1.0);
        (0..30).for_each(|n| assert_eq!(it.next(n * 2_000, 4, 4.0), 4));
        let grown = it.next(60_000, 4, 40.0);
        assert_eq!(grown, 16, "(4 + 4 + 40) / 3: the short window counts");
        let after = (31..60).map(|n| it.next(n * 2_000, grown, 4.0));
        assert!(after.into_iter().all(|size| size == grown), "in panic nothing shrinks");
        let calm = (60..100).map(|n| it.next(n * 2_000, grown, 4.0)).last();
        assert_eq!(calm, Some((grown / 2).max(4)));
    }

    #[test]
    fn it_goes_to_zero_after_a_window_without_work_and_its_grace() {
        let mut it = Knative::new(1.0);
        it.next(0, 1, 1.0);
        let sizes = [2_000, 88_000, 90_000].map(|now| it.next(now, 1, 0.0));
        assert_eq!(sizes, [1, 1, 0]);
    }
}
