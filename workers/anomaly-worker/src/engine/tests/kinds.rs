//! What is told of each kind, and when.

use super::{Episode, Said, Table, ledger_of, outline, said};
use crate::{engine::*, reading::Reading};

const OPEN: Limits = super::OPEN;

fn flows(pairs: &[(i64, f64, f64)]) -> Vec<Said> {
    let both = |(at, current, following): &(i64, f64, f64)| {
        [said(true, *at, *current), said(false, *at, *following)]
    };
    pairs.iter().flat_map(both).collect()
}

fn kinds(rule: Rule, pairs: &[(i64, f64, f64)]) -> Vec<(Kind, i64, Option<i64>)> {
    outline(&ledger_of(rule, &flows(pairs), &OPEN))
}

/// The episodes of a device, at a clock.
fn watched(rule: &DeviceRule, levels: &[(i64, f64)], clock: i64) -> Vec<Episode> {
    let reading = |(at, filling): &(i64, f64)| Reading { at: *at, filling: *filling, seq: None };
    let readings: Vec<_> = levels.iter().map(reading).collect();
    let state = State::beginning(DeviceStand::expected(0)).at_clock(&OPEN, clock);
    let review = state.review(rule, &OPEN, readings, Vec::new());
    let told = |it: &Change| match it {
        Change::Tell(episode) => *episode,
        Change::Retract(gone) => panic!("nothing was told: {gone:?}"),
    };
    review.changes.iter().map(told).collect()
}

fn outlined(rule: &DeviceRule, levels: &[(i64, f64)], clock: i64) -> Vec<(Kind, i64, Option<i64>)> {
    let all = watched(rule, levels, clock);
    all.iter().map(|it| (it.kind, it.opened.at, it.resolved.map(|end| end.at))).collect()
}

#[test]
fn ratio_thresholds_and_hysteresis_are_the_edges_own() {
    let half = Rule { ratio: 0.5, tolerance: 5.0, ..Rule::default() };
    assert_eq!(half.compare(100.0, 52.0), None);
    assert_eq!(half.compare(100.0, 60.0), Some(Kind::Problem));
    let relative = Rule { relative: 0.1, ..Rule::default() };
    assert_eq!(relative.compare(100.0, 91.0), None);
    assert_eq!(relative.compare(10.0, 8.0), Some(Kind::Obstruction));
    let of_the_expected = Rule { ratio: 0.5, ..relative };
    assert_eq!(
        [55.0, 57.0].map(|it| of_the_expected.compare(100.0, it)),
        [None, Some(Kind::Problem)]
    );
    let own = Rule { obstruction: Some(20.0), problem: Some(1.0), ..Rule::default() };
    assert_eq!(own.compare(100.0, 81.0), None);
    assert_eq!(own.compare(100.0, 102.0), Some(Kind::Problem));
    let rule = Rule { tolerance: 10.0, hysteresis: 5.0, ..Rule::default() };
    let found = kinds(rule, &[(1, 100.0, 80.0), (2, 100.0, 92.0), (3, 100.0, 96.0)]);
    assert_eq!(found, [(Kind::Obstruction, 1, Some(3))]);
}

#[test]
fn a_debounced_answer_counts_from_when_it_began_once_it_has_lasted() {
    let confirm = Confirm { debounce: 10, ..Confirm::default() };
    let rule = Rule { confirm, ..Rule::default() };
    let blip = [(1, 9.0, 9.0), (5, 9.0, 0.0), (9, 9.0, 9.0), (20, 9.0, 9.0)];
    assert!(kinds(rule, &blip).is_empty());
    let lasting = [(5, 9.0, 0.0), (14, 9.0, 0.0), (15, 9.0, 0.0), (30, 9.0, 9.0), (40, 9.0, 9.0)];
    assert_eq!(kinds(rule, &lasting[..2]), []);
    assert_eq!(kinds(rule, &lasting), [(Kind::Obstruction, 5, Some(30))]);
    let confirm = Confirm { count: 3, ..Confirm::default() };
    let rule = Rule { confirm, ..Rule::default() };
    // Both sensors speak at once, which is one answer.
    assert_eq!(kinds(rule, &lasting[..2]), []);
    assert_eq!(kinds(rule, &lasting[..3]), [(Kind::Obstruction, 5, None)]);
}

#[test]
fn what_wavers_about_the_bound_opens_nothing_and_what_lasts_is_told_from_when_it_began() {
    let plain = Confirm { count: 2, ..Confirm::default() };
    let rule = |confirm| Rule { tolerance: 10.0, confirm, ..Rule::default() };
    let summed = rule(Confirm { sum: 20.0, ..plain });
    let flow = |missing: &[f64]| -> Vec<_> {
        let all = missing.iter().zip(1..);
        all.map(|(missing, at)| (at, 50.0, 50.0 - missing)).collect()
    };
    // On average less is missing than may be; twice in a row it is more.
    let wavers = flow(&[13.0, 14.0, 1.0].repeat(20));
    assert!(!kinds(rule(plain), &wavers).is_empty());
    assert_eq!(kinds(summed, &wavers), []);
    // More is missing from the fifth on, though the seventh says otherwise.
    let lasts = [0.0, 12.0, 0.0, 0.0, 25.0, 15.0, 8.0, 17.0, 21.0, 16.0];
    assert_eq!(kinds(summed, &flow(&lasts)), [(Kind::Obstruction, 5, None)]);
    assert_eq!(kinds(summed, &flow(&lasts[..6])), [(Kind::Obstruction, 5, None)]);
    assert_eq!(kinds(summed, &flow(&lasts[..5])), []);
    // One contrary word ends nothing; what ends, ends when it began to.
    let ends = [&lasts[..], &[2.0, 18.0, 0.0, 1.0, 3.0, 0.0]].concat();
    assert_eq!(kinds(summed, &flow(&ends)), [(Kind::Obstruction, 5, Some(13))]);
}

#[test]
fn where_answers_add_up_a_word_beyond_the_other_bound_says_that_it_is_over_too() {
    let confirm = Confirm { count: 2, sum: 20.0, ..Confirm::default() };
    let rule = Rule { tolerance: 10.0, confirm, ..Rule::default() };
    let flow = |missing: &[f64]| -> Vec<_> {
        let all = missing.iter().zip(1..);
        all.map(|(missing, at)| (at, 50.0, 50.0 - missing)).collect()
    };
    // Noise about what is well: now and then it is beyond.
    let over = flow(&[25.0, 25.0, 25.0, 3.0, -12.0, 3.0, -12.0, 3.0]);
    assert_eq!(kinds(rule, &over), [(Kind::Obstruction, 1, Some(4))]);
    let other = flow(&[25.0, 25.0, 25.0, -30.0, -30.0, -30.0]);
    assert_eq!(kinds(rule, &other), [(Kind::Obstruction, 1, Some(4)), (Kind::Problem, 4, None)]);
}

#[test]
fn where_answers_add_up_nothing_opens_on_a_word_that_says_otherwise() {
    let confirm = Confirm { sum: 20.0, debounce: 3, ..Confirm::default() };
    let rule = Rule { tolerance: 10.0, confirm, ..Rule::default() };
    let flow = |missing: &[f64]| -> Vec<_> {
        let all = missing.iter().zip(1..);
        all.map(|(missing, at)| (at, 50.0, 50.0 - missing)).collect()
    };
    // The time is over at the fourth word, which is of the contrary, and at the fifth.
    assert_eq!(kinds(rule, &flow(&[30.0, 30.0, 30.0, -15.0])), []);
    assert_eq!(kinds(rule, &flow(&[30.0, 30.0, 30.0, 30.0])), [(Kind::Obstruction, 1, None)]);
}

#[test]
fn clocks_that_are_apart_are_no_problem_and_hide_none() {
    let tolerance = 5.0;
    let confirm = Confirm { debounce: 6, ..Confirm::default() };
    let apart = Rule { tolerance, confirm, clock: 6, ..Rule::default() };
    // A shower, from 20 to 40; the following sensor's clock is behind by 4.
    let level = |at: i64| 40.0 + 2.0 * (at.clamp(20, 40) - 20) as f64;
    let flow = |blocked: std::ops::Range<i64>| -> Vec<_> {
        let missing = |at| if blocked.contains(&at) { 30.0 } else { 0.0 };
        (0..80).map(|at| (at, level(at), level(at - 4) - missing(at))).collect()
    };
    assert_eq!(kinds(apart, &flow(0..0)), []);
    let same = Rule { clock: 0, ..apart };
    assert_eq!(kinds(same, &flow(0..0)).len(), 1, "as if clocks were right");
    let blocked = kinds(apart, &flow(30..60));
    assert_eq!(blocked, [(Kind::Obstruction, 30, Some(60))]);
    // A shower that one of them alone sees is none.
    let alone =
        kinds(Rule { clock: 6, tolerance, ..Rule::default() }, &[(0, 40.0, 40.0), (1, 80.0, 43.0)]);
    assert_eq!(alone, [(Kind::Obstruction, 1, None)]);
    // What was there before the shower lasts through it.
    assert_eq!(kinds(apart, &flow(10..70)), [(Kind::Obstruction, 10, Some(70))]);
}

/// What begins with a word of these is dated between it and the one before, if they are so near.
fn between(between: i64) -> Rule {
    Rule { confirm: Confirm { between, ..Confirm::default() }, ..Rule::default() }
}

#[test]
fn what_began_while_readings_were_lost_is_dated_in_the_middle_of_that_time() {
    // One after the other, never at one time; of the following sensor's words some are lost.
    let level = |at| if (11..33).contains(&at) { 0.0 } else { 9.0 };
    let is_heard = |at: &i64| !(11..18).contains(at) && !(31..36).contains(at);
    let heard = (0..40).filter(is_heard).map(|at| said(false, 2 * at, level(at)));
    let mut all: Vec<_> = (0..40).map(|at| said(true, 2 * at + 1, 9.0)).chain(heard).collect();
    let found = ledger_of(between(20), &all, &OPEN);
    assert_eq!(outline(&found), [(Kind::Obstruction, 28, Some(66))]);
    let heard = |turn: Turn| (turn.evidence.following.map(|it| it.at), turn.evidence.heard);
    let turns = [found[&28].opened, found[&28].resolved.unwrap()].map(heard);
    assert_eq!(turns, [(Some(36), Some(36)), (Some(72), Some(72))]);
    // Of a longer time nobody knows, and who is not told to look dates by the words alone.
    for rule in [between(11), Rule::default()] {
        let plain = outline(&ledger_of(rule, &all, &OPEN));
        assert_eq!(plain, [(Kind::Obstruction, 36, Some(72))]);
    }
    let told = |most| {
        outline(&ledger_of(
            between(most),
            &[said(true, 0, 9.0), said(false, 0, 9.0), said(false, 10, 0.0)],
            &OPEN,
        ))
    };
    assert_eq!([told(10), told(9)].map(|it| it[0].1), [5, 10], "so far and no further");
    // One of the lost comes late.
    all.push(said(false, 22, 0.0));
    let moved = outline(&ledger_of(between(20), &all, &OPEN));
    assert_eq!(moved, [(Kind::Obstruction, 21, Some(66))]);
}

#[test]
fn what_was_said_while_the_other_was_not_heard_opens_nothing_and_dates_what_does() {
    // Nothing flows from the word at 14 on, and the current sensor is not heard from 9 to 21.
    let told = |between: i64, lost: &[(i64, f64)], until: i64| {
        let rule = Rule {
            stale: [Some(3); 2],
            confirm: Confirm { between, ..Confirm::default() },
            ..Rule::default()
        };
        let current = (1..until).step_by(2).filter(|at| !(10..21).contains(at));
        let following = (0..12).step_by(2).map(|at| (at, 9.0)).chain(lost.iter().copied());
        let following = following.filter(|it| it.0 < until).map(|(at, it)| said(false, at, it));
        let all = current.map(|at| said(true, at, 9.0)).chain(following).collect::<Vec<_>>();
        outline(&ledger_of(rule, &all, &OPEN))
    };
    let lost = [(14, 0.0), (20, 0.0)];
    assert_eq!(told(20, &lost, 21), []);
    assert_eq!(told(20, &lost, 22), [(Kind::Obstruction, 12, None)], "between 10 and 14");
    assert_eq!(told(20, &[(14, 9.0), (20, 0.0)], 22), [(Kind::Obstruction, 17, None)]);
    // Of a longer time nobody knows, and who is not told to look guesses nothing.
    assert_eq!(told(11, &lost, 22), [(Kind::Obstruction, 21, None)]);
    assert_eq!(told(0, &lost, 22), [(Kind::Obstruction, 21, None)]);
}

#[test]
fn no_change_is_dated_before_the_one_before_it() {
    // The current sensor turns, while the following one is not heard from 10 on.
    let resolved = |turns: i64, heard: i64| {
        let level = |at| if at < turns { 9.0 } else { 5.0 };
        let current = (0..heard).map(|at| said(true, at, level(at)));
        let following = [(10, 9.0), (heard, 5.0)].map(|(at, level)| said(false, at, level));
        outline(&ledger_of(between(40), &current.chain(following).collect::<Vec<_>>(), &OPEN))
    };
    assert_eq!(resolved(19, 40), [(Kind::Problem, 19, Some(25))]);
    assert_eq!(resolved(26, 34), [(Kind::Problem, 26, Some(27))], "22 were the middle");
}

#[test]
fn travel_delay_compares_with_what_passed_before() {
    let rule = Rule { delay: 10, ..Rule::default() };
    let wave = [(0, 1.0, 1.0), (5, 9.0, 1.0), (15, 9.0, 9.0), (20, 1.0, 9.0), (30, 1.0, 1.0)];
    assert!(kinds(rule, &wave).is_empty(), "a wave that travels is no problem");
    let blocked = [(0, 1.0, 1.0), (5, 9.0, 1.0), (15, 9.0, 1.0), (20, 9.0, 1.0)];
    assert_eq!(kinds(rule, &blocked), [(Kind::Obstruction, 15, None)]);
    assert_eq!(kinds(Rule::default(), &wave).len(), 2);
}

#[test]
fn flapping_is_one_problem_with_a_count() {
    let rule = Rule { confirm: Confirm { flap: 5, ..Confirm::default() }, ..Rule::default() };
    let flaps: Vec<_> = (0..20).map(|at| (at, 9.0, if at % 2 == 0 { 0.0 } else { 9.0 })).collect();
    let found: Vec<_> = ledger_of(rule, &flows(&flaps), &OPEN).into_values().collect();
    assert_eq!((found.len(), found[0].flaps, found[0].opened.at), (1, 9, 0));
    assert_eq!(found[0].resolved.unwrap().at, 19);
    let again = [flaps, vec![(30, 9.0, 0.0)]].concat();
    let found: Vec<_> = ledger_of(rule, &flows(&again), &OPEN).into_values().collect();
    assert_eq!((found.len(), found[1].recurrences, found[1].flaps), (2, 1, 0));
}

#[test]
fn a_problem_of_another_kind_or_that_comes_back_later_is_another_one() {
    let rule = Rule { confirm: Confirm { flap: 5, ..Confirm::default() }, ..Rule::default() };
    let soon = [(1, 9.0, 0.0), (2, 9.0, 9.0), (3, 9.0, 20.0)];
    let wanted = [(Kind::Obstruction, 1, Some(2)), (Kind::Problem, 3, None)];
    assert_eq!(kinds(rule, &soon), wanted);
    let back = |at| kinds(rule, &[(1, 9.0, 0.0), (2, 9.0, 9.0), (at, 9.0, 0.0)]).len();
    assert_eq!((back(7), back(8)), (1, 2));
}

#[test]
fn a_problem_that_flaps_after_the_base_moved_past_its_end_is_still_the_same() {
    let rule = Rule { confirm: Confirm { flap: 900, ..Confirm::default() }, ..Rule::default() };
    let limits = Limits { lateness: 10, fold: 1, most: usize::MAX };
    let mut table = Table { rule, ..Table::default() };
    let quiet = (3..60).map(|at| (at * 10, 9.0, 9.0));
    let story: Vec<_> = [(1, 9.0, 0.0), (2, 9.0, 9.0)].into_iter().chain(quiet).collect();
    flows(&story).into_iter().for_each(|it| table.take(it, &limits));
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 1, Some(2))]);
    table.take(said(false, 700, 0.0), &limits);
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 1, None)]);
    // It never came back, a late reading shows: it has ended as before.
    table.take(said(true, 700, 0.0), &limits);
    assert_eq!(outline(&table.problems), [(Kind::Obstruction, 1, Some(2))]);
}

#[test]
fn a_silent_sensor_is_never_no_flow() {
    let rule = Rule { stale: [Some(10), Some(10)], ..Rule::default() };
    let mut readings = flows(&[(0, 9.0, 9.0)]);
    readings.extend([said(true, 8, 9.0), said(true, 20, 0.0), said(true, 30, 5.0)]);
    assert!(ledger_of(rule, &readings, &OPEN).is_empty());
    readings.push(said(false, 31, 9.0));
    assert_eq!(outline(&ledger_of(rule, &readings, &OPEN)), [(Kind::Problem, 31, None)]);
}

#[test]
fn a_word_is_compared_until_it_is_older_than_it_may_be() {
    let rule = Rule { stale: [Some(10), Some(10)], ..Rule::default() };
    let found = |at| ledger_of(rule, &[said(false, 0, 9.0), said(true, at, 0.0)], &OPEN).len();
    assert_eq!((found(10), found(11)), (1, 0));
    let found = |at| ledger_of(rule, &[said(true, 0, 9.0), said(false, at, 0.0)], &OPEN).len();
    assert_eq!((found(10), found(11)), (1, 0));
}

#[test]
fn a_silence_counts_at_once_whatever_else_has_to_be_confirmed() {
    let confirm = Confirm { count: 3, debounce: 60, ..Confirm::default() };
    let rule = DeviceRule { silence: Some(10), confirm, ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[(5, 1.0)], 16), [(Kind::Silence, 15, None)]);
    assert_eq!(outlined(&rule, &[(5, 1.0), (30, 1.0)], 0), [(Kind::Silence, 15, Some(30))]);
}

#[test]
fn silence_is_told_by_the_clock_or_by_the_reading_that_ends_it() {
    let rule = DeviceRule { silence: Some(10), ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[], 10), []);
    assert_eq!(outlined(&rule, &[], 11), [(Kind::Silence, 10, None)], "it was never heard");
    assert_eq!(outlined(&rule, &[(5, 1.0)], 15), []);
    assert_eq!(outlined(&rule, &[(5, 1.0)], 16), [(Kind::Silence, 15, None)]);
    assert_eq!(outlined(&rule, &[(5, 1.0), (30, 1.0)], 0), [(Kind::Silence, 15, Some(30))]);
    let wanted = [(Kind::Silence, 15, Some(30)), (Kind::Silence, 40, None)];
    assert_eq!(outlined(&rule, &[(5, 1.0), (30, 1.0)], 99), wanted);
    let late = [(5, 1.0), (14, 1.0), (22, 1.0), (30, 1.0)];
    assert_eq!(outlined(&rule, &late, 31), [], "what came late takes it back");
}

#[test]
fn thresholds_ranges_rates_and_stuck_levels_are_told_of_the_device() {
    let threshold = Threshold { above: Some(80.0), below: Some(5.0), hysteresis: 10.0 };
    let rule = DeviceRule { threshold: Some(threshold), ..DeviceRule::default() };
    let levels = [(1, 50.0), (2, 81.0), (3, 75.0), (4, 69.0), (5, 4.0)];
    let wanted = [(Kind::Threshold, 2, Some(4)), (Kind::Threshold, 5, None)];
    assert_eq!(outlined(&rule, &levels, 0), wanted);
    let rule = DeviceRule { range: Some(Range { min: 0.0, max: 100.0 }), ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[(1, 100.0), (2, -0.1)], 0), [(Kind::Range, 2, None)]);
    let rule = DeviceRule { rate: Some(Rate { most: 10.0, per: 100 }), ..DeviceRule::default() };
    let levels = [(0, 0.0), (100, 10.0), (150, 16.0), (250, 16.0)];
    assert_eq!(outlined(&rule, &levels, 0), [(Kind::Rate, 150, Some(250))]);
    let rule =
        DeviceRule { stuck: Some(Stuck { lasting: 20, within: 0.5 }), ..DeviceRule::default() };
    let levels = [(0, 1.0), (10, 1.4), (19, 1.0), (20, 1.2), (30, 2.0)];
    assert_eq!(outlined(&rule, &levels, 0), [(Kind::Stuck, 20, Some(30))]);
}

#[test]
fn what_is_at_the_very_bound_is_allowed_and_a_bound_has_hysteresis_on_either_side() {
    let threshold = Threshold { above: Some(80.0), below: Some(20.0), hysteresis: 10.0 };
    let rule = DeviceRule { threshold: Some(threshold), ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[(1, 80.0), (2, 20.0)], 0), []);
    let levels = [(1, 19.0), (2, 29.0), (3, 30.0), (4, 81.0), (5, 71.0), (6, 70.0)];
    let wanted = [(Kind::Threshold, 1, Some(3)), (Kind::Threshold, 4, Some(6))];
    assert_eq!(outlined(&rule, &levels, 0), wanted);
    let rule = DeviceRule { range: Some(Range { min: 0.0, max: 100.0 }), ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[(1, 0.0), (2, 100.0)], 0), []);
    let rule =
        DeviceRule { stuck: Some(Stuck { lasting: 20, within: 0.5 }), ..DeviceRule::default() };
    assert_eq!(outlined(&rule, &[(0, 1.0), (20, 1.5)], 0), [(Kind::Stuck, 20, None)]);
}

/// A number from −1 to 1 that looks random (SplitMix64).
fn noise(number: i64) -> f64 {
    let mut z = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

#[test]
fn a_drift_is_told_and_noise_is_not() {
    let rule = DeviceRule { drift: Some(Drift::default()), ..DeviceRule::default() };
    let steady: Vec<_> = (0..3000).map(|at| (at, 50.0 + noise(at))).collect();
    assert_eq!(outlined(&rule, &steady, 0), []);
    let moving = |at: i64| 50.0 + noise(at) + (at - 500).max(0) as f64 * 0.01;
    let drifts: Vec<_> = (0..1500).map(|at| (at, moving(at))).collect();
    let found = outlined(&rule, &drifts, 0);
    assert_eq!((found.len(), found[0].0), (1, Kind::Drift));
    assert!((560..800).contains(&found[0].1), "{found:?}");
}

#[test]
fn a_drift_is_told_downward_too_and_ends_soon_after_the_levels_are_back() {
    let rule = DeviceRule { drift: Some(Drift::default()), ..DeviceRule::default() };
    for way in [1.0, -1.0] {
        let away = |at| if (500..3000).contains(&at) { way * 5.0 } else { 0.0 };
        let levels: Vec<_> = (0..3200).map(|at| (at, 50.0 + noise(at) + away(at))).collect();
        let found = outlined(&rule, &levels, 0);
        assert_eq!((found.len(), found[0].0), (1, Kind::Drift), "{way}: {found:?}");
        assert!((500..510).contains(&found[0].1), "{way}: {found:?}");
        assert!(found[0].2.is_some_and(|end| (3000..3060).contains(&end)), "{way}: {found:?}");
    }
}

#[test]
fn a_difference_below_the_least_is_no_outlier_however_still_the_signal() {
    let outlier = Outlier { least: 10.0, ..Outlier::default() };
    let rule = DeviceRule { outlier: Some(outlier), ..DeviceRule::default() };
    let levels = |last| -> Vec<_> {
        (0..100).map(|at| (at, 50.0 + 0.01 * noise(at))).chain([(100, last)]).collect()
    };
    assert_eq!(outlined(&rule, &levels(59.0), 0), []);
    assert_eq!(outlined(&rule, &levels(61.0), 0), [(Kind::Outlier, 100, None)]);
}

#[test]
fn an_outlier_is_told_and_does_not_teach() {
    let rule = DeviceRule { outlier: Some(Outlier::default()), ..DeviceRule::default() };
    let level = |at: i64| if (1000..1010).contains(&at) { 80.0 } else { 50.0 + noise(at) };
    let levels: Vec<_> = (0..2000).map(|at| (at, level(at))).collect();
    assert_eq!(outlined(&rule, &levels, 0), [(Kind::Outlier, 1000, Some(1010))]);
}

#[test]
fn a_level_is_compared_with_its_own_time_of_the_season() {
    let seasonal = Seasonal { period: 240, buckets: 24, warm_up: 20, ..Seasonal::default() };
    let rule = DeviceRule { seasonal: Some(seasonal), ..DeviceRule::default() };
    let normal = |at: i64| if at % 240 < 120 { 20.0 } else { 80.0 } + noise(at);
    let strange = |at: i64| if at == 2000 { 80.0 } else { normal(at) };
    let levels: Vec<_> = (0..2400).map(|at| (at, strange(at))).collect();
    assert_eq!(outlined(&rule, &levels, 0), [(Kind::Seasonal, 2000, Some(2001))]);
}
