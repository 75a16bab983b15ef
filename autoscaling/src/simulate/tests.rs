//! Runs of policies.

mod cheapest;
mod extremes;
mod traces;

use std::slice::from_ref;

use proptest::prelude::*;

use super::{clairvoyant::clairvoyant, policies::*, *};
use crate::Policy;

fn ours() -> Ours {
    Ours::new(Policy::for_queue("q", 100_000))
}

/// Jobs of all lengths, alone, in bursts and in rows, within minutes or days.
fn wide_trace() -> impl Strategy<Value = Trace> {
    let service = prop_oneof![1u64..2_000, 1u64..400_000, 1u64..7_200_000];
    let group = (0.0..1.0f64, service, 1usize..40, prop_oneof![Just(0u64), 1u64..100_000]);
    let span = prop_oneof![60_000u64..3_600_000, 3_600_000u64..172_800_000];
    (proptest::collection::vec(group, 1..25), span).prop_map(|(groups, span)| {
        let jobs = groups.into_iter().flat_map(|(at, service, count, gap)| {
            let at = (at * span as f64) as u64;
            (0..count as u64).map(move |n| Job { at: at + n * gap, service })
        });
        Trace::new(jobs.collect())
    })
}

fn any_trace() -> impl Strategy<Value = Trace> {
    let job = (0u64..3_600_000, 0u64..400_000).prop_map(|(at, service)| Job { at, service });
    proptest::collection::vec(job, 1..60).prop_map(Trace::new)
}

fn exact() -> World {
    let base = World { boot_spread: 0.0, lag_ms: 0, noise: 0.0, ..World::default() };
    World { books_lag_ms: 0, order_ms: 0, ..base }
}

/// Runs take milliseconds each, not microseconds.
fn few() -> ProptestConfig {
    ProptestConfig::with_cases(48)
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn every_job_is_done_and_paid_for_under_every_policy_though_instances_are_lost(
        trace in any_trace(), seed in any::<u64>(), losses in 0.0..8.0, books in any::<bool>(),
    ) {
        let world = World { seed, losses_per_hour: losses, books, ..World::default() };
        let work: Millis = trace.jobs().iter().map(|job| job.service).sum();
        let mut all: Vec<Box<dyn Scaler>> = vec![
            Box::new(ours()),
            Box::new(Keda::new(1.0, false)),
            Box::new(Knative::new(0.7)),
            Box::new(Buildkite::new(600_000, 1)),
        ];
        for scaler in &mut all {
            let out = run(&trace, &world, scaler.as_mut());
            prop_assert_eq!(out.undone, 0);
            prop_assert!(out.cost >= work, "{} < {work}", out.cost);
            prop_assert!(u64::from(out.peak) * world.minimum_billed_ms <= out.cost);
        }
    }

    #[test]
    fn ours_kills_nothing_and_costs_at_most_twice_the_clairvoyant_where_boots_take_no_time(
        trace in wide_trace(), seed in any::<u64>(), minimum in 10_000u64..600_000,
        reuse in 0.0..1.0, books in any::<bool>(),
    ) {
        let world = World { boot_ms: 0, seed, minimum_billed_ms: minimum, books, ..exact() };
        let base = Policy::for_queue("q", 100_000);
        let policy = Policy { boot_ms: 0, minimum_billed_ms: minimum, reuse, ..base };
        let out = run(&trace, &world, &mut Ours::new(policy));
        prop_assert_eq!(out.killed, 0);
        let best = clairvoyant(&trace, &world);
        prop_assert!(out.cost <= 2 * best, "{} > 2 * {best}", out.cost);
    }

    #[test]
    fn the_same_seed_gives_the_same_run(trace in any_trace(), seed in any::<u64>()) {
        let world = World { seed, losses_per_hour: 1.0, ..World::default() };
        prop_assert_eq!(run(&trace, &world, &mut ours()), run(&trace, &world, &mut ours()));
    }
}

#[test]
fn a_job_waits_for_a_look_and_a_boot_and_its_instance_is_paid_from_its_launch() {
    let trace = Trace::new(vec![Job { at: 1_000, service: 10_000 }]);
    let out = run(&trace, &exact(), &mut ours());
    assert_eq!(out.waits, [124_000], "from 1 s to the look at 5 s, and two minutes");
    // Launched at 5 s, at work until 135 s, and given up at the first look a boot after that.
    assert!((250_000..=262_000).contains(&out.cost), "{}", out.cost);
}

#[test]
fn target_tracking_leaves_one_message_waiting_for_ever_and_ours_does_not() {
    let trace = Trace::new(vec![Job { at: 1_000, service: 10_000 }]);
    let stuck = run(&trace, &exact(), &mut TargetTracking::new(1.0, true));
    assert_eq!((stuck.undone, stuck.cost), (1, 0), "a backlog of one is no more than the target");
    assert_eq!(run(&trace, &exact(), &mut ours()).undone, 0);
}

#[test]
fn work_on_a_lost_instance_is_done_again_and_paid_again() {
    let jobs = (0..200).map(|n| Job { at: n * 1_000, service: 600_000 });
    let trace = Trace::new(jobs.collect());
    let kept = run(&trace, &exact(), &mut Static(200));
    let lossy = World { losses_per_hour: 1.0, ..exact() };
    let lost = run(&trace, &lossy, &mut Static(200));
    assert!(kept.lost == 0 && lost.lost > 10, "{} lost", lost.lost);
    assert!(quantile(&lost.waits, 0.95) > quantile(&kept.waits, 0.95) + 100_000);
}

/// Lets one job run on an instance that is lost after it has worked for a while, and on the next.
#[test]
fn a_lost_job_is_seen_again_after_its_visibility_and_what_was_done_of_it_is_paid_for() {
    let trace = Trace::new(vec![Job { at: 0, service: 3_600_000 }]);
    let world = |seed, visibility_ms| World {
        boot_ms: 0,
        losses_per_hour: 0.7,
        visibility_ms,
        seed,
        ..exact()
    };
    let seen = |seed, visibility| run(&trace, &world(seed, visibility), &mut Static(1));
    let both = |seed| [0, 300_000].map(|visibility| seen(seed, visibility));
    let once =
        |runs: &[Outcome; 2]| runs.iter().all(|it| it.lost == 1) && runs[0].waits[0] > 1_200_000;
    let [soon, late] = (0..200).map(both).find(once).unwrap();
    // The next instance comes with the next look, and stays for twenty minutes after it.
    let (looks, worked) = (60_001, u64::from(soon.waits[0]));
    assert!(soon.cost + 2 * looks >= worked + 3_600_000 + 1_200_000, "both are paid for: {soon:?}");
    let later = u64::from(late.waits[0]) - worked;
    assert!((300_000 - looks..=300_000).contains(&later), "{later}");
}

#[test]
fn scale_in_without_protection_kills_and_with_it_does_not() {
    let trace = Shape::Bursty.trace(2_000, 4 * 3_600_000, 3);
    let killed = |protected| run(&trace, &World::default(), &mut Keda::new(1.0, protected)).killed;
    assert!(killed(false) > 0);
    assert_eq!(killed(true), 0);
}

#[test]
fn a_job_that_meets_an_order_to_drain_ends_unless_it_is_cut_off() {
    // Each comes when the instance before it is about to go.
    let jobs = (0..400).map(|n| Job { at: n * 171_300, service: 20_000 });
    let trace = Trace::new(jobs.collect());
    let world = World { order_ms: 60_000, ..exact() };
    let whole = run(&trace, &world, &mut ours());
    assert!(whole.met > 0, "orders take a minute");
    assert_eq!((whole.killed, whole.undone), (0, 0));
    let cut = run(&trace, &World { grace_ms: Some(1_000), ..world }, &mut ours());
    assert!(cut.killed > 0 && cut.undone == 0, "{} killed", cut.killed);
}

#[test]
fn an_instance_that_was_ordered_to_drain_is_paid_for_until_that_is_heeded() {
    let trace = Trace::new(vec![Job { at: 0, service: 10_000 }]);
    let cost = |order_ms| run(&trace, &World { order_ms, ..exact() }, &mut ours()).cost;
    assert!((5_000..=40_000).contains(&(cost(30_000) - cost(0))), "{}", cost(30_000) - cost(0));
}

#[test]
fn what_comes_every_day_waits_less_where_it_is_predicted() {
    let minutes = 1440 + 11 * 60;
    // Ten at a time, and from nine o'clock on within an hour up to a hundred, a minute each.
    let jobs = (0..minutes).flat_map(|minute: u64| {
        let more = match minute % 1440 {
            of_day @ 540..600 => (of_day - 540) * 3 / 2,
            600..660 => 90,
            _ => 0,
        };
        (0..10 + more).map(move |_| Job { at: minute * 60_000, service: 60_000 })
    });
    let trace = Trace::new(jobs.collect());
    let waited = |prediction, warm| {
        let policy = Policy { prediction, warm, ..Policy::for_queue("q", 1_000) };
        let out = run(&trace, &exact(), &mut Ours::new(policy));
        assert_eq!((out.killed, out.undone), (0, 0));
        let last_day = trace.jobs().iter().zip(&out.waits).filter(|(job, _)| job.at > 86_400_000);
        last_day.map(|(_, wait)| u64::from(*wait)).sum::<u64>()
    };
    let (with, without) = (waited(1.0, 0.9), waited(0.0, 0.0));
    assert!(with < without, "{with} ms and {without} ms");
}

#[test]
fn quantiles_intervals_and_the_dominated() {
    let values: Vec<u32> = (1..=100).rev().collect();
    assert_eq!([0.0, 0.5, 0.95, 1.0].map(|q| quantile(&values, q)), [1, 50, 95, 100]);
    assert_eq!(quantile(&[], 0.5), 0);
    let outcome = Outcome { waits: vec![0, 300_000, 300_001, 900_000], ..Outcome::default() };
    assert_eq!(Point::of("p", &[outcome], 1).late.median, 0.5, "over 300 s");
    let interval = Interval::of(vec![3.0, 1.0, 2.0, 10.0]);
    assert_eq!((interval.low, interval.median, interval.high), (1.0, 2.5, 10.0));
    let point = |cost, p95| Point {
        cost: Interval::of(vec![cost]),
        p95: Interval::of(vec![p95]),
        ..Point::default()
    };
    let (good, bad) = (point(1.0, 50.0), point(2.0, 60.0));
    assert_eq!(dominated(from_ref(&bad), from_ref(&good)), [&bad]);
    assert!(dominated(from_ref(&good), &[bad.clone(), point(0.9, 51.0)]).is_empty());
    let lazy = Point { undone: Interval::of(vec![1.0]), ..point(0.5, 1.0) };
    assert!(dominated(from_ref(&good), &[lazy]).is_empty(), "it left a job undone");
    assert_eq!(front(&[bad.clone(), good.clone()]), [&good]);
    let all = [Point { name: clairvoyant::NAME.to_owned(), ..point(0.9, 0.0) }, good.clone()];
    assert_eq!(front(&all), [&good], "nobody can build the first");
}
