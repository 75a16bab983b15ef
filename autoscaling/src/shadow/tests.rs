use proptest::prelude::*;

use super::*;
use crate::{Count, Instance, QueueSeen, Service};

const TURN: Millis = 5_000;

/// A group of `size` instances, of which as many work as there are jobs for, at this turn.
fn turn(size: u32, waiting: u64, working: u32, finished: u64) -> Observed {
    let one = |n: u32| Instance {
        id: format!("i-{n}"),
        state: if n < working { State::Busy } else { State::Idle },
        since: 0,
        launched_at: 0,
        ready_at: Some(0),
        slots: 1,
        busy_slots: u32::from(n < working),
        silent: false,
        kind: "c7g.large".to_owned(),
        spot: false,
    };
    let queue = QueueSeen {
        visible: Some(Count::exact(waiting)),
        in_flight: Some(Count::exact(u64::from(working))),
        finished: Some(finished),
        services: vec![Service { kind: "k".to_owned(), jobs: 10, total_ms: 200_000 }],
        ..QueueSeen::empty("q")
    };
    Observed {
        queues: vec![queue],
        instances: Some((0..size).map(one).collect()),
        desired: Some(size),
        prices: vec![("c7g.large".to_owned(), 72_000)],
        ..Observed::empty_group()
    }
}

fn policy() -> Policy {
    Policy { boot_ms: 60_000, ..Policy::for_queue("q", 100) }
}

#[test]
fn a_group_that_idles_for_an_hour_is_nearly_all_saved() {
    let mut shadow = Shadow::default();
    for n in 0..=720 {
        shadow.note(&turn(10, 0, 0, 0), &policy(), n * TURN);
    }
    let report = shadow.report();
    assert!((report.hours - 1.0).abs() < 1e-9, "{report:?}");
    assert!((report.present.instance_hours - 10.0).abs() < 1e-6, "{report:?}");
    assert!((report.present.dollars - 0.72).abs() < 1e-6, "{report:?}");
    // Each is given up after as long as a boot takes.
    assert!(report.ours.instance_hours < 0.25 && report.saved_dollars > 0.7, "{report:?}");
    assert!(report.words().contains("would have saved"), "{}", report.words());
}

#[test]
fn what_the_present_group_leaves_waiting_ours_launches_for_and_that_costs() {
    let mut shadow = Shadow::default();
    // One instance, a job of 20 s every 5 s: three of four stay waiting.
    for n in 0..=360u64 {
        shadow.note(&turn(1, n * 3 / 4, 1, n / 4), &policy(), n * TURN);
    }
    let report = shadow.report();
    assert!((300..=380).contains(&report.arrived), "{report:?}");
    let (present, ours) = (report.mean_wait_s(&report.present), report.mean_wait_s(&report.ours));
    assert!(present > 10.0 * ours && ours < 60.0, "{present} s and {ours} s");
    assert!(report.saved_dollars < 0.0 && report.words().contains("more"), "{}", report.words());
}

#[test]
fn an_instance_that_is_ended_soon_is_paid_for_its_minimum() {
    let policy = Policy { minimum_billed_ms: 60_000, ..policy() };
    let mut shadow = Shadow::default();
    // The policy in charge launches one, ends it after two turns, and launches another.
    for n in 0..=120u64 {
        let mut seen = turn(1, 0, 0, 0);
        let one = &mut seen.instances.as_mut().unwrap()[0];
        (one.id, one.launched_at) = (format!("i-{}", n / 2), n / 2 * 2 * TURN);
        shadow.note(&seen, &policy, n * TURN);
    }
    let hours = shadow.report().present.instance_hours;
    // Sixty of them for a minute each.
    assert!((hours - 1.0).abs() < 0.01, "{hours}");
}

#[test]
fn what_is_unseen_is_neither_paid_for_nor_waited_through() {
    let mut shadow = Shadow::default();
    shadow.note(&turn(4, 0, 0, 0), &policy(), 0);
    let blind = Observed { instances: None, ..turn(4, 0, 0, 0) };
    shadow.note(&blind, &policy(), TURN);
    shadow.note(&turn(4, 0, 0, 0), &policy(), 2 * TURN);
    shadow.note(&turn(4, 0, 0, 0), &policy(), 2 * TURN + GAP + 1);
    let report = shadow.report();
    assert_eq!((report.hours, report.turns_unseen), (0.0, 3));
    assert_eq!((report.present.dollars, report.ours.dollars), (0.0, 0.0));
}

#[test]
fn a_time_that_was_paid_for_is_not_paid_for_again_where_a_clock_was_set_back() {
    let mut shadow = Shadow::default();
    for n in [0, 10, 20, 0, 10, 20, 30] {
        shadow.note(&turn(4, 0, 4, 0), &policy(), n * TURN);
    }
    let report = shadow.report();
    assert_eq!(report.turns_unseen, 1);
    let hours = 5.0 * 10.0 * TURN as f64 / 3.6e6;
    assert!((report.hours - hours).abs() < 1e-9, "{report:?}");
    assert!((report.present.instance_hours - 4.0 * hours).abs() < 1e-9, "{report:?}");
    assert!(report.ours.instance_hours <= 4.0 * hours, "{report:?}");
}

#[test]
fn numbers_that_nobody_means_neither_stop_it_nor_fill_the_memory() {
    let (mut shadow, most) = (Shadow::default(), u64::MAX);
    let policy = Policy { max: u32::MAX, spare: u32::MAX, slots: u32::MAX, ..policy() };
    let wild = |n: u64| {
        let mut seen = turn(2, most - n, 1, n % 2 * most);
        for it in seen.instances.iter_mut().flatten() {
            (it.slots, it.busy_slots) = (u32::MAX, u32::MAX);
        }
        seen
    };
    (0..4).for_each(|n| shadow.note(&wild(n), &policy, n * TURN));
    assert!(shadow.report().ours.dollars.is_finite(), "{:?}", shadow.report());
}

proptest! {
    #[test]
    fn whatever_is_seen_ours_stays_within_the_maximum_and_the_books_are_finite(
        turns in proptest::collection::vec((0u32..20, 0u64..500, 0u32..20, 0u64..50), 2..60),
        max in 1u32..30,
    ) {
        let policy = Policy { max, ..policy() };
        let (mut shadow, mut finished) = (Shadow::default(), 0);
        for (n, (size, waiting, working, more)) in (0..).zip(turns) {
            finished += more;
            shadow.note(&turn(size.min(max), waiting, working.min(size), finished), &policy, n * TURN);
            let report = shadow.report();
            let limit = f64::from(max) * report.hours + 1e-9;
            prop_assert!(report.ours.instance_hours <= limit, "{report:?}");
            prop_assert!(report.ours.waited_seconds.is_finite() && report.ours.waited_seconds >= 0.0);
        }
    }
}
