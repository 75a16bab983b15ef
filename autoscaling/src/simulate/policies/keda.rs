//! KEDA's aws-sqs scaler, whose metric the Horizontal Pod Autoscaler acts on.

use std::collections::VecDeque;

use super::divided;
use crate::{
    observed::Millis,
    simulate::{Kill, Order, Scaler, View},
};

/// A ratio that is off by less changes nothing.
const TOLERANCE: f64 = 0.1;
/// The highest recommendation of this time holds when scaling down, and it is as long before the
/// last pod goes (`cooldownPeriod`).
const STABLE: Millis = 300_000;

/// Messages that wait and that are at work (`scaleOnInFlight`) divided by `queueLength`, checked
/// every 15 s; at most twice as many or four more at a time; down to the highest of the last 300 s
/// (<https://keda.sh/docs/latest/scalers/aws-sqs/>,
/// <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>).
///
/// Of one with `protected` pods those at work are spared, which Kubernetes alone does not do.
#[derive(Debug, Clone)]
pub struct Keda {
    queue_length: f64,
    rest: Kill,
    past: VecDeque<(Millis, u32)>,
}

impl Keda {
    /// Wants a pod for each `queue_length` messages.
    pub fn new(queue_length: f64, protected: bool) -> Self {
        let rest = if protected { Kill::Idle } else { Kill::Any };
        Self { queue_length, rest, past: VecDeque::new() }
    }

    /// What the HPA computes: `ceil(metric / target)`, or the present where it is near enough.
    fn recommended(&self, current: u32, metric: f64) -> u32 {
        let ratio = metric / (f64::from(current) * self.queue_length);
        if current > 0 && (ratio - 1.0).abs() <= TOLERANCE {
            return current;
        }
        divided(metric, self.queue_length)
    }

    /// What it becomes: no more than the scale-up policies allow, no less than was recommended
    /// within the stabilization window.
    fn next(&mut self, now: Millis, current: u32, metric: f64) -> u32 {
        let recommended = self.recommended(current, metric);
        self.past.push_back((now, recommended));
        while self.past.front().is_some_and(|(at, _)| at + STABLE < now) {
            self.past.pop_front();
        }
        if recommended > current {
            // From zero KEDA makes one, and the HPA goes on from there.
            let most = if current == 0 { 1 } else { (current * 2).max(current + 4) };
            return recommended.min(most);
        }
        let highest = self.past.iter().map(|(_, wanted)| *wanted).max().unwrap_or(recommended);
        highest.min(current)
    }
}

impl Scaler for Keda {
    fn every_ms(&self) -> Millis {
        15_000
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        let metric = (view.visible + view.in_flight) as f64;
        Order::size(self.next(view.now, view.live, metric), self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::seen, *};
    use crate::Observed;

    #[test]
    fn the_example_of_the_scaler_thirty_messages_of_ten_are_three_pods() {
        assert_eq!(Keda::new(10.0, false).recommended(1, 30.0), 3);
    }

    #[test]
    fn the_examples_of_the_hpa_double_halve_and_leave() {
        // A metric of 200 where 100 is wanted doubles, 50 halves, and within a tenth nothing moves.
        let it = Keda::new(100.0, false);
        let next = [200.0, 50.0, 109.0, 91.0, 111.0].map(|each| it.recommended(4, 4.0 * each));
        assert_eq!(next, [8, 2, 4, 4, 5]);
    }

    #[test]
    fn what_waits_and_what_is_at_work_counts_every_fifteen_seconds() {
        let (nothing, mut it) = (Observed::empty_group(), Keda::new(10.0, false));
        assert_eq!(it.every_ms(), 15_000);
        assert_eq!(it.look(&seen(&nothing, 30, 20, 3, 4)).desired, 5);
        let rest = |it: bool| Keda::new(1.0, it).look(&seen(&nothing, 0, 0, 1, 1)).rest;
        assert_eq!((rest(true), rest(false)), (Kill::Idle, Kill::Any));
    }

    #[test]
    fn within_a_tenth_nothing_moves_and_beyond_it_does() {
        let it = Keda::new(100.0, false);
        let sizes = [1_099.0, 1_101.0, 901.0, 899.0].map(|metric| it.recommended(10, metric));
        assert_eq!(sizes, [10, 12, 10, 9]);
    }

    #[test]
    fn it_grows_by_the_double_or_four_and_shrinks_after_five_minutes() {
        let mut it = Keda::new(1.0, false);
        let mut size = 0;
        let sizes = (0..5u64).map(|n| {
            size = it.next(n * 15_000, size, 40.0);
            size
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [1, 5, 10, 20, 40]);
        let later = [75_000, 360_000, 360_001].map(|now| it.next(now, 40, 2.0));
        assert_eq!(later, [40, 40, 2]);
    }
}
