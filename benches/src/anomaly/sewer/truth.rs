//! What was wrong in truth, from what broke alone.
//!
//! By these rules:
//! - An edge is wrong while its two ends, without noise, are not changed alike by what is broken: by
//!   one amount at the one, and by another at the other when the wave is there. Two blockages at
//!   neighbouring sensors that raise both alike, say, leave nothing to see between them.
//! - While one of its sensors is dead nobody can know, and what was known stays.
//! - What lasts shorter than the plan wants it to ([`Sewer::debounce`], and an interval more, since it
//!   begins between two readings) is no problem, and what comes back as soon as [`Sewer::flap`] is the
//!   same one.
//! - A dead sensor is silent when nothing came from it for [`Sewer::silence`], by its own clock.
//! - What cannot be known before the end was not wrong.
//!
//! What one fault does to the edges of its sensor belongs together; a cause is the obstruction among
//! these, or any where there is none. What backs up at a sensor behind which something was in the way
//! by then belongs to that. What shows before the obstruction could be known, and what a leak does where
//! tubes join, further down, stands alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Sewer,
    faults::{Effect, Fault, What, changed},
    tree::Tree,
};

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Less arrives than flows, on the edge that leads from this sensor.
    Obstruction(usize),
    /// More arrives than flows, on the edge that leads from this sensor.
    Problem(usize),
    /// This sensor says nothing.
    Silence(usize),
}

/// Something that was wrong, and since when it could be known, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// What.
    pub wrong: Wrong,
    /// Since when.
    pub since: i64,
    /// The number of what belongs together with it.
    pub group: usize,
    /// Whether it is a cause, or one that can be named as such.
    pub cause: bool,
}

/// All that is known of a sewer that is simulated.
pub(super) struct Known<'s> {
    pub(super) sewer: &'s Sewer,
    pub(super) tree: &'s Tree,
    pub(super) faults: &'s [Option<Fault>],
    pub(super) effects: &'s [Vec<Effect>],
    /// The time of the last reading of each sensor before it died, by its own clock.
    pub(super) last_words: &'s [i64],
}

/// A fault, whether it is beside the edge, and which of its times there.
type Group = (usize, bool, usize);

/// Something that is wrong, from when until when, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Span {
    wrong: Wrong,
    since: i64,
    until: i64,
}

impl Known<'_> {
    pub(super) fn truth(&self) -> Vec<Truth> {
        let mut groups: BTreeMap<Group, Vec<Span>> = BTreeMap::new();
        for sensor in 0..self.tree.sensors() {
            if let Some(since) = self.silent_since(sensor) {
                let until = self.end();
                let silence = Span { wrong: Wrong::Silence(sensor), since, until };
                groups.insert((sensor, true, 0), vec![silence]);
            }
            let Some(parent) = self.tree.parent(sensor) else { continue };
            let mut times: BTreeMap<(usize, bool, Wrong), usize> = BTreeMap::new();
            for it in self.wrong_between(sensor, parent) {
                let Some((of, beside)) = self.fault_of(&it, parent) else { continue };
                let time = times.entry((of, beside, it.wrong)).or_default();
                groups.entry((of, beside, *time)).or_default().push(it);
                *time += 1;
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        for backed_up in 0..groups.len() {
            if let Some(behind) = self.behind(&groups, backed_up) {
                let all = std::mem::take(&mut groups[backed_up]);
                groups[behind].extend(all);
            }
        }
        let early: Vec<_> = groups.iter_mut().map(|all| self.before_all_others(all)).collect();
        groups.extend(early);
        let together = groups.iter().enumerate();
        together.flat_map(|(number, all)| belonging(number, all)).collect()
    }

    /// Takes what showed upstream before any obstruction of its group did.
    fn before_all_others(&self, all: &mut Vec<Span>) -> Vec<Span> {
        let obstruction = |it: &&Span| matches!(it.wrong, Wrong::Obstruction(_));
        let Some(first) = all.iter().filter(obstruction).map(|it| it.since).min() else {
            return Vec::new();
        };
        let delay = self.sewer.delay();
        all.extract_if(.., |it| it.since + delay < first).collect()
    }

    /// The group of the obstruction that was in the way when all of another group began, where these
    /// back up at one sensor.
    fn behind(&self, groups: &[Vec<Span>], backed_up: usize) -> Option<usize> {
        let parent = |it: &Span| match it.wrong {
            Wrong::Problem(sensor) => self.tree.parent(sensor),
            _ => None,
        };
        let sensor = parent(groups[backed_up].first()?)?;
        let since = groups[backed_up].iter().map(|it| it.since).min()?;
        let all_there = groups[backed_up].iter().all(|it| parent(it) == Some(sensor));
        let in_the_way = |it: &Span| {
            it.wrong == Wrong::Obstruction(sensor) && (it.since..it.until).contains(&since)
        };
        let behind = groups.iter().position(|all| all.iter().any(in_the_way));
        behind.filter(|it| all_there && *it != backed_up)
    }

    fn end(&self) -> i64 {
        self.sewer.end()
    }

    fn silent_since(&self, sensor: usize) -> Option<i64> {
        let dead = self.dead(sensor)?;
        let since = self.last_words[sensor] + self.sewer.silence();
        (since < dead.until.min(self.end()) - self.sewer.interval).then_some(since)
    }

    fn dead(&self, sensor: usize) -> Option<Fault> {
        self.faults[sensor].filter(|it| it.what == What::Death)
    }

    /// What is wrong on an edge.
    fn wrong_between(&self, sensor: usize, parent: usize) -> Vec<Span> {
        let mut told: Vec<Span> = Vec::new();
        for (wrong, since, until) in self.spans(sensor, parent) {
            let Some(wrong) = wrong else { continue };
            let again = |it: &&mut Span| it.wrong == wrong && since - it.until <= self.sewer.flap();
            match told.last_mut().filter(again) {
                Some(same) => same.until = until,
                None => told.push(Span { wrong, since, until }),
            }
        }
        told
    }

    /// Spans of time in which the same is wrong, or nothing; those that do not count left out.
    fn spans(&self, sensor: usize, parent: usize) -> Vec<(Option<Wrong>, i64, i64)> {
        let least = self.sewer.debounce() + self.sewer.interval;
        let mut spans: Vec<(Option<Wrong>, i64, i64)> = Vec::new();
        let times = self.times(sensor, parent);
        let ends = times.iter().copied().skip(1).chain([self.end()]);
        let mut raw: Vec<(Option<Wrong>, i64, i64)> = Vec::new();
        for (at, end) in times.iter().copied().zip(ends).filter(|it| it.0 < it.1) {
            match (self.wrong_at(sensor, parent, at), raw.last_mut()) {
                (None, Some(last)) => last.2 = end,
                (Some(wrong), Some(last)) if last.0 == wrong => last.2 = end,
                (wrong, _) => raw.push((wrong.flatten(), at, end)),
            }
        }
        for (wrong, at, end) in raw {
            match spans.last_mut() {
                Some(last) if last.0 == wrong || end - at < least => last.2 = end,
                _ => spans.push((wrong, at, end)),
            }
        }
        spans
    }

    /// When anything may change on an edge, at its following sensor, in milliseconds.
    fn times(&self, sensor: usize, parent: usize) -> BTreeSet<i64> {
        let delay = self.sewer.delay();
        let of = |sensor: usize, lag: i64| {
            let effects = self.effects[sensor].iter().map(|it| (it.from, it.until));
            let dead = self.dead(sensor).map(|it| (it.from, it.until));
            effects.chain(dead).flat_map(move |it| [it.0 + lag, it.1 + lag])
        };
        let all = of(sensor, delay).chain(of(parent, 0)).chain([0]);
        all.filter(|at| *at < self.end()).collect()
    }

    /// What is wrong on an edge at a time of its following sensor, in milliseconds; none where
    /// nobody can know.
    fn wrong_at(&self, sensor: usize, parent: usize, at: i64) -> Option<Option<Wrong>> {
        let before = at - self.sewer.delay();
        let dead =
            |sensor, at| self.dead(sensor).is_some_and(|it| (it.from..it.until).contains(&at));
        if dead(sensor, before) || dead(parent, at) {
            return None;
        }
        let more = changed(&self.effects[parent], at) - changed(&self.effects[sensor], before);
        Some(match more {
            more if more > 0.0 => Some(Wrong::Problem(sensor)),
            more if more < 0.0 => Some(Wrong::Obstruction(sensor)),
            _ => None,
        })
    }

    /// The fault that made something wrong on an edge since then: the last one to show of those that
    /// do; and whether it is at a sensor of the edge.
    fn fault_of(&self, it: &Span, parent: usize) -> Option<(usize, bool)> {
        let since = it.since;
        let (sensor, sign) = match it.wrong {
            Wrong::Problem(sensor) => (sensor, 1.0),
            Wrong::Obstruction(sensor) => (sensor, -1.0),
            Wrong::Silence(_) => return None,
        };
        let delay = self.sewer.delay();
        let at = |it: &&Effect, sign: f64, at| it.by * sign > 0.0 && it.shows(at);
        let here = self.effects[parent].iter().filter(|it| at(it, sign, since));
        let there = self.effects[sensor].iter().filter(|it| at(it, -sign, since - delay));
        let all = here.map(|it| (it.from, it.of)).chain(there.map(|it| (it.from + delay, it.of)));
        let (_, of) = all.max()?;
        Some((of, of == sensor || of == parent))
    }
}

fn belonging(group: usize, all: &[Span]) -> Vec<Truth> {
    let is_obstruction = |it: &Span| matches!(it.wrong, Wrong::Obstruction(_));
    let any = all.iter().any(is_obstruction);
    let truth = |it: &Span| {
        let cause = !any || is_obstruction(it);
        Truth { wrong: it.wrong, since: it.since, group, cause }
    };
    all.iter().map(truth).collect()
}
