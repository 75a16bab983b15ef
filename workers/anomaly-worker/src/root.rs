//! Which of several problems is the cause of the others.
//!
//! Problems belong together when they last at the same time, in part at least, and have a sensor in
//! common; or when others between them do. Where it is known how often that sensor is read, two edges
//! must have begun to fail together, too, within three of its readings: what came half an hour later
//! has another cause, unless it is a problem that backs up behind an obstruction that was there. And a device that is silent is the cause of what its last word decided, and
//! of no more.
//!
//! Of those that belong together one is the cause: a device that fails by itself before edges that
//! fail for it, then an obstruction before a problem (what backs up behind it shows upstream, and
//! sooner), then what opened first, then what is furthest upstream. The answer depends on the problems
//! alone, not on the order in which they are given.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    engine::{Episode, Key, Kind},
    tables::Subject,
};

/// An episode of a subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// What it is about.
    pub subject: Subject,
    /// What was told.
    pub episode: Episode,
}

impl Trouble {
    fn ends(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.subject.current()).chain(self.subject.following())
    }

    /// Whether one may be the cause of the other, or what causes both, by what this sensor said that
    /// both have in common; it is read so often (milliseconds), where that is known.
    fn belongs_with(&self, other: &Self, sensor: &str, interval: Option<i64>) -> bool {
        if !self.episode.lasts_with(&other.episode) {
            return false;
        }
        if [self, other].iter().any(|it| it.episode.kind == Kind::Silence) {
            return self.last_word(sensor) == other.last_word(sensor);
        }
        let edges = [self, other].iter().all(|it| it.subject.following().is_some());
        let Some(interval) = interval.filter(|_| edges) else { return true };
        let after = other.last_word(sensor).saturating_sub(self.last_word(sensor));
        let together = TOGETHER.saturating_mul(interval);
        after.saturating_abs() <= together
            || after > 0 && self.backs_up(other, sensor)
            || after < 0 && other.backs_up(self, sensor)
    }

    /// Whether the other is what shows at a sensor where something is in the way further down.
    fn backs_up(&self, other: &Self, sensor: &str) -> bool {
        self.episode.kind == Kind::Obstruction
            && self.subject.current() == sensor
            && other.episode.kind == Kind::Problem
            && other.subject.following() == Some(sensor)
    }

    /// When the sensor said what it had said last when the problem opened, in Unix milliseconds.
    fn last_word(&self, sensor: &str) -> i64 {
        let evidence = self.episode.opened.evidence;
        let word =
            if self.subject.current() == sensor { evidence.current } else { evidence.following };
        word.map_or(self.episode.opened.at, |it| it.at)
    }
}

/// Edges that fail for one reason do so within so many readings of the sensor between them.
const TOGETHER: i64 = 3;
/// With more problems than this that belong together, the rest is left out.
const MOST: usize = 5000;

/// From when until when, in Unix milliseconds of event time.
pub type Times = (i64, i64);

/// Finds all problems that belong together with those of some subjects. It asks for problems, and
/// whoever knows them adds them, until it asks no more.
#[derive(Debug)]
pub struct Together<N> {
    neighbours: N,
    found: BTreeMap<(Subject, Key), Trouble>,
    asked: HashMap<Subject, Times>,
    next: BTreeMap<Subject, Times>,
}

impl<N: Fn(&Subject) -> Vec<Subject>> Together<N> {
    /// Knows what has a sensor in common with a subject.
    pub fn new(neighbours: N) -> Self {
        let (found, asked, next) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self { neighbours, found, asked, next }
    }

    /// Begins at a subject of which something is told otherwise since then (Unix milliseconds).
    pub fn begin(&mut self, subject: &Subject, since: i64) {
        let near = (self.neighbours)(subject);
        near.into_iter().chain([subject.clone()]).for_each(|it| self.want(it, (since, i64::MAX)));
    }

    fn want(&mut self, subject: Subject, (from, to): Times) {
        let known = self.asked.get(&subject);
        if known.is_some_and(|known| known.0 <= from && to <= known.1) {
            return;
        }
        let wide = |a: Times, b: &Times| (a.0.min(b.0), a.1.max(b.1));
        let all = known.into_iter().chain(self.next.get(&subject)).fold((from, to), wide);
        self.next.insert(subject, all);
    }

    /// What is asked for: the problems of these subjects that last at any time of these.
    pub fn asks(&mut self) -> Vec<(Subject, Times)> {
        if self.found.len() > MOST {
            return Vec::new();
        }
        let next: Vec<_> = std::mem::take(&mut self.next).into_iter().collect();
        self.asked.extend(next.iter().cloned());
        next
    }

    /// Adds a problem of a subject.
    pub fn add(&mut self, subject: &Subject, episode: Episode) {
        let trouble = Trouble { subject: subject.clone(), episode };
        if self.found.insert((subject.clone(), episode.key()), trouble).is_none() {
            let until = episode.resolved.map_or(i64::MAX, |turn| turn.at);
            for near in (self.neighbours)(subject) {
                self.want(near, (episode.opened.at, until));
            }
        }
    }

    /// What was found.
    pub fn troubles(self) -> Vec<Trouble> {
        self.found.into_values().collect()
    }
}

/// For each problem the one that it follows from; none for a cause, and for what stands alone.
/// `interval` knows how often a sensor is read, in milliseconds.
pub fn causes(troubles: &[Trouble], interval: impl Fn(&str) -> Option<i64>) -> Vec<Option<usize>> {
    let groups = groups(troubles, interval);
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(number);
    }
    let mut causes = vec![None; troubles.len()];
    for group in members.into_values().filter(|group| group.len() > 1) {
        let Some(cause) = first(troubles, &group) else { continue };
        group.into_iter().filter(|it| *it != cause).for_each(|it| causes[it] = Some(cause));
    }
    causes
}

/// The number of each problem's group.
fn groups(troubles: &[Trouble], interval: impl Fn(&str) -> Option<i64>) -> Vec<usize> {
    let mut at: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, trouble) in troubles.iter().enumerate() {
        trouble.ends().for_each(|end| at.entry(end).or_default().push(number));
    }
    let mut groups: Vec<Option<usize>> = vec![None; troubles.len()];
    for start in 0..troubles.len() {
        let mut found = vec![start];
        while let Some(number) = found.pop() {
            if groups[number].is_some() {
                continue;
            }
            groups[number] = Some(start);
            let it = &troubles[number];
            for end in it.ends() {
                let (interval, near) = (interval(end), at.get(end).into_iter().flatten());
                found.extend(near.filter(|other| {
                    groups[**other].is_none() && it.belongs_with(&troubles[**other], end, interval)
                }));
            }
        }
    }
    groups.into_iter().map(Option::unwrap_or_default).collect()
}

fn first(troubles: &[Trouble], group: &[usize]) -> Option<usize> {
    let followed: HashSet<&str> =
        group.iter().filter_map(|it| troubles[*it].subject.following()).collect();
    let rank = |number: &&usize| {
        let Trouble { subject, episode } = &troubles[**number];
        let edge = subject.following().is_some();
        let downstream = edge && followed.contains(subject.current());
        (edge, episode.kind, episode.opened.at, downstream, subject.clone())
    };
    group.iter().min_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Evidence, Kind, Sample, Turn};

    /// What each sensor said last was said just then.
    fn heard(mut trouble: Trouble, current: i64, following: i64) -> Trouble {
        let said = |at| Some(Sample { at, filling: 1.0 });
        trouble.episode.opened.evidence =
            Evidence { current: said(current), following: said(following) };
        trouble
    }

    fn of_kind(kind: Kind, trouble: Trouble) -> Trouble {
        Trouble { episode: Episode { kind, ..trouble.episode }, ..trouble }
    }

    /// Nobody knows how often sensors are read.
    fn unknown(_: &str) -> Option<i64> {
        None
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
        assert_eq!(causes(&all, unknown), [Some(1), None, Some(1), None, None]);
    }

    #[test]
    fn a_sensor_that_fails_is_the_cause_of_what_its_edges_tell() {
        let all = [trouble("a-b", 5, None), trouble("b", 9, None), trouble("b-c", 5, None)];
        assert_eq!(causes(&all, unknown), [Some(1), None, Some(1)]);
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
        let interval = |id: &str| (id == "b").then_some(10);
        assert_eq!(causes(&all, interval), [Some(1), None, None]);
        // But what backs up at `b` later follows from what was in the way by then.
        let mut later = all.clone();
        later[2] = of_kind(Kind::Problem, later[2].clone());
        assert_eq!(causes(&later, interval), [Some(1), None, Some(1)]);
        // Where nobody knows how often it is read, what lasts together belongs together.
        assert_eq!(causes(&all, unknown), [Some(1), None, Some(1)]);
    }

    #[test]
    fn a_silence_is_the_cause_of_what_the_last_word_decided_and_of_nothing_before_or_after() {
        let silence = of_kind(Kind::Silence, heard(trouble("b", 130, None), 100, 100));
        let edges = |word| heard(trouble("a-b", 120, None), 119, word);
        assert_eq!(causes(&[silence.clone(), edges(100)], unknown), [None, Some(0)]);
        assert_eq!(causes(&[silence.clone(), edges(90)], unknown), [None, None]);
        assert_eq!(causes(&[silence, edges(140)], unknown), [None, None]);
    }

    proptest! {
        #[test]
        fn what_belongs_together_is_found_from_any_of_its_problems(
            ends in prop::collection::vec((0..6_u8, 0..6_u8, 0..50_i64, 0..30_i64), 1..20),
            begin in any::<prop::sample::Index>(),
        ) {
            let all: Vec<_> = ends.iter().enumerate().map(|(number, (a, b, opened, lasts))| {
                let at = opened * 100 + number as i64;
                trouble(&format!("{a}-{b}"), at, Some(at + lasts * 50))
            }).collect();
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
            let groups = groups(&all, unknown);
            let wanted = (0..all.len()).filter(|it| groups[*it] == groups[begin]);
            for it in wanted {
                prop_assert!(found.contains(&all[it]), "{:?} is missing", all[it]);
            }
            // And each with the cause that it has among all.
            let (some, every) = (causes(&found, unknown), causes(&all, unknown));
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
            let mut all: Vec<_> = ends.iter().enumerate().map(|(number, (a, b, opened, lasts))| {
                trouble(&format!("{a}-{b}"), opened * 100 + number as i64, Some(opened * 100 + lasts * 50 + 99))
            }).collect();
            let named = |all: &[Trouble]| {
                let causes = causes(all, unknown);
                let name = |it: usize| (all[it].subject.clone(), all[it].episode.opened.at);
                let links = (0..all.len()).map(|it| (name(it), causes[it].map(name)));
                links.collect::<BTreeMap<_, _>>()
            };
            let found = causes(&all, unknown);
            for cause in found.iter().flatten() {
                prop_assert_eq!(found[*cause], None);
            }
            let expected = named(&all);
            let turn = turn.index(all.len());
            all.rotate_left(turn);
            prop_assert_eq!(named(&all), expected);
        }
    }
}
