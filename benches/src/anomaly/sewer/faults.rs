//! What breaks where and when, and what that does to the levels.

use super::{Sewer, dice::Dice, tree::Tree};

/// How far a blockage backs up at its sensor.
const BACKED_UP: f64 = 30.0;
/// What a leak takes.
pub(super) const LEAKED: f64 = 15.0;
/// More leaks than this would take all that flows in a tube, and what nothing reaches misses
/// nothing.
const LEAKS: usize = 2;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing passes well behind a sensor: it backs up there.
    Blockage,
    /// Some is lost before a sensor.
    Leak,
    /// A sensor says nothing.
    Death,
}

/// Something that is broken, from when until when, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) what: What,
    pub(super) from: i64,
    pub(super) until: i64,
}

/// How a fault changes the level of a sensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// The sensor that the fault is at.
    pub(super) of: usize,
    /// From when until when it shows here, in milliseconds.
    pub(super) from: i64,
    pub(super) until: i64,
    /// By so much.
    pub(super) by: f64,
}

impl Effect {
    /// Whether it shows at this time, in milliseconds.
    pub(super) fn shows(&self, at: i64) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// By how much the level of a sensor is changed at a time, in milliseconds.
pub(super) fn changed(effects: &[Effect], at: i64) -> f64 {
    effects.iter().filter(|it| it.shows(at)).map(|it| it.by).sum()
}

/// One at most for each sensor. Most are far from all others; of the rest two are at sensors that
/// share an edge, and the second begins while the first lasts.
pub(super) fn draw(sewer: &Sewer, tree: &Tree, dice: &mut Dice) -> Vec<Option<Fault>> {
    let mut faults: Vec<Option<Fault>> = vec![None; tree.sensors()];
    let (mut left, mut placed, mut pairs) = (sewer.faults, Vec::new(), 0);
    for _ in 0..200 * tree.sensors() {
        // Whatever is scarcest beside what is wanted of it.
        let part = |it: &usize| left[*it] as f64 / sewer.faults[*it].max(1) as f64;
        let kind = (0..3).max_by(|a, b| part(a).total_cmp(&part(b))).filter(|it| left[*it] > 0);
        let Some(kind) = kind else { break };
        let room = (pairs as f64) < sewer.beside * placed.len() as f64;
        let first = (room && dice.part() < 0.5).then(|| placed[dice.below(placed.len())]);
        let sensor = match first.map(|first| tree.beside(first)) {
            Some(beside) => beside[dice.below(beside.len())],
            None => dice.below(tree.sensors()),
        };
        let near = tree.around(sensor).into_iter().filter(|it| faults[*it].is_some());
        let what = [What::Blockage, What::Leak, What::Death][kind];
        if near.ne(first) || what == What::Leak && leaks(tree, &faults, sensor) >= LEAKS {
            continue;
        }
        let from = match first.and_then(|first: usize| faults[first]) {
            Some(first) => first.from + (10 + dice.below(20) as i64) * sewer.interval,
            None => {
                (sewer.readings / 10 + dice.below(sewer.readings as usize * 6 / 10) as i64)
                    * sewer.interval
            }
        };
        let until = from + (30 + dice.below(120) as i64) * sewer.interval;
        faults[sensor] = Some(Fault { what, from, until });
        placed.push(sensor);
        pairs += usize::from(first.is_some());
        left[kind] -= 1;
    }
    faults
}

/// How many leaks there are in the tube of a sensor.
fn leaks(tree: &Tree, faults: &[Option<Fault>], sensor: usize) -> usize {
    let end = |sensor| tree.down_the_tube(sensor).last();
    let leaks = (0..faults.len()).filter(|it| faults[*it].is_some_and(|it| it.what == What::Leak));
    leaks.filter(|it| end(*it) == end(sensor)).count()
}

/// What shows at each sensor. What a leak takes is missed there and further down, until tubes join:
/// the others make up for it.
pub(super) fn effects(tree: &Tree, faults: &[Option<Fault>], delay: i64) -> Vec<Vec<Effect>> {
    let mut effects = vec![Vec::new(); tree.sensors()];
    for (of, fault) in faults.iter().enumerate() {
        let Some(Fault { what, from, until }) = *fault else { continue };
        match what {
            What::Blockage => effects[of].push(Effect { of, from, until, by: BACKED_UP }),
            What::Leak => {
                for (sensor, lag) in tree.down_the_tube(of).zip((0..).step_by(delay as usize)) {
                    let (from, until) = (from + lag, until + lag);
                    effects[sensor].push(Effect { of, from, until, by: -LEAKED });
                }
            }
            What::Death => {}
        }
    }
    effects
}
