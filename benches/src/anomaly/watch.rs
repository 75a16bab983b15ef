//! A simulated sewer, watched by the engine, and how that compares with the truth.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anomaly_worker::{
    engine::{
        Arrival, Change, Confirm, DeviceRule, DeviceStand, Episode, Key, Kind, Limits, Machine,
        Net, Review, Rule, State, Unit,
    },
    reading::Reading,
    root::{Pace, Paces, Together, Trouble, causes},
    tables::Subject,
    topology::Join,
};

use serde::Serialize;

use super::{
    score::{Score, Told},
    sewer::{Frame, Sewer, Simulated, Truth, Wrong},
};

/// How often silent sensors are looked for, in intervals.
const SWEEP: i64 = 2;

/// All problems in the end: what is wrong, by machine and key.
pub type Ledger = BTreeMap<(Unit, Key), Episode>;

/// A network that is watched.
#[derive(Debug)]
pub struct Watch {
    net: Net,
    pace: Even,
    /// Until when there are readings, in milliseconds.
    end: i64,
    units: HashMap<Subject, Unit>,
    /// What follows from what, as it was written.
    links: BTreeMap<(Unit, Key), (Unit, Key)>,
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

/// All sensors are read alike, and all edges as long; in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Even {
    interval: i64,
    delay: i64,
}

impl Paces for Even {
    fn pace(&self, _: &str) -> Pace {
        Pace { interval: Some(self.interval), stuck: None }
    }

    fn delay(&self, _: &str, _: &str) -> i64 {
        self.delay
    }
}

fn id(sensor: usize) -> String {
    format!("s{sensor:05}")
}

/// How all edges are compared. Where a reading was lost the next is waited for: what was said before it
/// tells little of what is now, and less of a wave that passes.
pub fn rule(sewer: &Sewer) -> Rule {
    Rule {
        tolerance: sewer.tolerance(),
        hysteresis: 2.0,
        delay: sewer.delay(),
        clock: sewer.clock(),
        stale: [Some(3 * sewer.interval / 2); 2],
        confirm: Confirm {
            count: 3,
            debounce: sewer.debounce(),
            sum: sewer.sum(),
            flap: sewer.flap(),
            between: sewer.silence(),
        },
        ..Rule::default()
    }
}

/// How late readings may come: an hour, or as late as frames do here, by clocks that are apart.
fn limits(sewer: &Sewer) -> Limits {
    let plain = Limits::default();
    let latest = sewer.late_by + sewer.clock();
    Limits { lateness: plain.lateness.max(latest), ..plain }
}

fn device_rule(sewer: &Sewer) -> DeviceRule {
    let (interval, silence) = (Some(sewer.interval), Some(sewer.silence()));
    DeviceRule { interval, silence, ..DeviceRule::default() }
}

impl Watch {
    /// The sensors of a sewer, each with an edge to the one that follows.
    pub fn new(sewer: &Simulated) -> Self {
        let of = &sewer.sewer;
        let (mut net, device) = (Net::new(limits(of)), Arc::new(device_rule(of)));
        for sensor in 0..sewer.tree.sensors() {
            let state = State::beginning(DeviceStand::expected(0));
            net.add_device(&id(sensor), device.clone(), Vec::new(), Some((0, state)));
        }
        for sensor in 0..sewer.tree.sensors() {
            let Some(parent) = sewer.tree.parent(sensor) else { continue };
            let (current, following) = (id(sensor), id(parent));
            let join = Join { current, following, rule: rule(of), derived: false };
            net.add_edge(&join, 0, State::default());
        }
        let mut watch = Self {
            net,
            pace: Even { interval: of.interval, delay: of.delay() },
            end: of.end(),
            units: HashMap::new(),
            links: BTreeMap::new(),
            ledger: Ledger::new(),
            told: HashMap::new(),
            retracted: 0,
            reviews: 0,
            write_units: None,
            stored: 0,
        };
        let all = (0..watch.net.len()).flat_map(|device| watch.net.units(device));
        watch.units = all.map(|unit| (watch.subject(unit), unit)).collect();
        watch
    }

    /// The same with writes priced.
    #[must_use]
    pub fn priced(self) -> Self {
        // A row for each device as it is heard first.
        Self { write_units: Some(self.net.len() as u64), ..self }
    }

    /// Watches all frames as they arrive, and the clock until the last was sent. The sensors' own clocks may
    /// be ahead of it.
    pub fn watch(&mut self, frames: &[Frame]) {
        let (end, mut swept) = (self.end, 0);
        for frame in frames {
            self.take(frame);
            if frame.arrives - swept > SWEEP * self.pace.interval && frame.arrives <= end {
                swept = frame.arrives;
                self.sweep(swept);
            }
        }
        self.sweep(end);
    }

    /// Takes a frame.
    pub fn take(&mut self, frame: &Frame) {
        let Frame { sensor, at, filling, seq, arrives } = *frame;
        let reading = Reading { at, filling, seq: Some(seq) };
        let to_store = self.write_units.map(|_| self.units_to_store(sensor, at));
        let taken = self.net.take(sensor, reading);
        if taken.arrival != Arrival::Duplicate {
            self.stored += 1;
            self.write_units = self.write_units.zip(to_store).map(|(all, it)| all + it);
        }
        taken.stale.into_iter().for_each(|unit| self.review(unit, 0, arrives));
    }

    /// What it costs to store a reading: one that is nearly too late is stored in a transaction with the
    /// rows of its machines, and one that is too late with an entry of the late list.
    fn units_to_store(&self, sensor: usize, at: i64) -> u64 {
        let nearly = self.net.nearly_late_for(sensor, at);
        if nearly.is_empty() {
            return 1;
        }
        let is_late = nearly.iter().any(|(_, passed)| *passed);
        let rows = nearly.iter().filter(|(_, passed)| !passed).map(|(unit, _)| {
            let state = match unit {
                Unit::Edge(edge) => serde_json::to_string(self.net.edge_state(*edge)),
                Unit::Device(device) => serde_json::to_string(&self.net.device_state(*device)),
            };
            row_units(state.map_or(0, |it| it.len()))
        });
        2 + 2 * u64::from(is_late) + rows.sum::<u64>()
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
        let Some(units) = self.write_units else { return };
        let row = row_units(serde_json::to_string(&review.next).map_or(0, |it| it.len()));
        let row = row + 2 * review.changes.len() as u64;
        let links = review.link.map_or(0, |since| self.link(unit, since));
        self.write_units = Some(units + row + links);
    }

    /// Links what belongs together with what was told of a machine since then, as the worker does;
    /// gives how many links are written.
    fn link(&mut self, unit: Unit, since: i64) -> u64 {
        let mut together = Together::new(|subject: &Subject| self.neighbours(subject));
        together.begin(&self.subject(unit), since);
        loop {
            let next = together.asks();
            if next.is_empty() {
                break;
            }
            for (subject, (from, to)) in next {
                let lasts = |it: &&Episode| {
                    it.opened.at <= to && it.resolved.is_none_or(|end| end.at >= from)
                };
                let Some(unit) = self.units.get(&subject) else { continue };
                let first = (*unit, (None, i64::MIN));
                let ours = self.ledger.range(first..).take_while(|it| it.0.0 == *unit);
                ours.map(|it| it.1).filter(lasts).for_each(|it| together.add(&subject, *it));
            }
        }
        let troubles = together.troubles();
        let key = |it: &Trouble| Some((*self.units.get(&it.subject)?, it.episode.key()));
        let links = causes(&troubles, &self.pace).into_iter().enumerate();
        let links: Vec<_> = links
            .filter_map(|(it, cause)| {
                Some((key(&troubles[it])?, cause.and_then(|it| key(&troubles[it]))))
            })
            .collect();
        let mut written = 0;
        for (of, cause) in links {
            let before = match cause {
                Some(cause) => self.links.insert(of, cause),
                None => self.links.remove(&of),
            };
            written += u64::from(before != cause);
        }
        written
    }

    fn neighbours(&self, subject: &Subject) -> Vec<Subject> {
        let ends = std::iter::once(subject.current()).chain(subject.following());
        let devices = ends.filter_map(|id| self.net.device(id));
        let units = devices.flat_map(|device| self.net.units(device));
        units.map(|unit| self.subject(unit)).collect()
    }

    fn tell(&mut self, unit: Unit, changes: &[Change], now: i64) {
        for change in changes {
            let key = (unit, change.key());
            match change {
                Change::Tell(episode) => {
                    self.ledger.insert(key, *episode);
                    self.told.entry(key).or_insert(now);
                }
                Change::Retract(_) => {
                    self.ledger.remove(&key);
                    self.links.remove(&key);
                    self.retracted += 1;
                }
            }
        }
    }

    /// What holds now, whatever the clock: when a silence that lasts becomes final, the clock alone
    /// tells.
    pub fn timeless(&self) -> Ledger {
        let silent = |it: &Episode| it.kind == Kind::Silence && it.resolved.is_none();
        let timeless = |it: &Episode| Episode { settled: it.settled || silent(it), ..*it };
        self.ledger.iter().map(|(key, it)| (*key, timeless(it))).collect()
    }

    /// The bytes of machines and windows, a device; and of a reading of a window.
    pub fn bytes(&self) -> [f64; 3] {
        let (hot, windows) = self.net.bytes();
        let (devices, readings) = (self.net.len() as f64, self.net.readings().max(1) as f64);
        [hot as f64 / devices, windows as f64 / devices, windows as f64 / readings]
    }

    /// How well what was told is what was there: of everything, and of causes alone.
    pub fn scores(&self, truth: &[Truth]) -> [Score; 2] {
        let told = self.told();
        [Score::of_all, Score::of_causes].map(|score| score(&told, truth, self.pace.interval))
    }

    /// All that holds now.
    fn told(&self) -> Vec<Told> {
        let troubles: Vec<_> = self
            .ledger
            .iter()
            .map(|((unit, _), it)| Trouble { subject: self.subject(*unit), episode: *it })
            .collect();
        let causes = causes(&troubles, &self.pace);
        let all = self.ledger.iter().zip(causes).filter_map(|((key, episode), cause)| {
            let wrong = match (key.0, episode.kind) {
                (Unit::Edge(edge), Kind::Obstruction) => Wrong::Obstruction(self.current(edge)?),
                (Unit::Edge(edge), _) => Wrong::Problem(self.current(edge)?),
                (Unit::Device(device), _) => Wrong::Silence(device),
            };
            let (opened, follows) = (episode.opened.at, cause.is_some());
            Some(Told { wrong, opened, first_told: *self.told.get(key)?, follows })
        });
        all.collect()
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

/// Write units of a machine's row, with a state of so many bytes, in a transaction.
fn row_units(state: usize) -> u64 {
    2 * (state + 100).div_ceil(1024) as u64
}

/// A sewer, watched from its first frame to its last.
pub fn watched(sewer: &Sewer) -> (Simulated, Watch) {
    let simulated = sewer.simulate();
    let mut watch = Watch::new(&simulated).priced();
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
        let (sewer, watch) = watched(&small(0));
        for score in watch.scores(&sewer.truth) {
            assert!(score.counts[1] >= 15, "{score:?}");
            assert!(score.precision.min(score.recall) >= 0.95, "{score:?}");
        }
    }

    #[test]
    fn what_noise_and_wrong_clocks_hide_of_a_leak_is_told_nevertheless() {
        for kind in ["noise=5", "skewed=0.5,skew_seconds=120"] {
            let sewer = Sewer { sensors: 100, readings: 400, ..small(1) };
            let (sewer, watch) = watched(&sewer.with(kind).unwrap());
            let [score, _] = watch.scores(&sewer.truth);
            assert!(score.precision.min(score.recall) >= 0.95, "{kind}: {score:?}");
        }
    }

    #[test]
    fn what_began_while_frames_were_lost_is_told_to_have_begun_then() {
        // Dated by the first word that came, two of 31 would be another's; and by the first that could be
        // compared, one of 31.
        for (seed, kind) in [(0, "lost=0.2"), (10, "lost=0.35")] {
            let sewer = Sewer { sensors: 100, readings: 400, ..small(seed) };
            let (sewer, watch) = watched(&sewer.with(kind).unwrap());
            let [score, _] = watch.scores(&sewer.truth);
            assert!(score.precision.min(score.recall) >= 0.98, "{kind}: {score:?}");
        }
    }

    #[test]
    fn frames_that_come_in_any_order_end_in_the_same_ledger() {
        // Small: to compare again all that the lateness leaves open costs the square of it.
        let tiny = Sewer { sensors: 30, readings: 120, faults: [2, 2, 2], ..small(3) };
        let (sewer, watch) = watched(&tiny);
        let mut again = Watch::new(&sewer);
        let mut frames = sewer.frames.clone();
        frames.sort_by_key(|it| {
            (it.at / 3_600_000, (it.seq as u32).wrapping_mul(0x9E37_79B9), it.sensor)
        });
        // The clock that silence is told by is no further than what may still arrive.
        frames.iter_mut().for_each(|it| it.arrives = (it.at / 3_600_000 + 1) * 3_600_000);
        again.watch(&frames);
        assert_eq!(again.timeless(), watch.timeless());
    }
}
