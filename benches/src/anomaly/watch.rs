//! A simulated sewer, watched by the engine, and how that compares with the truth.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use anomaly_worker::{
    engine::{
        Arrival, Change, Confirm, DeviceRule, DeviceStand, Episode, Key, Kind, Limits, Machine,
        Net, Review, Rule, State, Unit,
    },
    reading::Reading,
    root::{Trouble, causes},
    tables::Subject,
    topology::Join,
};

use serde::Serialize;

use super::sewer::{DELAY, Frame, INTERVAL, SILENCE, Sewer, Simulated, Truth, Wrong};

/// A problem counts as the one that was there if it opened so many milliseconds from when that
/// could be known, at the most.
const NEAR: i64 = 3 * INTERVAL;
/// How often silent sensors are looked for, in milliseconds.
const SWEEP: i64 = 2 * INTERVAL;

/// All problems in the end: what is wrong, by machine and key.
pub type Ledger = BTreeMap<(Unit, Key), Episode>;

/// A network that is watched.
#[derive(Debug)]
pub struct Watch {
    net: Net,
    /// What holds now.
    pub ledger: Ledger,
    /// When each was told first, in milliseconds.
    told: HashMap<(Unit, Key), i64>,
    /// What was told and taken back.
    pub retracted: usize,
    /// How often a machine was looked at from its readings.
    pub reviews: usize,
    /// What DynamoDB counts for all writes, where they are priced: a unit for each kilobyte of an
    /// item, two in a transaction.
    pub write_units: Option<u64>,
    /// Readings that were stored.
    pub stored: u64,
}

/// How well problems were told.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The part of what was told that was there.
    pub precision: f64,
    /// The part of what was there that was told.
    pub recall: f64,
    /// From when something could be known to when it was told, in milliseconds, in order.
    pub delays: Vec<i64>,
    /// What was told, and what was there.
    pub counts: [usize; 2],
}

fn id(sensor: usize) -> String {
    format!("s{sensor:05}")
}

/// How all edges are compared.
pub fn rule() -> Rule {
    Rule {
        tolerance: 7.0,
        hysteresis: 2.0,
        delay: DELAY,
        stale: [Some(SILENCE); 2],
        confirm: Confirm { count: 3, flap: 10 * INTERVAL, ..Confirm::default() },
        ..Rule::default()
    }
}

fn device_rule() -> DeviceRule {
    DeviceRule { interval: Some(INTERVAL), silence: Some(SILENCE), ..DeviceRule::default() }
}

impl Watch {
    /// The sensors of a sewer, each with an edge to the one that follows.
    pub fn new(sewer: &Simulated, limits: Limits) -> Self {
        let (mut net, device) = (Net::new(limits), Arc::new(device_rule()));
        for sensor in 0..sewer.parents.len() {
            let state = State::beginning(DeviceStand::expected(0));
            net.add_device(&id(sensor), device.clone(), Vec::new(), Some((0, state)));
        }
        for (sensor, parent) in sewer.parents.iter().enumerate() {
            let Some(parent) = parent else { continue };
            let (current, following) = (id(sensor), id(*parent));
            let join = Join { current, following, rule: rule(), derived: false };
            net.add_edge(&join, 0, State::default());
        }
        let (ledger, told) = (Ledger::new(), HashMap::new());
        Self { net, ledger, told, retracted: 0, reviews: 0, write_units: None, stored: 0 }
    }

    /// The same with writes priced.
    #[must_use]
    pub fn priced(self) -> Self {
        // A row for each device as it is heard first.
        Self { write_units: Some(self.net.len() as u64), ..self }
    }

    /// Watches all frames as they arrive, and the clock until the last was sent.
    pub fn watch(&mut self, frames: &[Frame]) {
        let end = frames.iter().map(|frame| frame.at).max().unwrap_or(0);
        let mut swept = 0;
        for frame in frames {
            self.take(frame);
            if frame.arrives - swept > SWEEP && frame.arrives <= end {
                swept = frame.arrives;
                self.sweep(swept);
            }
        }
        self.sweep(end);
    }

    /// Takes a frame.
    pub fn take(&mut self, frame: &Frame) {
        let Frame { sensor, at, filling, seq, arrives } = *frame;
        let taken = self.net.take(sensor, Reading { at, filling, seq: Some(seq) });
        if taken.arrival != Arrival::Duplicate {
            self.stored += 1;
            self.write_units = self.write_units.map(|it| it + 1);
        }
        taken.stale.into_iter().for_each(|unit| self.review(unit, 0, arrives));
    }

    fn sweep(&mut self, clock: i64) {
        for device in self.net.overdue(clock) {
            self.review(Unit::Device(device), clock, clock);
        }
    }

    fn review(&mut self, unit: Unit, clock: i64, now: i64) {
        if clock > 0 {
            self.net.outdate(unit);
        }
        while self.net.is_stale(unit) {
            self.reviews += 1;
            let changes = match unit {
                Unit::Edge(edge) => {
                    let (version, review) = self.net.review_edge(edge);
                    if !self.net.is_stale(unit) {
                        return;
                    }
                    self.price(unit, &review);
                    self.net.written_edge(edge, version + 1, review.next);
                    review.changes
                }
                Unit::Device(device) => {
                    let Some((version, review)) = self.net.review_device(device, clock) else {
                        return;
                    };
                    if !self.net.is_stale(unit) {
                        return;
                    }
                    self.price(unit, &review);
                    self.net.written_device(device, version + 1, review.next);
                    review.changes
                }
            };
            self.tell(unit, &changes, now);
        }
    }

    /// Adds what a review costs to write: its row, the problems in the same transaction, and the
    /// links of those around.
    fn price<M: Machine + Serialize>(&mut self, unit: Unit, review: &Review<M>) {
        let Some(units) = &mut self.write_units else { return };
        let row = serde_json::to_string(&review.next).map_or(0, |it| it.len() + 100);
        *units += 2 * (row.div_ceil(1024) + review.changes.len()) as u64;
        if review.link {
            let ends = match unit {
                Unit::Edge(edge) => self.net.ends(edge).to_vec(),
                Unit::Device(device) => vec![device],
            };
            let around: BTreeSet<Unit> =
                ends.into_iter().flat_map(|it| self.net.units(it)).collect();
            let told = around.into_iter().map(|unit| match unit {
                Unit::Edge(edge) => self.net.edge_state(edge).told().len(),
                Unit::Device(device) => {
                    self.net.device_state(device).map_or(0, |it| it.told().len())
                }
            });
            *units += told.sum::<usize>() as u64;
        }
    }

    fn tell(&mut self, unit: Unit, changes: &[Change], now: i64) {
        for change in changes {
            let key = (unit, change.episode().key());
            match change {
                Change::Tell(episode) => {
                    self.ledger.insert(key, *episode);
                    self.told.entry(key).or_insert(now);
                }
                Change::Retract(_) => {
                    self.ledger.remove(&key);
                    self.retracted += 1;
                }
            }
        }
    }

    /// The bytes of machines and windows, a device; and of a reading of a window.
    pub fn bytes(&self) -> [f64; 3] {
        let (hot, windows) = self.net.bytes();
        let (devices, readings) = (self.net.len() as f64, self.net.readings().max(1) as f64);
        [hot as f64 / devices, windows as f64 / devices, windows as f64 / readings]
    }

    /// Compares what was told with what was there: everything, or causes alone.
    pub fn score(&self, truth: &[Truth], causes_alone: bool) -> Score {
        let told = self.told_of(causes_alone);
        let mut left: HashMap<Wrong, Vec<&Truth>> = HashMap::new();
        let real = truth.iter().filter(|it| it.cause || !causes_alone);
        real.clone().for_each(|it| left.entry(it.wrong).or_default().push(it));
        let (mut hits, mut delays) = (0, Vec::new());
        for (wrong, opened, first_told) in &told {
            let Some(near) = left.get_mut(wrong) else { continue };
            let Some(at) = near.iter().position(|it| (it.since - opened).abs() <= NEAR) else {
                continue;
            };
            delays.push(first_told - near.swap_remove(at).since);
            hits += 1;
        }
        delays.sort_unstable();
        let counts = [told.len(), real.count()];
        let part = |of: usize| if of == 0 { 1.0 } else { hits as f64 / of as f64 };
        Score { precision: part(counts[0]), recall: part(counts[1]), delays, counts }
    }

    fn told_of(&self, causes_alone: bool) -> Vec<(Wrong, i64, i64)> {
        let troubles: Vec<_> = self
            .ledger
            .iter()
            .map(|((unit, _), it)| Trouble { subject: self.subject(*unit), episode: *it })
            .collect();
        let follows = causes(&troubles);
        let all = self.ledger.iter().zip(follows);
        let all = all.filter(|(_, cause)| !causes_alone || cause.is_none());
        all.filter_map(|((key, episode), _)| {
            let wrong = match (key.0, episode.kind) {
                (Unit::Edge(edge), Kind::Obstruction) => Wrong::Obstruction(self.current(edge)?),
                (Unit::Edge(edge), _) => Wrong::Problem(self.current(edge)?),
                (Unit::Device(device), _) => Wrong::Silence(device),
            };
            Some((wrong, episode.opened.at, *self.told.get(key)?))
        })
        .collect()
    }

    fn current(&self, edge: usize) -> Option<usize> {
        Some(self.net.ends(edge)[0])
    }

    fn subject(&self, unit: Unit) -> Subject {
        match unit {
            Unit::Edge(edge) => {
                let [current, following] =
                    self.net.ends(edge).map(|it| self.net.id(it).to_string());
                Subject::Edge { current, following }
            }
            Unit::Device(device) => Subject::Device(self.net.id(device).to_string()),
        }
    }
}

/// A sewer, watched from its first frame to its last.
pub fn watched(sewer: &Sewer, limits: Limits) -> (Simulated, Watch) {
    let simulated = sewer.simulate();
    let mut watch = Watch::new(&simulated, limits).priced();
    watch.watch(&simulated.frames);
    (simulated, watch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Sewer {
        Sewer { seed, sensors: 150, readings: 720, faults: [8, 6, 6], ..Sewer::default() }
    }

    // One seed: unoptimised, a sewer takes its time. The bench scores more of them.
    #[test]
    fn what_is_wrong_is_told_and_little_else() {
        let (sewer, watch) = watched(&small(0), Limits::default());
        let all = watch.score(&sewer.truth, false);
        assert!(all.counts[1] >= 15 && all.precision.min(all.recall) >= 0.9, "{all:?}");
        // Of two neighbours that fail together, both may be named the cause.
        let causes = watch.score(&sewer.truth, true);
        assert!(causes.recall >= 0.9 && causes.precision >= 0.8, "{causes:?}");
    }

    #[test]
    fn frames_that_come_in_any_order_end_in_the_same_ledger() {
        // Small: to compare again all that the lateness leaves open costs the square of it.
        let tiny = Sewer { sensors: 30, readings: 120, faults: [2, 2, 2], ..small(3) };
        let (sewer, watch) = watched(&tiny, Limits::default());
        let mut again =
            Watch::new(&sewer, Limits { lateness: 10 * 3_600_000, ..Limits::default() });
        let mut frames = sewer.frames.clone();
        frames.sort_by_key(|it| {
            (it.at / 3_600_000, (it.seq as u32).wrapping_mul(0x9E37_79B9), it.sensor)
        });
        again.watch(&frames);
        let plain = |watch: &Watch| {
            let all = watch.ledger.iter().map(|(key, it)| (*key, Episode { settled: true, ..*it }));
            all.collect::<Ledger>()
        };
        assert_eq!(plain(&again), plain(&watch));
    }
}
