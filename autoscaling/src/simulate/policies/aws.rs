//! Target tracking of EC2 Auto Scaling on the backlog per instance.

use super::divided;
use crate::{
    observed::Millis,
    simulate::{Kill, Order, Scaler, View},
};

/// One-minute datapoints above the target that scale out.
const HIGH: u32 = 3;
/// One-minute datapoints below nine tenths of it that scale in.
const LOW: u32 = 15;

/// Target tracking as documented: the alarm that scales out needs 3 one-minute datapoints, the one
/// that scales in 15; the metric is the messages that wait divided by the instances in service
/// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html>,
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>).
///
/// What is scaled in by is not documented; the formula for scaling out is taken. An empty group
/// counts as one instance, or no message could ever be seen to wait for each.
#[derive(Debug, Clone)]
pub struct TargetTracking {
    target: f64,
    rest: Kill,
    high: u32,
    low: u32,
}

impl TargetTracking {
    /// Keeps this backlog per instance; `protected` instances are not scaled in while they work.
    pub fn new(target: f64, protected: bool) -> Self {
        let rest = if protected { Kill::Idle } else { Kill::Any };
        Self { target, rest, high: 0, low: 0 }
    }

    /// The size that brings the metric to its target.
    fn wanted(&self, ready: u32, metric: f64) -> u32 {
        divided(f64::from(ready.max(1)) * metric, self.target)
    }

    /// Notes a datapoint; gives the new size where an alarm goes off.
    fn datapoint(&mut self, ready: u32, live: u32, metric: f64) -> Option<u32> {
        self.high = if metric > self.target { self.high + 1 } else { 0 };
        self.low = if metric < 0.9 * self.target { self.low + 1 } else { 0 };
        let wanted = self.wanted(ready, metric);
        if self.high >= HIGH {
            // Instances that warm up count as there, so that they are not asked for twice.
            return Some(wanted.max(live));
        }
        (self.low >= LOW).then(|| wanted.min(live))
    }
}

impl Scaler for TargetTracking {
    fn every_ms(&self) -> Millis {
        60_000
    }

    fn look(&mut self, view: &View<'_>) -> Order {
        let metric = view.visible as f64 / f64::from(view.ready.max(1));
        let size = self.datapoint(view.ready, view.live, metric);
        Order::size(size.unwrap_or(view.live), self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::seen, *};
    use crate::Observed;

    #[test]
    fn the_example_of_the_user_guide() {
        // 1,500 messages on 10 instances, 0.1 s each, 10 s acceptable: 100 is the acceptable
        // backlog, 150 the present one, and 5 more instances bring it there.
        assert_eq!(TargetTracking::new(10.0 / 0.1, true).wanted(10, 1500.0 / 10.0), 15);
    }

    #[test]
    fn three_datapoints_scale_out_and_fifteen_in() {
        let mut it = TargetTracking::new(100.0, true);
        let out = [150.0, 150.0, 90.0, 150.0, 150.0, 150.0].map(|m| it.datapoint(10, 10, m));
        assert_eq!(out, [None, None, None, None, None, Some(15)]);
        let low = (0..15).map(|_| it.datapoint(10, 15, 50.0));
        let acted: Vec<_> = low.collect();
        assert!(acted[..14].iter().all(Option::is_none) && acted[14] == Some(5), "{acted:?}");
        // Between nine tenths of the target and the target nothing happens, however long.
        assert!((0..40).all(|_| it.datapoint(10, 10, 95.0).is_none()));
    }

    #[test]
    fn the_metric_is_what_waits_for_each_that_serves_once_a_minute() {
        let (nothing, mut it) = (Observed::empty_group(), TargetTracking::new(100.0, true));
        assert_eq!(it.every_ms(), 60_000);
        // Those at work wait no more: 1,500 wait on 10 in service, and 2 warm up.
        let order = |it: &mut TargetTracking| it.look(&seen(&nothing, 1_500, 900, 10, 12)).desired;
        assert_eq!([order(&mut it), order(&mut it), order(&mut it)], [12, 12, 15]);
        let protected =
            |it: bool| TargetTracking::new(100.0, it).look(&seen(&nothing, 0, 0, 1, 1)).rest;
        assert_eq!((protected(true), protected(false)), (Kill::Idle, Kill::Any));
    }

    #[test]
    fn instances_that_warm_up_are_not_asked_for_twice_nor_taken_back() {
        let mut it = TargetTracking::new(100.0, true);
        let sizes = [18, 12, 12].map(|live| (0..3).map(|_| it.datapoint(10, live, 150.0)).last());
        assert_eq!(sizes, [Some(Some(18)), Some(Some(15)), Some(Some(15))]);
        let mut it = TargetTracking::new(100.0, true);
        let low = |it: &mut TargetTracking, live| {
            (0..15).map(|_| it.datapoint(10, live, 50.0)).last().flatten()
        };
        assert_eq!((low(&mut it, 10), low(&mut it, 3)), (Some(5), Some(3)), "nor is it scaled out");
    }

    #[test]
    fn it_is_scaled_in_below_nine_tenths_of_the_target() {
        let after = |metric| {
            let mut it = TargetTracking::new(100.0, true);
            (0..15).map(|_| it.datapoint(10, 10, metric)).last().flatten()
        };
        assert_eq!((after(90.0), after(89.9)), (None, Some(9)));
    }

    #[test]
    fn an_empty_group_is_scaled_out() {
        let mut it = TargetTracking::new(10.0, true);
        assert_eq!([0, 1, 2].map(|_| it.datapoint(0, 0, 25.0)), [None, None, Some(3)]);
    }
}
