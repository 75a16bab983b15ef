//! A sewer in simulation: what its sensors say, and what was wrong with it in truth.
//!
//! The sensors are a tree. What flows comes down from its leaves: a daily rhythm, and rain. A wave
//! takes a while from a sensor to the next, so a sensor shows what its upstream neighbours showed
//! before. A *blockage* behind a sensor backs up to it; a *leak* before a sensor is missed there and
//! further down; a *dead* sensor says nothing. Radio frames come late and twice, and clocks are
//! wrong. All is drawn from one seed.

use std::collections::HashSet;

/// Intervals that a wave takes from a sensor to the next.
const DELAY: i64 = 3;
/// After so many intervals without a reading a sensor is silent, where few are lost.
const SILENCE: i64 = 5;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Sewer {
    /// Where all that is random comes from.
    pub seed: u64,
    /// Sensors.
    pub sensors: usize,
    /// Readings of each.
    pub readings: i64,
    /// Milliseconds between two readings of a sensor.
    pub interval: i64,
    /// Blockages, leaks and dead sensors.
    pub faults: [usize; 3],
    /// The part of the frames that come late, by up to [`late_by`](Self::late_by).
    pub late: f64,
    /// In milliseconds.
    pub late_by: i64,
    /// The part of the frames that come twice.
    pub twice: f64,
    /// The part of the frames that never come.
    pub lost: f64,
    /// The part of the sensors whose clock is wrong, by up to [`skew_by`](Self::skew_by).
    pub skewed: f64,
    /// In milliseconds.
    pub skew_by: i64,
    /// How far a reading may be from the level.
    pub noise: f64,
}

impl Default for Sewer {
    fn default() -> Self {
        Self {
            seed: 1,
            sensors: 1000,
            readings: 1440,
            interval: 60_000,
            faults: [60, 40, 40],
            late: 0.05,
            late_by: 45 * 60_000,
            twice: 0.05,
            lost: 0.01,
            skewed: 0.1,
            skew_by: 20_000,
            noise: 1.0,
        }
    }
}

/// A frame as it arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// When it arrives, in milliseconds.
    pub arrives: i64,
    /// The sensor.
    pub sensor: usize,
    /// When the sensor says that it measured, in milliseconds.
    pub at: i64,
    /// What it measured.
    pub filling: f64,
    /// The sensor's own number of the reading.
    pub seq: u64,
}

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
    /// Whether it is a cause, and does not follow from what is wrong at a neighbouring edge.
    pub cause: bool,
}

/// A simulated sewer.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// The sensor that follows each; none behind the last.
    pub parents: Vec<Option<usize>>,
    /// All frames, in the order of their arrival.
    pub frames: Vec<Frame>,
    /// What was wrong.
    pub truth: Vec<Truth>,
    /// The sewer.
    pub sewer: Sewer,
}

/// What happens at a sensor, and when, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Blockage(i64, i64),
    Leak(i64, i64),
    Dead(i64, i64),
}

/// SplitMix64 (S. Vigna's public domain generator).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.part() * limit as f64) as usize
    }

    fn around_zero(&mut self, most: f64) -> f64 {
        (self.part() * 2.0 - 1.0) * most
    }
}

impl Sewer {
    /// Simulates it.
    pub fn simulate(&self) -> Simulated {
        let mut dice = Dice(self.seed);
        let parents = self.tree(&mut dice);
        let rain = self.rain(&mut dice);
        let faults = self.faults(&parents, &mut dice);
        let lags = lags(&parents, self.delay());
        let mut frames = Vec::new();
        for sensor in 0..self.sensors {
            self.speak(sensor, &faults, &parents, &lags, &rain, &mut dice, &mut frames);
        }
        frames.sort_by_key(|frame| (frame.arrives, frame.sensor, frame.seq));
        let truth = self.truth(&parents, &faults);
        Simulated { parents, frames, truth, sewer: *self }
    }

    /// Mostly long tubes, that join now and then.
    fn tree(&self, dice: &mut Dice) -> Vec<Option<usize>> {
        let parent = |sensor: usize, dice: &mut Dice| match sensor {
            0 => None,
            _ if dice.part() < 0.9 => Some(sensor - 1),
            _ => Some(dice.below(sensor)),
        };
        (0..self.sensors).map(|sensor| parent(sensor, dice)).collect()
    }

    /// Showers: from when, and how much.
    fn rain(&self, dice: &mut Dice) -> Vec<(i64, f64)> {
        let showers = (self.readings / 300).max(1);
        let when = |dice: &mut Dice| dice.below(self.readings as usize) as i64 * self.interval;
        (0..showers).map(|_| (when(dice), 15.0 + dice.part() * 25.0)).collect()
    }

    /// The same with some settings otherwise, such as `sensors=500,noise=2,late_minutes=30`.
    ///
    /// # Errors
    /// Names the first setting that there is not, or whose value is none.
    pub fn with(mut self, settings: &str) -> Result<Self, String> {
        for setting in settings.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let value = setting.split_once('=').and_then(|it| Some((it.0, it.1.parse().ok()?)));
            let known = value.is_some_and(|(name, value)| self.set(name, value));
            if !known {
                return Err(format!(
                    "FLOTILLA_BENCH_SEWER: {setting:?} is no setting and its value"
                ));
            }
        }
        Ok(self)
    }

    /// Whether there is such a setting, and it can have this value.
    fn set(&mut self, name: &str, value: f64) -> bool {
        let (part, some) = ((0.0..=1.0).contains(&value), (0.0..=1e6).contains(&value));
        let (fits, place): (bool, &mut f64) = match name {
            "late" => (part, &mut self.late),
            "twice" => (part, &mut self.twice),
            "lost" => (part && value < 1.0, &mut self.lost),
            "skewed" => (part, &mut self.skewed),
            "noise" => (some, &mut self.noise),
            _ => return some && self.set_whole(name, value),
        };
        *place = value;
        fits
    }

    fn set_whole(&mut self, name: &str, value: f64) -> bool {
        match name {
            "sensors" => self.sensors = (value as usize).max(2),
            "readings" => self.readings = (value as i64).max(10),
            "interval_seconds" => self.interval = ((value * 1000.0) as i64).max(1000),
            "late_minutes" => self.late_by = (value * 60_000.0) as i64,
            "skew_seconds" => self.skew_by = (value * 1000.0) as i64,
            "blockages" => self.faults[0] = value as usize,
            "leaks" => self.faults[1] = value as usize,
            "dead" => self.faults[2] = value as usize,
            _ => return false,
        }
        true
    }

    /// Milliseconds that a wave takes from a sensor to the next.
    pub fn delay(&self) -> i64 {
        DELAY * self.interval
    }

    /// After so many milliseconds without a reading a sensor is silent: of all readings, fewer than
    /// one in ten such sewers are lost so often in a row.
    pub fn silence(&self) -> i64 {
        let rare = (self.sensors as f64 * self.readings as f64 * 10.0).ln() / -self.lost.ln();
        SILENCE.max(rare.ceil() as i64) * self.interval
    }

    /// How far neighbours may differ: by the noise of both, and by what a shower changes between
    /// their readings and between their clocks.
    pub fn tolerance(&self) -> f64 {
        let skew = self.skew_by as f64 / self.interval as f64;
        5.0 + 2.0 * self.noise.max(1.0) + 4.0 * (skew - 1.0).max(0.0)
    }

    /// One at most for each sensor, and none near another.
    fn faults(&self, parents: &[Option<usize>], dice: &mut Dice) -> Vec<Option<Fault>> {
        let mut faults = vec![None; self.sensors];
        let mut near: HashSet<usize> = HashSet::new();
        let begin = self.readings as usize / 10;
        for (kind, count) in self.faults.into_iter().enumerate() {
            let (mut left, mut tries) = (count, 200 * self.sensors);
            while left > 0 && tries > 0 {
                tries -= 1;
                let sensor = dice.below(self.sensors);
                let around = around(parents, sensor);
                let only = children(parents, sensor).count() == 1;
                if parents[sensor].is_none() || !only || around.iter().any(|it| near.contains(it)) {
                    continue;
                }
                let from = (begin + dice.below(self.readings as usize * 6 / 10)) as i64;
                let from = from * self.interval;
                let until = from + (30 + dice.below(120) as i64) * self.interval;
                faults[sensor] = Some(match kind {
                    0 => Fault::Blockage(from, until),
                    1 => Fault::Leak(from, until),
                    _ => Fault::Dead(from, until),
                });
                near.extend(around);
                left -= 1;
            }
        }
        faults
    }

    #[expect(clippy::too_many_arguments, reason = "all that a sensor's words depend on")]
    fn speak(
        &self,
        sensor: usize,
        faults: &[Option<Fault>],
        parents: &[Option<usize>],
        lags: &[i64],
        rain: &[(i64, f64)],
        dice: &mut Dice,
        frames: &mut Vec<Frame>,
    ) {
        let skewed = dice.part() < self.skewed;
        let skew = if skewed { dice.around_zero(self.skew_by as f64) as i64 } else { 0 };
        let leaks = upstream_leaks(parents, faults, sensor, self.delay());
        let phase = dice.below(self.interval as usize) as i64;
        for number in 0..self.readings {
            let now = number * self.interval + phase;
            let (filling, lost) = (
                level(now - lags[sensor], rain, self.interval) + dice.around_zero(self.noise),
                dice.part() < self.lost,
            );
            if lost
                || matches!(faults[sensor], Some(Fault::Dead(from, until)) if (from..until).contains(&now))
            {
                continue;
            }
            let backed_up = matches!(faults[sensor], Some(Fault::Blockage(from, until)) if (from..until).contains(&now));
            let leaked = leaks.iter().any(|(from, until)| (*from..*until).contains(&now));
            let filling = filling + f64::from(u8::from(backed_up)) * 30.0
                - f64::from(u8::from(leaked)) * 15.0;
            // A clock that is behind begins behind zero.
            let (at, seq) = ((now + skew).max(0), number as u64);
            let times = 1 + usize::from(dice.part() < self.twice);
            for _ in 0..times {
                let late = dice.part() < self.late;
                let delay = if late { dice.below(self.late_by as usize) } else { dice.below(2000) };
                frames.push(Frame { arrives: now + delay as i64, sensor, at, filling, seq });
            }
        }
    }

    fn truth(&self, parents: &[Option<usize>], faults: &[Option<Fault>]) -> Vec<Truth> {
        let mut truth = Vec::new();
        for (sensor, fault) in faults.iter().enumerate() {
            match fault {
                Some(Fault::Blockage(from, _)) => {
                    let (wrong, since) = (Wrong::Obstruction(sensor), from + self.delay());
                    truth.push(Truth { wrong, since, cause: true });
                    let behind =
                        |child| Truth { wrong: Wrong::Problem(child), since: *from, cause: false };
                    truth.extend(children(parents, sensor).map(behind));
                }
                Some(Fault::Leak(from, _)) => {
                    truth.extend(leak(parents, sensor, *from, self.delay()))
                }
                Some(Fault::Dead(from, _)) => {
                    let (wrong, since) = (Wrong::Silence(sensor), from + self.silence());
                    truth.push(Truth { wrong, since, cause: true });
                }
                None => {}
            }
        }
        truth
    }
}

/// How much later than at the farthest leaf a wave is at each sensor, in milliseconds.
fn lags(parents: &[Option<usize>], delay: i64) -> Vec<i64> {
    let mut depths = vec![0; parents.len()];
    for sensor in 0..parents.len() {
        depths[sensor] = parents[sensor].map_or(0, |parent: usize| depths[parent] + 1);
    }
    let deepest = depths.iter().copied().max().unwrap_or(0);
    depths.into_iter().map(|depth| (deepest - depth) * delay).collect()
}

fn children(parents: &[Option<usize>], sensor: usize) -> impl Iterator<Item = usize> {
    parents.iter().enumerate().filter(move |it| *it.1 == Some(sensor)).map(|it| it.0)
}

/// A sensor and those within two edges of it.
fn around(parents: &[Option<usize>], sensor: usize) -> HashSet<usize> {
    let mut near = HashSet::from([sensor]);
    for _ in 0..2 {
        let next: Vec<_> =
            near.iter().flat_map(|it| children(parents, *it).chain(parents[*it])).collect();
        near.extend(next);
    }
    near
}

/// A day's rhythm and the rain, at the farthest leaf.
fn level(at: i64, rain: &[(i64, f64)], interval: i64) -> f64 {
    let day = at as f64 / 86_400_000.0 * std::f64::consts::TAU;
    let shower = |(from, most): &(i64, f64)| {
        let readings = (at - from) as f64 / interval as f64;
        // Up in 20 readings, down in 90.
        let part = (readings / 20.0).min(1.0 - (readings - 20.0) / 90.0);
        most * part.clamp(0.0, 1.0)
    };
    40.0 + 10.0 * day.sin() + rain.iter().map(shower).sum::<f64>()
}

/// When a leak is missed at a sensor: its own, and what comes down from others'.
fn upstream_leaks(
    parents: &[Option<usize>],
    faults: &[Option<Fault>],
    sensor: usize,
    delay: i64,
) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut left = vec![(sensor, 0)];
    while let Some((at, lag)) = left.pop() {
        if let Some(Fault::Leak(from, until)) = faults[at] {
            found.push((from + lag, until + lag));
        }
        // Only along the tube: where tubes join, the others make up for it.
        let mut above = children(parents, at);
        if let (Some(one), None) = (above.next(), above.next()) {
            left.push((one, lag + delay));
        }
    }
    found
}

/// What is missed shows at the leak, and, where the tube joins another, is made up for.
fn leak(parents: &[Option<usize>], sensor: usize, from: i64, delay: i64) -> Vec<Truth> {
    let above = children(parents, sensor);
    let mut truth: Vec<_> = above
        .map(|child| Truth { wrong: Wrong::Obstruction(child), since: from, cause: true })
        .collect();
    let (mut at, mut lag) = (sensor, 0);
    while let Some(parent) = parents[at] {
        lag += delay;
        if children(parents, parent).count() > 1 {
            // Further down than the next edge there is nothing beside it that it follows from:
            // between the leak and the junction all sensors miss the same.
            let cause = at != sensor;
            truth.push(Truth { wrong: Wrong::Problem(at), since: from + lag, cause });
            break;
        }
        at = parent;
    }
    truth
}
