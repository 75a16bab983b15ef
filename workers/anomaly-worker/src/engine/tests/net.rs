//! The network in memory against the walk through all readings, under rules of all kinds.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::drawn::{SENSORS, arrived, devices, rules, stream, with_clocks};
use crate::{engine::*, reading::Reading, topology::Join};

type Ledger = BTreeMap<(String, Key), Episode>;

/// A chain in memory, and the table that its reviews are written to.
struct Chain {
    net: Net,
    ledger: Ledger,
    reviews: usize,
}

fn id(sensor: usize) -> String {
    format!("s{sensor}")
}

impl Chain {
    fn new(rule: Rule, device: &DeviceRule, limits: Limits) -> Self {
        let mut net = Net::new(limits);
        for sensor in 0..SENSORS {
            let state = State::beginning(DeviceStand::expected(0));
            net.add_device(&id(sensor), Arc::new(device.clone()), Vec::new(), Some((0, state)));
        }
        for sensor in 1..SENSORS {
            let (current, following) = (id(sensor - 1), id(sensor));
            let join = Join { current, following, rule, derived: false };
            net.add_edge(&join, 0, State::default());
        }
        Self { net, ledger: Ledger::new(), reviews: 0 }
    }

    fn take(&mut self, sensor: usize, reading: Reading) {
        for unit in self.net.take(sensor, reading).stale {
            self.review(unit, 0);
        }
    }

    fn review(&mut self, unit: Unit, clock: i64) {
        while self.net.is_stale(unit) || clock > 0 {
            self.reviews += 1;
            let changes = match unit {
                Unit::Edge(edge) => {
                    let (version, review) = self.net.review_edge(edge);
                    if self.net.is_stale(unit) {
                        self.net.written_edge(edge, version + 1, review.next);
                    }
                    review.changes
                }
                Unit::Device(device) => {
                    let (version, review) = self.net.review_device(device, clock).unwrap();
                    let before = self.net.is_stale(unit);
                    if before || !review.changes.is_empty() {
                        self.net.written_device(device, version + 1, review.next);
                    }
                    review.changes
                }
            };
            let name = format!("{unit:?}");
            for change in &changes {
                let key = (name.clone(), change.key());
                match change {
                    Change::Tell(episode) => drop(self.ledger.insert(key, *episode)),
                    Change::Retract(_) => assert!(self.ledger.remove(&key).is_some()),
                }
            }
            if changes.is_empty() && !self.net.is_stale(unit) {
                return;
            }
        }
    }

    fn sweep(&mut self, clock: i64) {
        (0..SENSORS).for_each(|sensor| self.review(Unit::Device(sensor), clock));
    }
}

fn ledger(rule: Rule, device: &DeviceRule, limits: Limits, said: &[(usize, Reading)]) -> Chain {
    let mut chain = Chain::new(rule, device, limits);
    said.iter().for_each(|(sensor, reading)| chain.take(*sensor, *reading));
    chain.sweep(100_000);
    chain
}

fn unsettled(ledger: Ledger) -> Ledger {
    let unsettled = |it| Episode { settled: false, ..it };
    ledger.into_iter().map(|(key, it)| (key, unsettled(it))).collect()
}

/// The same with a review of everything at every reading: no shortcut is taken.
fn slow_ledger(
    rule: Rule,
    device: &DeviceRule,
    limits: Limits,
    said: &[(usize, Reading)],
) -> Ledger {
    let mut chain = Chain::new(rule, device, limits);
    for (sensor, reading) in said {
        chain.net.take(*sensor, *reading);
        for unit in chain.net.units(*sensor) {
            chain.net.outdate(unit);
            chain.review(unit, 0);
        }
    }
    chain.sweep(100_000);
    chain.ledger
}

#[test]
fn a_reading_from_before_a_silence_that_the_clock_told_takes_it_back() {
    let device = DeviceRule { silence: Some(30), ..DeviceRule::default() };
    let limits = Limits { lateness: 100, fold: 20, most: usize::MAX };
    let mut chain = Chain::new(Rule::default(), &device, limits);
    let opened = |chain: &Chain| -> Vec<i64> {
        let own = chain.ledger.iter().filter(|((unit, _), _)| unit == "Device(0)");
        own.map(|(_, it)| it.opened.at).collect()
    };
    chain.take(0, Reading { at: 10, filling: 1.0, seq: None });
    chain.sweep(100);
    assert_eq!(opened(&chain), [40]);
    chain.take(0, Reading { at: 30, filling: 1.0, seq: None });
    assert_eq!(opened(&chain), [60], "it was heard meanwhile");
    chain.take(0, Reading { at: 75, filling: 1.0, seq: None });
    assert_eq!(opened(&chain), [60], "from 60 to 75 nothing came");
}

#[test]
fn a_duplicate_under_another_time_says_that_the_device_is_there_and_nothing_else() {
    let threshold = Threshold { above: Some(70.0), below: None, hysteresis: 0.0 };
    let (silence, threshold) = (Some(30), Some(threshold));
    let device = DeviceRule { silence, threshold, ..DeviceRule::default() };
    let limits = Limits { lateness: 100, fold: 20, most: usize::MAX };
    let mut chain = Chain::new(Rule::default(), &device, limits);
    let told = |chain: &Chain| -> Vec<_> {
        let own = chain.ledger.iter().filter(|((unit, _), _)| unit == "Device(0)");
        let mut told: Vec<_> =
            own.map(|(_, it)| (it.opened.at, it.kind, it.resolved.map(|turn| turn.at))).collect();
        told.sort();
        told
    };
    for (at, filling) in [(10, 1.0), (35, 99.0), (60, 99.0)] {
        chain.take(0, Reading { at, filling, seq: Some(1) });
    }
    chain.sweep(85);
    assert_eq!(told(&chain), []);
    chain.sweep(95);
    assert_eq!(told(&chain), [(90, Kind::Silence, None)]);
    // A lateness after the one that counted it counts again.
    chain.take(0, Reading { at: 111, filling: 99.0, seq: Some(1) });
    let wanted = [(90, Kind::Silence, Some(111)), (111, Kind::Threshold, None)];
    assert_eq!(told(&chain), wanted);
}

#[test]
fn a_number_that_never_changes_is_absorbed_for_a_lateness_at_a_time_though_the_base_moves() {
    let limits = Limits { lateness: 100, fold: 1, most: usize::MAX };
    let mut chain = Chain::new(Rule::default(), &DeviceRule::default(), limits);
    chain.take(1, Reading { at: 1, filling: 50.0, seq: None });
    // It says otherwise every other time that it counts: every 110.
    for n in 0..120 {
        let level = if n / 11 % 2 == 0 { 50.0 } else { 100.0 };
        chain.take(0, Reading { at: 1 + n * 10, filling: level, seq: Some(9) });
    }
    let edges = chain.ledger.iter().filter(|((unit, _), _)| unit == "Edge(0)");
    let opened: Vec<_> = edges.map(|(_, it)| it.opened.at).collect();
    assert_eq!(opened, [111, 331, 551, 771, 991]);
    assert!(chain.net.edge_state(0).settled_until() > 900);
}

#[test]
fn what_is_told_of_an_edge_is_final_where_nothing_came_for_long() {
    let limits = Limits { lateness: 100, ..Limits::default() };
    let mut chain = Chain::new(Rule::default(), &DeviceRule::default(), limits);
    chain.take(0, Reading { at: 10, filling: 100.0, seq: None });
    chain.take(1, Reading { at: 11, filling: 50.0, seq: None });
    let told = |chain: &Chain| {
        let own = chain.ledger.iter().find(|((unit, _), _)| unit == "Edge(0)");
        own.map(|(_, it)| (it.opened.at, it.resolved.map(|turn| turn.at), it.settled))
    };
    assert_eq!(told(&chain), Some((11, None, false)));
    loop {
        let (version, review) = chain.net.review_quiet_edge(0, 11);
        if review.changes.is_empty() {
            break;
        }
        for change in review.changes {
            let Change::Tell(episode) = change else { panic!("it is as it was: {change:?}") };
            chain.ledger.insert((format!("{:?}", Unit::Edge(0)), change.key()), episode);
        }
        chain.net.written_edge(0, version + 1, review.next);
    }
    assert_eq!(told(&chain), Some((11, None, true)));
    // What was said before is late now; what is said now ends it.
    assert_eq!(chain.net.late_for(1, 11).len(), 1);
    chain.take(1, Reading { at: 30, filling: 100.0, seq: None });
    assert_eq!(told(&chain), Some((11, Some(30), false)));
}

#[test]
fn a_silence_is_final_once_nothing_came_for_a_lateness_after_it_was_told() {
    let device = DeviceRule { silence: Some(30), ..DeviceRule::default() };
    let limits = Limits { lateness: 100, fold: 20, most: usize::MAX };
    let mut chain = Chain::new(Rule::default(), &device, limits);
    let told = |chain: &Chain| {
        let own = chain.ledger.iter().find(|((unit, _), _)| unit == "Device(0)");
        own.map(|(_, it)| (it.opened.at, it.resolved.is_some(), it.settled))
    };
    chain.take(0, Reading { at: 10, filling: 1.0, seq: None });
    chain.sweep(50);
    assert_eq!(told(&chain), Some((40, false, false)));
    chain.sweep(150);
    assert_eq!(told(&chain), Some((40, false, false)));
    assert!(chain.net.overdue(151).contains(&0) && !chain.net.overdue(150).contains(&0));
    chain.sweep(151);
    assert_eq!(told(&chain), Some((40, false, true)));
    assert!(!chain.net.overdue(500).contains(&0));
    // What was said until it was told is late now; what was said since then ends it.
    assert_eq!([50, 51].map(|at| chain.net.late_for(0, at).len()), [1, 0]);
    chain.take(0, Reading { at: 200, filling: 1.0, seq: None });
    assert_eq!(told(&chain), Some((40, true, false)));
}

#[test]
fn a_reading_that_half_a_lateness_more_would_make_late_is_nearly_late_and_no_later_one() {
    let limits = Limits { lateness: 100, ..Limits::default() };
    let mut chain = Chain::new(Rule::default(), &DeviceRule::default(), limits);
    chain.take(1, Reading { at: 500, filling: 1.0, seq: None });
    let edges = |at| chain.net.nearly_late_for(0, at).len();
    // Before 400 it is late; before 450 another that is 50 newer makes it so.
    assert_eq!([399, 400, 449, 450].map(edges), [1, 1, 1, 0]);
    assert_eq!([399, 400].map(|at| chain.net.late_for(0, at).len()), [1, 0]);
}

#[test]
fn a_late_reading_from_before_all_others_counts_once_it_has_travelled() {
    let rule = Rule { delay: 40, ..Rule::default() };
    let limits = Limits { lateness: 100, ..Limits::default() };
    let mut chain = Chain::new(rule, &DeviceRule::default(), limits);
    chain.take(2, Reading { at: 19, filling: 0.0, seq: None });
    chain.take(2, Reading { at: 1, filling: 0.0, seq: None });
    chain.take(3, Reading { at: 41, filling: 50.0, seq: None });
    let opened: Vec<_> = chain.ledger.values().map(|it| (it.kind, it.opened.at)).collect();
    assert_eq!(opened, [(Kind::Problem, 41)]);
}

#[test]
fn a_counter_that_begins_anew_costs_no_review() {
    let limits = Limits { lateness: 1000, ..Limits::default() };
    let mut chain = Chain::new(Rule::default(), &DeviceRule::default(), limits);
    for at in 1..5000 {
        (0..SENSORS).for_each(|sensor| {
            let reading = Reading { at: at * 10, filling: 50.0, seq: Some(at as u64 % 500) };
            chain.take(sensor, reading);
        });
    }
    assert!(chain.ledger.is_empty());
    assert!(chain.reviews < 5000 * 7 / 25, "{} reviews", chain.reviews);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn the_shortcut_equals_the_walk(
        rule in rules(), device in devices(), stream in stream(), scale in 0..=8_i64, fold in 1..20_usize,
    ) {
        let limits = Limits { lateness: 100, fold, most: usize::MAX };
        let said = arrived(&stream, scale);
        let slow = slow_ledger(rule, &device, limits, &said);
        prop_assert_eq!(ledger(rule, &device, limits, &said).ledger, slow);
    }

    #[test]
    fn under_every_rule_the_ledger_is_a_function_of_the_set_of_readings(
        rule in rules(), device in devices(), stream in stream(), scale in 0..=8_i64, fold in 1..20_usize,
    ) {
        let limits = Limits { lateness: 100, fold, most: usize::MAX };
        let never = Limits { fold: usize::MAX, ..limits };
        let (in_time, late) = (arrived(&stream, 0), arrived(&stream, scale));
        let expected = ledger(rule, &device, never, &in_time).ledger;
        prop_assert_eq!(&ledger(rule, &device, limits, &late).ledger, &expected);
        let mut turned = late.clone();
        turned.reverse();
        prop_assert_eq!(&ledger(rule, &device, never, &turned).ledger, &expected);
    }

    #[test]
    fn clocks_that_are_looked_at_meanwhile_leave_no_trace(
        rule in rules(), device in devices(), stream in stream(), scale in 0..=8_i64, fold in 1..20_usize, every in 1..40_i64,
    ) {
        let limits = Limits { lateness: 100, fold, most: usize::MAX };
        let mut expected = ledger(rule, &device, limits, &arrived(&stream, scale));
        let mut chain = Chain::new(rule, &device, limits);
        let mut swept = 0;
        for (sensor, reading, clock) in with_clocks(&stream, scale) {
            if clock - swept > every {
                swept = clock;
                chain.sweep(clock);
            }
            chain.take(sensor, reading);
        }
        // A silence that lasts is final at a second look, a lateness after it was told.
        for chain in [&mut chain, &mut expected] {
            chain.sweep(100_000);
            chain.sweep(200_000);
        }
        prop_assert_eq!(chain.ledger, expected.ledger);
    }

    #[test]
    fn too_much_to_keep_is_settled_and_readings_in_order_are_told_as_ever(
        rule in rules(), device in devices(), stream in stream(), fold in 1..20_usize, most in 10..60_usize,
    ) {
        let never = Limits { lateness: 100_000, fold: usize::MAX, most: usize::MAX };
        let said: Vec<_> = stream.iter().filter(|it| it.2 == 0).map(|it| (it.0, it.1)).collect();
        let expected = ledger(rule, &device, never, &said).ledger;
        let found = ledger(rule, &device, Limits { fold, most, ..never }, &said).ledger;
        prop_assert_eq!(unsettled(found), unsettled(expected));
    }

    #[test]
    fn a_state_is_the_same_after_it_was_stored(rule in rules(), device in devices(), stream in stream()) {
        let limits = Limits { lateness: 10, fold: 1, most: usize::MAX };
        let chain = ledger(rule, &device, limits, &arrived(&stream, 0));
        for edge in 0..SENSORS - 1 {
            let state = chain.net.edge_state(edge);
            let text = serde_json::to_string(state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<State<EdgeStand>>(&text).unwrap(), state);
        }
        for sensor in 0..SENSORS {
            let state = chain.net.device_state(sensor).unwrap();
            let text = serde_json::to_string(state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<State<DeviceStand>>(&text).unwrap(), state);
        }
    }
}

#[test]
fn readings_in_order_need_a_review_only_now_and_then() {
    let limits = Limits { lateness: 1000, ..Limits::default() };
    let mut chain = Chain::new(Rule::default(), &DeviceRule::default(), limits);
    for at in 1..20_000 {
        (0..SENSORS).for_each(|sensor| {
            chain.take(sensor, Reading { at: at * 10, filling: 50.0, seq: Some(at as u64) });
        });
    }
    assert!(chain.ledger.is_empty());
    assert!(chain.reviews < 20_000 * 7 / 50, "{} reviews", chain.reviews);
    let (_, window) = chain.net.bytes();
    assert!(window < SENSORS * 1000 * 16, "{window}");
}
