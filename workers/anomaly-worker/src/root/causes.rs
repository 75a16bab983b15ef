//! From problems to causes.

use std::collections::{HashMap, HashSet};

use super::Trouble;
use crate::{
    engine::{DeviceRule, Kind, Sample},
    topology::Plan,
};

/// Edges that fail for one reason do so within so many readings of the sensor between them.
const TOGETHER: i64 = 3;
/// Where nobody knows how often it is read, within an hour, in milliseconds: as late as readings may
/// come by default. What fails later has had the time to be seen for itself.
const UNKNOWN: i64 = 3_600_000;

/// How a sensor is read, where that is known; in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// How often.
    pub interval: Option<i64>,
    /// After how long without a move it is stuck.
    pub stuck: Option<i64>,
}

impl From<&DeviceRule> for Pace {
    fn from(rule: &DeviceRule) -> Self {
        Self { interval: rule.interval, stuck: rule.stuck.map(|it| it.lasting) }
    }
}

/// What is known of sensors, and of the way between two.
pub trait Paces {
    /// How a sensor is read.
    fn pace(&self, sensor: &str) -> Pace;

    /// How long what passes a sensor takes to the one that follows, in milliseconds.
    fn delay(&self, current: &str, following: &str) -> i64;
}

impl Paces for Plan {
    fn pace(&self, sensor: &str) -> Pace {
        Pace::from(&**self.device(sensor))
    }

    fn delay(&self, current: &str, following: &str) -> i64 {
        self.rule(current, following).delay
    }
}

/// Where sensors are read so, and what passes one is at the next at once.
impl<F: Fn(&str) -> Pace> Paces for F {
    fn pace(&self, sensor: &str) -> Pace {
        self(sensor)
    }

    fn delay(&self, _: &str, _: &str) -> i64 {
        0
    }
}

/// For each problem the one that it follows from; none for a cause, and for what stands alone.
pub fn causes(troubles: &[Trouble], paces: &impl Paces) -> Vec<Option<usize>> {
    let all = All::new(troubles, paces);
    let mut from: Vec<_> = (0..troubles.len()).map(|it| all.fault_behind(it)).collect();
    let edges = |it: &usize| troubles[*it].is_edge() && from[*it].is_none();
    let edges: Vec<_> = (0..troubles.len()).filter(edges).collect();
    all.link_edges(edges, &mut from);
    for it in 0..troubles.len() {
        if troubles[it].is_observed() && from[it].is_none() {
            from[it] = all.behind_observed(it);
        }
    }
    (0..troubles.len()).map(|it| root(&from, it)).collect()
}

/// The end of the chain. What follows comes after what it follows from, so there is one.
fn root(from: &[Option<usize>], of: usize) -> Option<usize> {
    std::iter::successors(from[of], |it| from[*it]).last()
}

impl Trouble {
    fn is_edge(&self) -> bool {
        self.subject.following().is_some()
    }

    /// Whether the sensor itself is at fault.
    fn is_fault(&self) -> bool {
        matches!(self.episode.kind, Kind::Silence | Kind::Range | Kind::Stuck)
    }

    fn is_observed(&self) -> bool {
        !self.is_edge() && !self.is_fault()
    }

    /// When the sensor said what it had said last when the problem opened, in Unix milliseconds.
    fn last_word(&self, sensor: &str) -> i64 {
        let evidence = self.episode.opened.evidence;
        let word =
            if self.subject.current() == sensor { evidence.current } else { evidence.following };
        self.at(word)
    }

    fn at(&self, word: Option<Sample>) -> i64 {
        word.map_or(self.episode.opened.at, |it| it.at)
    }

    /// Who of an edge said what opened the problem, and when: what the sensor that follows says
    /// counts at once.
    fn decided(&self) -> (&str, i64) {
        let opened = self.episode.opened;
        match self.subject.following() {
            Some(following) if self.at(opened.evidence.following) == opened.heard_at() => {
                (following, opened.heard_at())
            }
            _ => (self.subject.current(), self.at(opened.evidence.current)),
        }
    }

    fn lasts_with(&self, other: &Self) -> bool {
        self.episode.lasts_with(&other.episode)
    }

    /// Whether it had not ended at this time (Unix milliseconds): what ends a fault is a good word.
    fn lasts_beyond(&self, at: i64) -> bool {
        self.episode.resolved.is_none_or(|end| end.at > at)
    }

    /// Whether something is in the way behind this sensor.
    fn blocks(&self, sensor: &str) -> bool {
        self.episode.kind == Kind::Obstruction && self.subject.current() == sensor
    }

    /// Whether the other is what shows at a sensor where something is in the way further down.
    fn backs_up(&self, other: &Self, sensor: &str) -> bool {
        self.blocks(sensor)
            && other.episode.kind == Kind::Problem
            && other.subject.following() == Some(sensor)
    }
}

/// All problems, by the sensors that they are at.
struct All<'t, P> {
    troubles: &'t [Trouble],
    at: HashMap<&'t str, Vec<usize>>,
    paces: &'t P,
}

impl<'t, P: Paces> All<'t, P> {
    fn new(troubles: &'t [Trouble], paces: &'t P) -> Self {
        let mut at: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, trouble) in troubles.iter().enumerate() {
            trouble.ends().for_each(|end| at.entry(end).or_default().push(number));
        }
        Self { troubles, at, paces }
    }

    /// What else lasts at a sensor while this does.
    fn beside(&self, of: usize, sensor: &str) -> impl Iterator<Item = (usize, &'t Trouble)> {
        let it = &self.troubles[of];
        let near =
            self.at.get(sensor).into_iter().flatten().copied().filter(move |other| *other != of);
        let near: Vec<_> = near.map(|other| (other, &self.troubles[other])).collect();
        near.into_iter().filter(move |(_, other)| it.lasts_with(other))
    }

    /// The sensor's fault that this follows from.
    fn fault_behind(&self, of: usize) -> Option<usize> {
        let it = &self.troubles[of];
        let faults = it.ends().flat_map(|end| {
            let faults =
                self.beside(of, end).filter(|(_, other)| !other.is_edge() && other.is_fault());
            faults.filter(move |(_, fault)| self.explains(fault, of, end))
        });
        let first = |(_, fault): &(usize, &Trouble)| (self.since(fault), fault.subject.clone());
        faults.min_by_key(first).map(|it| it.0)
    }

    fn explains(&self, fault: &Trouble, of: usize, sensor: &str) -> bool {
        let it = &self.troubles[of];
        match (fault.episode.kind, it.is_edge()) {
            (Kind::Silence, true) => {
                fault.last_word(sensor) == it.last_word(sensor)
                    && self.was_due(it, sensor)
                    && !self.is_of_the_other(of, sensor)
            }
            (_, true) => {
                let word = it.last_word(sensor);
                self.since(fault).0 <= word && fault.lasts_beyond(word)
            }
            (Kind::Silence, false) => false,
            (_, false) => {
                it.episode.kind != Kind::Silence
                    && self.since(fault) < self.since(it)
                    && fault.lasts_beyond(it.episode.opened.at)
            }
        }
    }

    /// Whether a sensor should have spoken again when an edge failed, as far as is known: what it says
    /// of what flows to the next is heard of there after the travel delay.
    fn was_due(&self, it: &Trouble, sensor: &str) -> bool {
        let delay = match it.subject.following() {
            Some(following) if following != sensor => self.paces.delay(sensor, following),
            _ => 0,
        };
        let heard = it.episode.opened.heard_at().saturating_sub(delay);
        let passed = heard.saturating_sub(it.last_word(sensor));
        self.paces.pace(sensor).interval.is_none_or(|interval| passed > interval)
    }

    /// Since when a device is in trouble, and which counts first of those at one time.
    fn since(&self, it: &Trouble) -> (i64, bool, Kind) {
        let (kind, opened) = (it.episode.kind, it.episode.opened.at);
        let stuck = self.paces.pace(it.subject.current()).stuck.filter(|_| kind == Kind::Stuck);
        (opened.saturating_sub(stuck.unwrap_or(0)), it.is_observed(), kind)
    }

    /// Whether what an edge's other end said decided this, and another edge there.
    fn is_of_the_other(&self, of: usize, sensor: &str) -> bool {
        let it = &self.troubles[of];
        let (other, at) = it.decided();
        let apart = |edge: &Trouble| edge.is_edge() && edge.ends().all(|end| end != sensor);
        other != sensor
            && self.beside(of, other).any(|(_, edge)| apart(edge) && edge.last_word(other) == at)
    }

    /// Links those of these edges that fail together.
    fn link_edges(&self, edges: Vec<usize>, from: &mut [Option<usize>]) {
        let mut left = vec![edges];
        while let Some(edges) = left.pop() {
            for mut group in self.groups(&edges) {
                let Some(cause) = self.first(&group) else { continue };
                group.retain(|it| *it != cause);
                let (after, before): (Vec<_>, Vec<_>) =
                    group.into_iter().partition(|it| self.is_in_time(cause, *it));
                after.into_iter().for_each(|it| from[it] = Some(cause));
                left.extend((!before.is_empty()).then_some(before));
            }
        }
    }

    /// Whether one edge did not fail clearly after another.
    fn is_in_time(&self, cause: usize, effect: usize) -> bool {
        let [cause, effect] = [cause, effect].map(|it| &self.troubles[it]);
        let known = cause.ends().filter_map(|end| self.paces.pace(end).interval).max();
        let slack = TOGETHER.saturating_mul(known.unwrap_or(0));
        cause.decided().1 <= effect.decided().1.saturating_add(slack)
    }

    fn groups(&self, edges: &[usize]) -> Vec<Vec<usize>> {
        let mut left: HashSet<usize> = edges.iter().copied().collect();
        let mut groups = Vec::new();
        for start in edges {
            let mut found: Vec<_> = left.take(start).into_iter().collect();
            let mut group = Vec::new();
            while let Some(of) = found.pop() {
                group.push(of);
                for end in self.troubles[of].ends() {
                    let near = self.beside(of, end).map(|it| it.0);
                    let near = near.filter(|other| {
                        left.contains(other) && self.fail_together(of, *other, end)
                    });
                    let near: Vec<_> = near.collect();
                    near.iter().for_each(|it| _ = left.remove(it));
                    found.extend(near);
                }
            }
            groups.extend((group.len() > 1).then_some(group));
        }
        groups
    }

    /// Whether two edges may have begun to fail for one reason, by what the sensor said that both
    /// have in common.
    fn fail_together(&self, of: usize, other: usize, sensor: &str) -> bool {
        let [it, other] = [of, other].map(|it| &self.troubles[it]);
        let after = other.last_word(sensor).saturating_sub(it.last_word(sensor));
        self.is_near(after, sensor)
            || after > 0 && it.backs_up(other, sensor)
            || after < 0 && other.backs_up(it, sensor)
    }

    fn is_near(&self, apart: i64, sensor: &str) -> bool {
        let interval = self.paces.pace(sensor).interval;
        let within = interval.map_or(UNKNOWN, |it| TOGETHER.saturating_mul(it));
        apart.saturating_abs() <= within
    }

    fn first(&self, group: &[usize]) -> Option<usize> {
        let of = |it: &usize| &self.troubles[*it];
        let followed: HashSet<&str> =
            group.iter().filter_map(|it| of(it).subject.following()).collect();
        let rank = |it: &&usize| {
            let Trouble { subject, episode } = of(it);
            let downstream = followed.contains(subject.current());
            (episode.kind, episode.opened.at, downstream, subject.clone())
        };
        group.iter().min_by_key(rank).copied()
    }

    /// The edge that what is observed at a device follows from, or what was observed there before.
    fn behind_observed(&self, of: usize) -> Option<usize> {
        let it = &self.troubles[of];
        let (sensor, opened) = (it.subject.current(), it.episode.opened.at);
        let may = |other: &Trouble| {
            let after = opened.saturating_sub(other.last_word(sensor));
            let first =
                if other.is_edge() { after >= 0 } else { self.since(other) < self.since(it) };
            first && (self.is_near(after, sensor) || other.blocks(sensor))
        };
        let found = self.beside(of, sensor).filter(|(_, other)| !other.is_fault() && may(other));
        let rank = |(_, other): &(usize, &Trouble)| {
            let episode = &other.episode;
            (!other.is_edge(), episode.kind, episode.opened.at, other.subject.clone())
        };
        found.min_by_key(rank).map(|it| it.0)
    }
}
