//! The engine against an oracle that knows all readings at once.

mod drawn;
mod kinds;
mod net;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::reading::{Reading, distinct};

/// A reading of the current (true) or the following sensor.
type Said = (bool, Reading);

fn said(current: bool, at: i64, filling: f64) -> Said {
    (current, Reading { at, filling, seq: None })
}

fn of(current: bool, readings: &[Said]) -> Vec<Reading> {
    readings.iter().filter(|it| it.0 == current).map(|it| it.1).collect()
}

/// An edge with its table of readings and its table of problems.
#[derive(Default)]
struct Table {
    readings: Vec<Said>,
    edge: State<EdgeStand>,
    rule: Rule,
    problems: BTreeMap<i64, Episode>,
    /// When those opened that the last reading put right.
    corrected: Vec<i64>,
    reviews: usize,
}

impl Table {
    /// Takes a reading, and reviews until nothing is left to tell.
    fn take(&mut self, reading: Said, limits: &Limits) {
        self.readings.push(reading);
        self.corrected.clear();
        loop {
            let after = self.edge.needs_after(&self.rule, limits);
            let known: Vec<_> =
                self.readings.iter().filter(|it| it.1.at > after).copied().collect();
            let (current, following) = (of(true, &known), of(false, &known));
            let Review { changes, corrected, next, .. } =
                self.edge.review(&self.rule, limits, current, following);
            assert!(changes.len() <= CHANGES);
            for change in &changes {
                match change {
                    Change::Tell(episode) => {
                        self.problems.insert(episode.opened.at, *episode);
                    }
                    Change::Retract(gone) => {
                        assert!(self.problems.remove(&gone.opened).is_some());
                    }
                }
            }
            self.reviews += 1;
            self.corrected.extend(corrected.into_iter().map(|it| it.1));
            if std::mem::replace(&mut self.edge, next) == self.edge {
                return;
            }
        }
    }
}

fn ledger(readings: &[Said], limits: &Limits) -> BTreeMap<i64, Episode> {
    ledger_of(Rule::default(), readings, limits)
}

fn ledger_of(rule: Rule, readings: &[Said], limits: &Limits) -> BTreeMap<i64, Episode> {
    let mut table = Table { rule, ..Table::default() };
    readings.iter().for_each(|reading| table.take(*reading, limits));
    table.problems
}

/// Kind, opening and end of every problem, from the definition: at each time, what each said last.
fn oracle(readings: &[Said]) -> Vec<(Kind, i64, Option<i64>)> {
    let (current, following) =
        (distinct(of(true, readings), FOR_EVER), distinct(of(false, readings), FOR_EVER));
    let times: BTreeSet<i64> = current.iter().chain(&following).map(|it| it.at).collect();
    let last = |all: &[Reading], at| all.iter().rev().find(|it| it.at <= at).map(|it| it.filling);
    let answers = times.into_iter().filter_map(|at| {
        let (current, following) = (last(&current, at)?, last(&following, at)?);
        Some((at, Rule::default().compare(current, following)))
    });
    let mut found: Vec<(Kind, i64, Option<i64>)> = Vec::new();
    let mut before = None;
    for (at, answer) in answers.collect::<Vec<_>>() {
        if answer != before {
            if let (Some(_), Some(open)) = (before, found.last_mut()) {
                open.2 = Some(at);
            }
            found.extend(answer.map(|kind| (kind, at, None)));
        }
        before = answer;
    }
    found
}

fn outline(ledger: &BTreeMap<i64, Episode>) -> Vec<(Kind, i64, Option<i64>)> {
    let episodes = ledger.values();
    episodes.map(|it| (it.kind, it.opened.at, it.resolved.map(|turn| turn.at))).collect()
}

/// Without what depends on the lateness.
fn unsettled(mut ledger: BTreeMap<i64, Episode>) -> BTreeMap<i64, Episode> {
    ledger.values_mut().for_each(|it| it.settled = false);
    ledger
}

/// Nothing is ever settled.
const OPEN: Limits = Limits { lateness: FOR_EVER, fold: 1, most: usize::MAX };
const FOR_EVER: i64 = i64::MAX / 4;

#[test]
fn each_of_the_nine_cells_gives_exactly_its_answer() {
    use Kind::{Obstruction, Problem};
    let table = [
        (100.0, 100.0, None),
        (100.0, 50.0, Some(Obstruction)),
        (100.0, 0.0, Some(Obstruction)),
        (50.0, 100.0, Some(Problem)),
        (50.0, 50.0, None),
        (50.0, 0.0, Some(Obstruction)),
        (0.0, 100.0, Some(Problem)),
        (0.0, 50.0, Some(Problem)),
        (0.0, 0.0, None),
    ];
    for (current, following, answer) in table {
        assert_eq!(Rule::default().compare(current, following), answer, "{current} {following}");
        let readings = [said(true, 1000, current), said(false, 2000, following)];
        let kinds: Vec<_> = ledger(&readings, &OPEN).values().map(|it| it.kind).collect();
        assert_eq!(kinds, answer.into_iter().collect::<Vec<_>>(), "{current} {following}");
    }
}

#[test]
fn a_tolerance_makes_near_levels_equal() {
    let rule = Rule { tolerance: 5.0, ..Rule::default() };
    assert_eq!(rule.compare(50.0, 55.0), None);
    assert_eq!(rule.compare(50.0, 44.9), Some(Kind::Obstruction));
    assert_eq!(rule.compare(f64::MAX, -f64::MAX), Some(Kind::Obstruction));
}

#[test]
fn a_blockage_opens_once_and_is_resolved_with_its_evidence() {
    let readings = [
        said(true, 1, 100.0),
        said(false, 2, 100.0),
        said(false, 3, 50.0),
        said(true, 4, 100.0),
        said(false, 5, 0.0),
        said(false, 9, 100.0),
    ];
    let ledger = ledger(&readings, &OPEN);
    assert_eq!(outline(&ledger), [(Kind::Obstruction, 3, Some(9))]);
    let Evidence { current, following, .. } = ledger[&3].resolved.unwrap().evidence;
    assert_eq!(current.unwrap().at, 4);
    assert_eq!(following, Some(Sample { at: 9, filling: 100.0 }));
    assert_eq!(ledger[&3].opened.evidence.current.unwrap().at, 1);
}

#[test]
fn another_kind_is_another_episode() {
    let readings = [said(true, 1, 50.0), said(false, 2, 0.0), said(false, 3, 100.0)];
    let wanted = [(Kind::Obstruction, 2, Some(3)), (Kind::Problem, 3, None)];
    assert_eq!(outline(&ledger(&readings, &OPEN)), wanted);
}

#[test]
fn a_late_reading_corrects_and_retracts() {
    let mut table = Table::default();
    for reading in [said(true, 1, 100.0), said(false, 5, 50.0)] {
        table.take(reading, &OPEN);
    }
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 5, None)]);
    table.take(said(false, 3, 50.0), &OPEN);
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 3, None)]);
    table.take(said(true, 2, 50.0), &OPEN);
    assert!(table.problems.is_empty());
}

#[test]
fn what_was_told_otherwise_is_corrected_and_what_only_goes_on_is_not() {
    let confirm = Confirm { flap: 50, ..Confirm::default() };
    let mut table = Table { rule: Rule { confirm, ..Rule::default() }, ..Table::default() };
    for (reading, corrected) in [
        (said(true, 1, 100.0), &[][..]),
        (said(false, 10, 50.0), &[]),
        // It opened for another reason.
        (said(true, 5, 100.0), &[10]),
        // It ends, comes back so soon that it is still the same, and ends again.
        (said(false, 20, 100.0), &[]),
        (said(false, 30, 50.0), &[]),
        (said(false, 60, 100.0), &[]),
        // It had ended sooner; it had opened sooner.
        (said(false, 50, 100.0), &[10]),
        (said(false, 8, 50.0), &[8]),
    ] {
        table.take(reading, &OPEN);
        assert_eq!(table.corrected, corrected, "{reading:?}");
    }
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 8, Some(50))]);
}

#[test]
fn more_changes_than_a_transaction_holds_are_told_one_after_the_other() {
    let mut readings: Vec<_> =
        (1..=500).map(|at| said(false, at, if at % 2 == 0 { 100.0 } else { 0.0 })).collect();
    readings.push(said(true, 0, 100.0));
    assert_eq!(outline(&ledger(&readings, &OPEN)), oracle(&readings));
}

#[test]
fn too_many_readings_within_the_lateness_are_settled_and_the_ledger_stays() {
    let limits = Limits { most: 100, ..OPEN };
    let mut table = Table::default();
    let readings: Vec<_> =
        (0..1000).map(|at| said(at % 3 == 0, at, f64::from(at as i32 % 7 / 3))).collect();
    readings.iter().for_each(|reading| table.take(*reading, &limits));
    assert_eq!(outline(&table.problems), oracle(&readings));
    assert!(table.edge.settled_until() > 800 && table.reviews < 4000);
}

/// Readings with the delay that each comes with, and how often.
fn stream(lateness: i64) -> impl Strategy<Value = Vec<(Said, i64)>> {
    let level = prop::sample::select(vec![0.0, 50.0, 100.0]);
    let reading = (any::<bool>(), 1..60_i64, level, any::<bool>(), 1..3_usize);
    let gaps = prop::collection::vec((reading, prop::collection::vec(0..=lateness, 2)), 1..60);
    gaps.prop_map(|all| {
        let (mut now, mut stream) = (0, Vec::new());
        for (number, ((current, gap, filling, counts, times), delays)) in
            all.into_iter().enumerate()
        {
            now += gap;
            let seq = counts.then_some(number as u64);
            for delay in delays.into_iter().take(times) {
                // A duplicate by number may carry another time.
                let at = if seq.is_some() && times == 2 { now + delay / 2 } else { now };
                stream.push(((current, Reading { at, filling, seq }), delay));
            }
        }
        stream
    })
}

fn arrived(stream: &[(Said, i64)], scale: i64) -> Vec<Said> {
    let mut stream = stream.to_vec();
    stream.sort_by_key(|((_, reading), delay)| reading.at + delay * scale / 8);
    stream.into_iter().map(|it| it.0).collect()
}

/// A tube whose following sensor never changes.
fn alternating(count: i64) -> Vec<Said> {
    let level = |at: i64| if at % 2 == 0 { 100.0 } else { 50.0 };
    let current = (1..=count).map(|at| said(true, at * 1000, level(at)));
    [said(false, 0, 100.0)].into_iter().chain(current).collect()
}

#[test]
fn five_thousand_readings_that_alternate_keep_the_row_small_and_the_ledger_whole() {
    let (limits, readings) = (Limits::default(), alternating(5000));
    let mut table = Table::default();
    // Some at a time, as they come; the last one by one.
    let (first, last) = readings.split_at(4980);
    for some in first.chunks(100) {
        table.readings.extend(&some[1..]);
        table.take(some[0], &limits);
    }
    last.iter().for_each(|it| table.take(*it, &limits));
    assert_eq!(outline(&table.problems), oracle(&readings));
    let row = serde_json::to_string(&table.edge).unwrap().len();
    assert!(row < 60_000 && table.edge.settled_until() > 0, "{row} bytes");
}

#[test]
fn what_is_told_stays_within_what_a_row_takes_however_much_there_is_to_tell() {
    let limits = Limits { lateness: FOR_EVER, fold: 256, most: usize::MAX };
    let mut table = Table { readings: alternating(17_000), ..Table::default() };
    table.take(said(true, 17_001_000, 50.0), &limits);
    let row = serde_json::to_string(&table.edge).unwrap().len();
    assert!(row < 300_000, "{row} bytes");
    assert_eq!(table.problems.len(), 8501);
}

#[test]
fn a_reading_that_comes_too_late_is_late_from_when_what_was_told_is_final() {
    let limits = Limits { lateness: 60_000, ..Limits::default() };
    let minutes = |it: i64| it * 60_000;
    let mut table = Table::default();
    for (current, at, filling) in [
        (true, 0, 100.0),
        (false, 0, 100.0),
        (false, 1, 50.0),
        (false, 2, 100.0),
        (true, 12, 100.0),
    ] {
        table.take(said(current, minutes(at), filling), &limits);
    }
    assert!(table.problems[&minutes(1)].settled);
    // With five readings the base has not moved; what is behind the bound is late nevertheless.
    let bound = table.edge.late_until(&limits, minutes(12));
    assert!(bound >= minutes(2) && table.edge.settled_until() < minutes(1));
    let before = table.problems.clone();
    table.take(said(false, minutes(13), 100.0), &Limits { fold: 0, ..limits });
    assert!(table.edge.settled_until() >= bound);
    table.take(said(true, minutes(1), 50.0), &limits);
    assert_eq!(table.problems, before);
}

#[test]
fn what_a_reading_that_is_just_in_time_may_still_change_is_not_final() {
    let limits = Limits { lateness: 100, ..Limits::default() };
    let mut table = Table::default();
    for (current, at, filling) in [(true, 1, 100.0), (false, 100, 50.0), (true, 200, 100.0)] {
        table.take(said(current, at, filling), &limits);
    }
    assert!(!table.problems[&100].settled && table.edge.late_until(&limits, 200) == 99);
    table.take(said(true, 201, 100.0), &limits);
    assert!(table.problems[&100].settled);
}

#[test]
fn what_is_final_is_not_put_right_though_it_had_to_last_before_it_counted() {
    let rule = Rule { confirm: Confirm { count: 3, ..Confirm::default() }, ..Rule::default() };
    let limits = Limits { lateness: 100, fold: 1, most: usize::MAX };
    let mut table = Table { rule, ..Table::default() };
    for (at, filling) in [(10, 100.0), (20, 50.0), (90, 50.0), (110, 50.0), (140, 50.0)] {
        table.take(said(true, at, 100.0), &limits);
        table.take(said(false, at, filling), &limits);
    }
    // It began at 20, and counts since 110: a reading of 50 may still come.
    assert!(!table.problems[&20].settled);
    table.take(said(false, 50, 100.0), &limits);
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 90, None)]);
    table.take(said(true, 300, 100.0), &limits);
    assert!(table.problems[&90].settled);
}

#[test]
fn what_is_final_stays_final_though_the_newest_reading_turns_out_to_be_a_duplicate() {
    let limits = Limits { lateness: 100, fold: usize::MAX, most: usize::MAX };
    let mut table = Table::default();
    for reading in [said(true, 1, 100.0), said(false, 10, 50.0), said(false, 14, 100.0)] {
        table.take(reading, &limits);
    }
    let numbered = |at| (false, Reading { at, filling: 100.0, seq: Some(7) });
    table.take(numbered(130), &limits);
    assert!(table.problems[&10].settled);
    // The same number, earlier: it is this one that counts.
    table.take(numbered(100), &limits);
    assert!(table.problems[&10].settled);
}

#[test]
fn a_counter_that_begins_anew_is_compared_as_it_comes_and_again() {
    let limits = Limits { lateness: 100, fold: 4, most: usize::MAX };
    let numbered = |n: i64| {
        let level = if n % 7 < 3 { 100.0 } else { 50.0 };
        (n % 2 == 0, Reading { at: n * 10, filling: level, seq: Some(n as u64 % 30) })
    };
    let readings: Vec<_> = (0..200).map(numbered).collect();
    let mut all: Vec<_> = oracle(
        &readings.iter().map(|it| (it.0, Reading { seq: None, ..it.1 })).collect::<Vec<_>>(),
    );
    let live = outline(&ledger(&readings, &limits));
    all.truncate(live.len());
    assert_eq!(live, all);
    let (current, following) = (of(true, &readings), of(false, &readings));
    let again = State::<EdgeStand>::default().replay(&Rule::default(), &limits, current, following);
    let again: Vec<_> =
        again.iter().map(|it| (it.kind, it.opened.at, it.resolved.map(|it| it.at))).collect();
    assert_eq!(live, again);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn under_the_default_limits_any_order_of_an_hour_ends_in_the_same_ledger(
        levels in prop::collection::vec((any::<bool>(), prop::sample::select(vec![0.0, 50.0, 100.0])), 1..400),
        order in any::<u64>(),
    ) {
        let limits = Limits::default();
        let gap = 3_599_000 / levels.len() as i64;
        let readings: Vec<_> = levels.iter().enumerate()
            .map(|(n, (current, level))| said(*current, 1 + n as i64 * gap, *level)).collect();
        let mut mixed: Vec<_> = readings.iter().enumerate().collect();
        mixed.sort_by_key(|(n, _)| (*n as u64 + 1).wrapping_mul(order | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mixed: Vec<_> = mixed.into_iter().map(|it| *it.1).collect();
        let mut table = Table::default();
        for some in mixed.chunks(25) {
            table.readings.extend(&some[1..]);
            table.take(some[0], &limits);
        }
        prop_assert_eq!(&outline(&table.problems), &oracle(&readings));
        let mut plain = Table { readings, ..Table::default() };
        if let Some(last) = plain.readings.pop() {
            plain.take(last, &limits);
        }
        prop_assert_eq!(table.problems, plain.problems);
    }

    #[test]
    fn detectors_remember_what_is_finite_whatever_finite_levels_they_see(
        levels in prop::collection::vec(any::<f64>().prop_filter("finite", |it| it.is_finite()), 1..60),
        extreme in any::<bool>(),
    ) {
        let rule = DeviceRule {
            rate: Some(Rate { most: 5.0, per: 1 }),
            stuck: Some(Stuck { lasting: 5, within: 1.0 }),
            drift: Some(Drift { warm_up: 3, ..Drift::default() }),
            seasonal: Some(Seasonal { period: 4, buckets: 2, warm_up: 2, ..Seasonal::default() }),
            outlier: Some(Outlier { warm_up: 2, ..Outlier::default() }),
            ..DeviceRule::default()
        };
        let level = |it: f64| if extreme { 1e308_f64.copysign(it) } else { it };
        let readings: Vec<_> = levels.iter().enumerate()
            .map(|(at, it)| Reading { at: at as i64, filling: level(*it), seq: None }).collect();
        let limits = Limits { lateness: 5, fold: 1, most: usize::MAX };
        let mut state = State::<DeviceStand>::default();
        for times in 0.. {
            let next = state.review(&rule, &limits, readings.clone(), Vec::new()).next;
            let text = serde_json::to_string(&next).unwrap();
            // As whole texts: what is packed as base64 may contain the letters.
            let endless = ["\"NaN\"", "\"inf\"", "\"-inf\""];
            prop_assert!(!endless.iter().any(|it| text.contains(it)), "{}", text);
            if std::mem::replace(&mut state, next) == state {
                break;
            }
            prop_assert!(times < 20);
        }
    }

    #[test]
    fn any_order_and_any_duplication_end_in_the_same_ledger(
        stream in stream(300),
        order in any::<prop::sample::Index>(),
    ) {
        let readings = arrived(&stream, 0);
        let mut turned = [readings.clone(), readings.clone()].concat();
        turned.rotate_left(order.index(readings.len()));
        turned.reverse();
        let expected = ledger(&readings, &OPEN);
        prop_assert_eq!(&outline(&expected), &oracle(&readings));
        prop_assert_eq!(&ledger(&turned, &OPEN), &expected);
    }

    #[test]
    fn any_delay_within_the_lateness_ends_in_the_same_ledger_though_the_base_moves(
        stream in stream(300),
        scale in 0..=8_i64,
        fold in 1..5_usize,
    ) {
        let limits = Limits { lateness: 300, fold, most: usize::MAX };
        let (in_time, late) = (arrived(&stream, 0), arrived(&stream, scale));
        let expected = ledger(&in_time, &OPEN);
        prop_assert_eq!(&outline(&expected), &oracle(&in_time));
        prop_assert_eq!(&unsettled(ledger(&late, &limits)), &expected);
        let moved = in_time.last().unwrap().1.at > 1200;
        let mut table = Table::default();
        late.iter().for_each(|reading| table.take(*reading, &limits));
        prop_assert!(!moved || fold > 1 || table.edge.settled_until() > 0);
    }

    #[test]
    fn what_is_stored_is_read_back_to_the_bit(filling in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
        let sample = Sample { at: 1, filling };
        let text = serde_json::to_string(&sample).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
    }
}
