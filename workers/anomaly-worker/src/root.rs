//! Which of several problems is the cause of the others.
//!
//! Problems belong together when they last at the same time, in part at least, and have a sensor in
//! common; or when others between them do. Of those that belong together one is the cause: a device
//! that fails by itself before edges that fail for it, then an obstruction before a problem (what
//! backs up behind it shows upstream, and sooner), then what opened first, then what is furthest
//! upstream. The answer depends on the problems alone, not on the order in which they are given.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    engine::{Episode, Key},
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

    fn lasts_with(&self, other: &Self) -> bool {
        self.episode.lasts_with(&other.episode)
    }
}

/// With more problems than this that belong together, the rest is left out.
const TOGETHER: usize = 5000;

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
        if self.found.len() > TOGETHER {
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
pub fn causes(troubles: &[Trouble]) -> Vec<Option<usize>> {
    let groups = groups(troubles);
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
fn groups(troubles: &[Trouble]) -> Vec<usize> {
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
            let near = troubles[number].ends().filter_map(|end| at.get(end)).flatten();
            found.extend(near.filter(|it| {
                groups[**it].is_none() && troubles[number].lasts_with(&troubles[**it])
            }));
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
    use crate::engine::{Evidence, Kind, Turn};

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
        assert_eq!(causes(&all), [Some(1), None, Some(1), None, None]);
    }

    #[test]
    fn a_sensor_that_fails_is_the_cause_of_what_its_edges_tell() {
        let all = [trouble("a-b", 5, None), trouble("b", 9, None), trouble("b-c", 5, None)];
        assert_eq!(causes(&all), [Some(1), None, Some(1)]);
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
            let groups = groups(&all);
            let wanted = (0..all.len()).filter(|it| groups[*it] == groups[begin]);
            for it in wanted {
                prop_assert!(found.contains(&all[it]), "{:?} is missing", all[it]);
            }
            // And each with the cause that it has among all.
            let (some, every) = (causes(&found), causes(&all));
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
                let causes = causes(all);
                let name = |it: usize| (all[it].subject.clone(), all[it].episode.opened.at);
                let links = (0..all.len()).map(|it| (name(it), causes[it].map(name)));
                links.collect::<BTreeMap<_, _>>()
            };
            let found = causes(&all);
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
