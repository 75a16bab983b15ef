//! Which cause is named, and for what.

use proptest::prelude::*;

use super::*;
use crate::engine::{Evidence, Kind, Sample, Turn};

/// A problem that was drawn: between two sensors, or of one of some kind; when it opened, and how
/// long it lasts.
type Drawn = (u8, u8, i64, i64);

/// What each sensor said last was said just then.
fn heard(mut trouble: Trouble, current: i64, following: i64) -> Trouble {
    let said = |at| Some(Sample { at, filling: 1.0 });
    trouble.episode.opened.evidence =
        Evidence { current: said(current), following: said(following), heard: None };
    trouble
}

fn of_kind(kind: Kind, trouble: Trouble) -> Trouble {
    Trouble { episode: Episode { kind, ..trouble.episode }, ..trouble }
}

/// Nobody knows how often sensors are read.
fn unknown(_: &str) -> Pace {
    Pace::default()
}

fn drawn(drawn: &[Drawn]) -> Vec<Trouble> {
    let one = |(number, (a, b, opened, lasts)): (usize, &Drawn)| {
        let at = opened * 100 + number as i64;
        let kind = Kind::ALL[2 + *lasts as usize % 8];
        match a == b {
            true => of_kind(kind, trouble(&a.to_string(), at, Some(at + lasts * 50))),
            false => trouble(&format!("{a}-{b}"), at, Some(at + lasts * 50)),
        }
    };
    drawn.iter().enumerate().map(one).collect()
}

fn trouble(ends: &str, opened: i64, resolved: Option<i64>) -> Trouble {
    let turn = |at| Turn { at, evidence: Evidence::default() };
    let subject = match ends.split_once('-') {
        Some((a, b)) => Subject::Edge { current: a.to_owned(), following: b.to_owned() },
        None => Subject::Device(ends.to_owned()),
    };
    let kind = if subject.following().is_some() { Kind::Obstruction } else { Kind::Stuck };
    let (opened, resolved) = (turn(opened), resolved.map(turn));
    let episode = Episode { kind, opened, resolved, flaps: 0, recurrences: 0, settled: false };
    Trouble { subject, episode }
}

#[test]
fn neighbours_that_fail_together_follow_from_one() {
    let all = [
        trouble("b-c", 10, None),
        trouble("a-b", 10, None),
        trouble("c-d", 12, Some(15)),
        trouble("x-y", 10, None),
        trouble("d-e", 20, None),
    ];
    assert_eq!(causes(&all, &unknown), [Some(1), None, Some(1), None, None]);
}

#[test]
fn a_sensor_that_fails_is_the_cause_of_what_its_edges_tell() {
    let all = [
        trouble("a-b", 9, None),
        trouble("b", 9, None),
        trouble("b-c", 10, None),
        // Not of what its words have no part in, though it fails together with what they have.
        trouble("c-d", 10, None),
    ];
    assert_eq!(causes(&all, &unknown), [Some(1), None, Some(1), None]);
}

#[test]
fn a_fault_is_never_the_cause_of_what_failed_before_it() {
    let mut all = [trouble("a-b", 5, None), of_kind(Kind::Range, trouble("b", 9, None))];
    assert_eq!(causes(&all, &unknown), [None, None]);
    // But who has not moved for ten was stuck before the first was told.
    all[1] = of_kind(Kind::Stuck, all[1].clone());
    let pace = |_: &str| Pace { stuck: Some(10), ..Pace::default() };
    assert_eq!(causes(&all, &pace), [Some(1), None]);
}

#[test]
fn what_is_observed_at_a_device_is_no_cause_of_its_edges_but_follows_from_what_failed_before() {
    // The water backs up behind what is in the way.
    let blocked = heard(trouble("m2-m3", 100, None), 95, 100);
    let high = of_kind(Kind::Threshold, trouble("m2", 110, None));
    let far = of_kind(Kind::Outlier, trouble("m2", 110, None));
    let all = [high.clone(), blocked, far.clone()];
    assert_eq!(causes(&all, &unknown), [Some(1), None, Some(1)]);
    // Where it was high before, one has nothing to do with the other.
    let later = heard(trouble("m2-m3", 200, None), 195, 200);
    assert_eq!(causes(&[high, later, far], &unknown), [None, None, Some(0)]);
}

#[test]
fn a_silent_sensor_is_no_cause_of_a_blockage_that_it_has_no_part_in() {
    // What `k3` said at 100 opened both; `k4` was heard at 95 for the last time.
    let silence = of_kind(Kind::Silence, heard(trouble("k4", 115, Some(200)), 95, 95));
    let all = [
        heard(trouble("k2-k3", 100, None), 98, 100),
        of_kind(Kind::Problem, heard(trouble("k3-k4", 100, Some(115)), 100, 95)),
        silence.clone(),
    ];
    assert_eq!(causes(&all, &unknown), [None, Some(0), None]);
    // Also where nobody else's word tells of the second.
    let alone = heard(trouble("k3-k4", 95, None), 90, 95);
    assert_eq!(causes(&[all[0].clone(), alone, silence], &unknown), [None, Some(2), None]);
}

#[test]
fn what_is_dated_before_it_was_heard_is_told_by_who_was_heard() {
    // What `k3` said at 100 opened both; `k4` was heard at 95 for the last time.
    let dated = |mut trouble: Trouble| {
        trouble.episode.opened.evidence.heard = Some(100);
        trouble
    };
    let all = [
        dated(heard(trouble("k3-k5", 90, None), 100, 98)),
        dated(of_kind(Kind::Problem, heard(trouble("k4-k3", 90, Some(115)), 95, 100))),
        of_kind(Kind::Silence, heard(trouble("k4", 115, Some(200)), 95, 95)),
    ];
    assert_eq!(causes(&all, &unknown), [None, Some(0), None]);
}

#[test]
fn an_edge_is_no_cause_of_one_that_failed_clearly_before() {
    let before = of_kind(Kind::Problem, heard(trouble("a-b", 100, None), 90, 100));
    let after = heard(trouble("b-c", 400, None), 100, 400);
    assert_eq!(causes(&[before, after], &unknown), [None, None]);
}

#[test]
fn edges_that_begin_to_fail_at_other_times_have_causes_of_their_own() {
    // What `b` said at 100 opened both, though it counts later at the edge that leads from it;
    // what it said at 200 opened the third, which has nothing to do with them.
    let all = [
        of_kind(Kind::Problem, heard(trouble("a-b", 100, None), 98, 100)),
        heard(trouble("b-c", 130, None), 100, 125),
        heard(trouble("x-b", 200, None), 195, 200),
    ];
    let interval = |id: &str| Pace { interval: (id == "b").then_some(10), ..Pace::default() };
    assert_eq!(causes(&all, &interval), [Some(1), None, None]);
    // But what backs up at `b` later follows from what was in the way by then.
    let mut later = all.clone();
    later[2] = of_kind(Kind::Problem, later[2].clone());
    assert_eq!(causes(&later, &interval), [Some(1), None, Some(1)]);
    // Where nobody knows how often it is read, what lasts together belongs together.
    assert_eq!(causes(&all, &unknown), [Some(1), None, Some(1)]);
}

#[test]
fn where_nobody_knows_how_often_a_sensor_is_read_what_fails_an_hour_apart_has_two_causes() {
    let hour = 3_600_000;
    let first = heard(trouble("a-b", 1000, None), 1000, 1000);
    let second = |after: i64| heard(trouble("b-c", 1000 + after, None), 1000 + after, 1000 + after);
    assert_eq!(causes(&[first.clone(), second(hour)], &unknown), [None, Some(0)]);
    for after in [hour + 1, 19 * 24 * hour] {
        assert_eq!(causes(&[first.clone(), second(after)], &unknown), [None, None]);
    }
    let high = |after: i64| {
        let high = of_kind(Kind::Threshold, trouble("b", 1000 + after, None));
        heard(high, 1000 + after, 1000 + after)
    };
    assert_eq!(causes(&[first.clone(), high(hour)], &unknown), [None, Some(0)]);
    assert_eq!(causes(&[first, high(hour + 1)], &unknown), [None, None]);
}

#[test]
fn a_silence_is_the_cause_of_what_the_last_word_decided_and_of_nothing_before_or_after() {
    let silence = of_kind(Kind::Silence, heard(trouble("b", 130, None), 100, 100));
    let edges = |word| heard(trouble("a-b", 120, None), 119, word);
    assert_eq!(causes(&[silence.clone(), edges(100)], &unknown), [None, Some(0)]);
    assert_eq!(causes(&[silence.clone(), edges(90)], &unknown), [None, None]);
    assert_eq!(causes(&[silence, edges(140)], &unknown), [None, None]);
}

#[test]
fn a_fault_is_no_cause_of_what_the_word_that_ended_it_decided() {
    let edge = heard(trouble("a-b", 11, None), 5, 11);
    let high = of_kind(Kind::Threshold, trouble("b", 11, None));
    let range = |until| of_kind(Kind::Range, trouble("b", 10, Some(until)));
    for it in [edge, high] {
        assert_eq!(causes(&[it.clone(), range(12)], &unknown), [Some(1), None]);
        assert_eq!(causes(&[it, range(11)], &unknown), [None, None]);
    }
}

#[test]
fn a_silence_is_no_cause_of_what_failed_before_the_sensor_was_due() {
    let minute = |_: &str| Pace { interval: Some(60), ..Pace::default() };
    let silence = of_kind(Kind::Silence, heard(trouble("a", 280, None), 100, 100));
    let failed = |at| heard(trouble("a-b", at, None), 100, at);
    // It had just spoken, as far as is known.
    assert_eq!(causes(&[failed(101), silence.clone()], &minute), [None, None]);
    assert_eq!(causes(&[failed(101), silence.clone()], &unknown), [Some(1), None]);
    assert_eq!(causes(&[failed(170), silence], &minute), [Some(1), None]);
}

#[test]
fn a_silence_is_no_cause_of_what_the_last_word_told_after_a_long_way() {
    struct Long;
    impl Paces for Long {
        fn pace(&self, _: &str) -> Pace {
            Pace { interval: Some(60), ..Pace::default() }
        }
        fn delay(&self, _: &str, _: &str) -> i64 {
            150
        }
    }
    let silence = |id| of_kind(Kind::Silence, heard(trouble(id, 280, None), 100, 100));
    // What was said at 100 is heard of at the next sensor at 250, and what would have been said then at 310.
    let failed = |at| heard(trouble("a-b", at, None), 100, at);
    assert_eq!(causes(&[failed(250), silence("a")], &Long), [None, None]);
    assert_eq!(causes(&[failed(310), silence("a")], &Long), [None, None]);
    assert_eq!(causes(&[failed(311), silence("a")], &Long), [Some(1), None]);
    // What the following sensor says has no way to go.
    let failed = |at| heard(trouble("a-b", at, None), at - 150, 100);
    assert_eq!(causes(&[failed(160), silence("b")], &Long), [None, None]);
    assert_eq!(causes(&[failed(161), silence("b")], &Long), [Some(1), None]);
}

proptest! {
    #[test]
    fn what_belongs_together_is_found_from_any_of_its_problems(
        ends in prop::collection::vec((0..6_u8, 0..6_u8, 0..50_i64, 0..30_i64), 1..20),
        begin in any::<prop::sample::Index>(),
    ) {
        let all = drawn(&ends);
        let near = |subject: &Subject| -> Vec<Subject> {
            let it = Trouble { subject: subject.clone(), ..all[0].clone() };
            let ends: Vec<_> = it.ends().collect();
            let shares = |other: &&Trouble| other.ends().any(|end| ends.contains(&end));
            all.iter().filter(shares).map(|it| it.subject.clone()).collect()
        };
        let begin = begin.index(all.len());
        let mut together = Together::new(near);
        together.begin(&all[begin].subject, all[begin].episode.opened.at);
        loop {
            let next = together.asks();
            if next.is_empty() {
                break;
            }
            for (subject, (from, to)) in next {
                let ours = all.iter().filter(|it| it.subject == subject && it.episode.opened.at <= to);
                let ours: Vec<_> = ours.filter(|it| it.episode.resolved.unwrap().at >= from).collect();
                ours.iter().for_each(|it| together.add(&subject, it.episode));
            }
        }
        let found = together.troubles();
        let every = causes(&all, &unknown);
        let cause = |it: usize| every[it].unwrap_or(it);
        let wanted = (0..all.len()).filter(|it| cause(*it) == cause(begin));
        for it in wanted {
            prop_assert!(found.contains(&all[it]), "{:?} is missing", all[it]);
        }
        // And each with the cause that it has among all.
        let some = causes(&found, &unknown);
        for (it, cause) in some.iter().enumerate() {
            let place = all.iter().position(|other| *other == found[it]).unwrap();
            prop_assert_eq!(cause.map(|it| &found[it]), every[place].map(|it| &all[it]));
        }
    }

    #[test]
    fn every_problem_that_follows_follows_from_a_cause_whatever_the_order(
        ends in prop::collection::vec((0..6_u8, 0..6_u8, 0..50_i64, 0..30_i64), 1..20),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut all = drawn(&ends);
        let named = |all: &[Trouble]| {
            let causes = causes(all, &unknown);
            let name = |it: usize| (all[it].subject.clone(), all[it].episode.opened.at);
            let links = (0..all.len()).map(|it| (name(it), causes[it].map(name)));
            links.collect::<BTreeMap<_, _>>()
        };
        let found = causes(&all, &unknown);
        for (it, cause) in found.iter().enumerate().filter_map(|it| Some((it.0, (*it.1)?))) {
            prop_assert_eq!(found[cause], None);
            let opened = |it: usize| all[it].episode.opened.at;
            prop_assert!(opened(cause) <= opened(it) || all[cause].episode.kind == Kind::Silence);
        }
        let expected = named(&all);
        let turn = turn.index(all.len());
        all.rotate_left(turn);
        prop_assert_eq!(named(&all), expected);
    }
}
