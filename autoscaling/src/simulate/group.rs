//! The instances of a simulated group.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp, LogNormal};

use super::World;
use crate::observed::{Instance, Millis, Observed, State};

const GONE: u32 = u32::MAX;
/// Longer than any run lasts, and short enough to be added to any time: a thousand centuries.
const FOR_EVER: Millis = 100_000 * 366 * 86_400_000;

/// What of an instance nobody sees.
#[derive(Clone, Copy)]
struct Body {
    key: u32,
    job: Option<u32>,
    /// Where it is among the idle.
    idle_at: u32,
}

/// The instances: the same vector that policies see, changed in place, since copying thousands at
/// each look would take longer than all else.
pub(super) struct Group {
    pub(super) observed: Observed,
    bodies: Vec<Body>,
    /// Where the instance of a key is, or [`GONE`].
    places: Vec<u32>,
    idle: Vec<u32>,
    pub(super) draining: u32,
    pub(super) ready: u32,
    pub(super) billed: Millis,
    pub(super) peak: u32,
    boot: Option<LogNormal<f64>>,
    median_boot: Millis,
    life: Option<Exp<f64>>,
    minimum: Millis,
    random: StdRng,
}

/// A launched instance: its key, when it will be ready, and when it will be lost, from its launch.
pub(super) struct Launched {
    pub(super) key: u32,
    pub(super) boot: Millis,
    pub(super) life: Option<Millis>,
}

impl Group {
    pub(super) fn new(world: &World) -> Self {
        let per_ms = world.losses_per_hour / 3_600_000.0;
        let median = (world.boot_ms.max(1) as f64).ln();
        Self {
            observed: Observed::empty_group(),
            bodies: Vec::new(),
            places: Vec::new(),
            idle: Vec::new(),
            draining: 0,
            ready: 0,
            billed: 0,
            peak: 0,
            boot: LogNormal::new(median, world.boot_spread).ok(),
            median_boot: world.boot_ms,
            life: Exp::new(per_ms).ok().filter(|_| per_ms > 0.0),
            minimum: world.minimum_billed_ms,
            random: StdRng::seed_from_u64(world.seed),
        }
    }

    fn instances(&mut self) -> &mut Vec<Instance> {
        self.observed.instances.get_or_insert_default()
    }

    /// Instances that serve or will.
    pub(super) fn live(&self) -> u32 {
        self.bodies.len() as u32 - self.draining
    }

    pub(super) fn all(&self) -> u32 {
        self.bodies.len() as u32
    }

    pub(super) fn launch(&mut self, now: Millis) -> Launched {
        let key = self.places.len() as u32;
        let place = self.bodies.len() as u32;
        self.places.push(place);
        self.bodies.push(Body { key, job: None, idle_at: GONE });
        self.instances().push(booting(key, now));
        self.peak = self.peak.max(self.bodies.len() as u32);
        let drawn = self.boot.map(|boot| boot.sample(&mut self.random) as Millis);
        let boot = drawn.unwrap_or(self.median_boot);
        let life = self.life.map(|life| (life.sample(&mut self.random) as Millis).min(FOR_EVER));
        Launched { key, boot, life }
    }

    /// An instance has booted; false where it is gone by now.
    pub(super) fn boot(&mut self, key: u32, now: Millis) -> bool {
        let Some(place) = self.place(key) else { return false };
        let instance = &mut self.instances()[place];
        (instance.ready_at, instance.slots) = (Some(now), 1);
        self.ready += 1;
        self.rest(key, now);
        true
    }

    /// An instance has nothing to do.
    pub(super) fn rest(&mut self, key: u32, now: Millis) {
        let Some(place) = self.place(key) else { return };
        let instance = &mut self.instances()[place];
        (instance.state, instance.since, instance.busy_slots) = (State::Idle, now, 0);
        self.bodies[place].job = None;
        self.bodies[place].idle_at = self.idle.len() as u32;
        self.idle.push(key);
    }

    /// Any idle instance: whoever polls first.
    pub(super) fn any_idle(&mut self) -> Option<u32> {
        match self.idle.len() {
            0 => None,
            count => Some(self.idle[self.random.random_range(0..count)]),
        }
    }

    pub(super) fn work(&mut self, key: u32, job: u32, now: Millis) {
        let Some(place) = self.place(key) else { return };
        self.not_idle(place);
        self.bodies[place].job = Some(job);
        let instance = &mut self.instances()[place];
        instance.busy_slots = 1;
        // One that was ordered to drain, and has not heard it, is seen to drain.
        if instance.state == State::Idle {
            (instance.state, instance.since) = (State::Busy, now);
        }
    }

    fn not_idle(&mut self, place: usize) {
        let at = std::mem::replace(&mut self.bodies[place].idle_at, GONE);
        if at == GONE {
            return;
        }
        self.idle.swap_remove(at as usize);
        if let Some(moved) = self.idle.get(at as usize).and_then(|key| self.place(*key)) {
            self.bodies[moved].idle_at = at;
        }
    }

    /// It takes no more jobs.
    pub(super) fn drain(&mut self, key: u32) {
        if let Some(place) = self.place(key) {
            self.instances()[place].state = State::Draining;
            self.draining += 1;
            self.ready -= 1;
        }
    }

    /// It has nothing to do and takes no more jobs: it waits for its end.
    pub(super) fn retire(&mut self, key: u32) {
        if let Some(place) = self.place(key) {
            self.not_idle(place);
            self.bodies[place].job = None;
            self.instances()[place].busy_slots = 0;
        }
    }

    /// The job that it is at.
    pub(super) fn job_of(&self, key: u32) -> Option<u32> {
        self.bodies[self.place(key)?].job
    }

    pub(super) fn drains(&self, key: u32) -> bool {
        let all = self.observed.instances.as_deref().unwrap_or_default();
        self.place(key).is_some_and(|place| all[place].state == State::Draining)
    }

    /// Ends an instance and sends the bill; gives the job that it was at.
    pub(super) fn end(&mut self, key: u32, now: Millis) -> Option<u32> {
        let place = self.place(key)?;
        self.not_idle(place);
        self.places[key as usize] = GONE;
        let Body { job, .. } = self.bodies.swap_remove(place);
        let instance = self.instances().swap_remove(place);
        if let Some(moved) = self.bodies.get(place) {
            self.places[moved.key as usize] = place as u32;
        }
        match instance.state {
            State::Draining => self.draining -= 1,
            State::Idle | State::Busy => self.ready -= 1,
            State::Pending | State::Booting | State::Warm => {}
        }
        self.billed += (now - instance.launched_at).max(self.minimum);
        job
    }

    fn place(&self, key: u32) -> Option<usize> {
        self.places.get(key as usize).filter(|place| **place != GONE).map(|place| *place as usize)
    }

    pub(super) fn there(&self, key: u32) -> bool {
        self.place(key).is_some()
    }

    /// The key of a name, where that instance is idle.
    pub(super) fn idle_named(&self, id: &str) -> Option<u32> {
        let key = id.strip_prefix("i-")?.parse().ok()?;
        let place = self.place(key)?;
        (self.bodies[place].idle_at != GONE && !self.drains(key)).then_some(key)
    }

    /// Any instance that boots: which one makes no difference.
    pub(super) fn starting(&self, count: usize) -> Vec<u32> {
        let all = self.observed.instances.iter().flatten().zip(&self.bodies);
        let boots = all.filter(|(it, _)| it.state == State::Booting);
        boots.map(|(_, body)| body.key).take(count).collect()
    }

    /// Any instance that takes jobs.
    pub(super) fn any_serving(&mut self) -> Option<u32> {
        while self.ready > 0 {
            let place = self.random.random_range(0..self.bodies.len());
            let state = self.instances()[place].state;
            if matches!(state, State::Idle | State::Busy) {
                return Some(self.bodies[place].key);
            }
        }
        None
    }

    pub(super) fn at_work(&self, key: u32) -> bool {
        self.job_of(key).is_some()
    }

    pub(super) fn keys(&self) -> Vec<u32> {
        self.bodies.iter().map(|body| body.key).collect()
    }
}

fn booting(key: u32, now: Millis) -> Instance {
    Instance {
        id: format!("i-{key}"),
        state: State::Booting,
        since: now,
        launched_at: now,
        ready_at: None,
        slots: 0,
        busy_slots: 0,
        silent: false,
        kind: String::new(),
        spot: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The logarithms of some boot times over the median, sorted.
    fn boots(spread: f64) -> Vec<f64> {
        let world = World { boot_ms: 100_000, boot_spread: spread, ..World::default() };
        let mut group = Group::new(&world);
        let mut boots: Vec<f64> =
            (0..1_001).map(|_| (group.launch(0).boot as f64 / 100_000.0).ln()).collect();
        boots.sort_by(f64::total_cmp);
        boots
    }

    #[test]
    fn boots_take_the_median_and_differ_as_the_world_says() {
        let drawn = boots(0.2);
        assert!(drawn[500].abs() < 0.03, "{}", drawn[500]);
        // A standard deviation on either side holds 68 of a hundred.
        assert!((drawn[841] - 0.2).abs() < 0.04 && (drawn[159] + 0.2).abs() < 0.04);
        assert!(boots(0.0).iter().all(|it| it.abs() < 1e-4));
    }

    #[test]
    fn an_instance_is_paid_for_from_its_launch_and_for_the_minimum_at_least() {
        let mut group = Group::new(&World { minimum_billed_ms: 60_000, ..World::default() });
        let billed = [(1_000, 2_000), (0, 60_001), (5_000, 205_000)].map(|(launched, ended)| {
            let key = group.launch(launched).key;
            group.boot(key, ended);
            let before = group.billed;
            group.end(key, ended);
            group.billed - before
        });
        assert_eq!(billed, [60_000, 60_001, 200_000]);
    }
}
