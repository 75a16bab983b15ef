//! A sewer in simulation: what its sensors say, and what was wrong with it in truth.
//!
//! The sensors are a tree. What flows comes down from its leaves: a daily rhythm, and rain. A wave
//! takes a while from a sensor to the next, so a sensor shows what its upstream neighbours showed
//! before. A *blockage* behind a sensor backs up to it; a *leak* before a sensor is missed there and
//! further down; a *dead* sensor says nothing: anywhere, where tubes join and at neighbouring
//! sensors, too. Radio frames come late and twice, and clocks are wrong. All is drawn from one seed.

mod dice;
mod faults;
mod tree;
mod truth;

use self::{
    dice::Dice,
    faults::{Effect, What, changed},
    truth::Known,
};
pub use self::{
    tree::Tree,
    truth::{Truth, Wrong},
};

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
    /// The part of the sensors that follow the one before: long tubes where it is near 1, a bushy
    /// tree near 0.
    pub tubes: f64,
    /// Readings of each.
    pub readings: i64,
    /// Milliseconds between two readings of a sensor.
    pub interval: i64,
    /// Blockages, leaks and dead sensors, or as many as there is room for.
    pub faults: [usize; 3],
    /// The part of the faults that are tried at a sensor beside another one's.
    pub beside: f64,
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
            tubes: 0.9,
            readings: 1440,
            interval: 60_000,
            faults: [60, 40, 40],
            beside: 0.1,
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

/// A simulated sewer.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// Which sensor follows which.
    pub tree: Tree,
    /// All frames, in the order of their arrival.
    pub frames: Vec<Frame>,
    /// What was wrong.
    pub truth: Vec<Truth>,
    /// The sewer.
    pub sewer: Sewer,
}

impl Sewer {
    /// Simulates it.
    pub fn simulate(&self) -> Simulated {
        let mut dice = Dice(self.seed);
        let tree = Tree::random(self.sensors, self.tubes, &mut dice);
        let rain = self.rain(&mut dice);
        let faults = faults::draw(self, &tree, &mut dice);
        let effects = faults::effects(&tree, &faults, self.delay());
        let (mut frames, mut last_words) = (Vec::new(), Vec::new());
        for (sensor, lag) in tree.lags().into_iter().enumerate() {
            let dead = faults[sensor].filter(|it| it.what == What::Death);
            let dead = dead.map_or((i64::MAX, i64::MAX), |it| (it.from, it.until));
            let voice = Voice { sensor, lag: lag * self.delay(), dead, effects: &effects[sensor] };
            last_words.push(self.speak(&voice, &rain, &mut dice, &mut frames));
        }
        frames.sort_by_key(|frame| (frame.arrives, frame.sensor, frame.seq));
        let known = Known {
            sewer: self,
            tree: &tree,
            faults: &faults,
            effects: &effects,
            last_words: &last_words,
        };
        let truth = known.truth();
        Simulated { tree, frames, truth, sewer: *self }
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
            "tubes" => (part, &mut self.tubes),
            "late" => (part, &mut self.late),
            "twice" => (part, &mut self.twice),
            "lost" => (part && value < 1.0, &mut self.lost),
            "skewed" => (part, &mut self.skewed),
            "beside" => (part, &mut self.beside),
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

    /// After so many milliseconds without a reading a sensor is silent: of all readings, those of one in a
    /// thousand such sewers are lost so often in a row, and its clock may be behind.
    pub fn silence(&self) -> i64 {
        let rare = (self.sensors as f64 * self.readings as f64 * 1000.0).ln() / -self.lost.ln();
        SILENCE.max(rare.ceil() as i64) * self.interval + self.wrong()
    }

    /// How far neighbours may differ: by half of what the least fault makes them differ. The other half
    /// is left to noise, and to what a shower changes between their readings and their clocks.
    pub fn tolerance(&self) -> f64 {
        faults::LEAKED / 2.0
    }

    /// How long something must be wrong, in milliseconds, before it counts: longer than a wave takes
    /// to be heard of at both ends, where so many readings are lost in a row as in one of a thousand
    /// cases, or their clocks are apart.
    pub fn debounce(&self) -> i64 {
        let lost = 1000_f64.ln() / -self.lost.ln();
        ((lost.ceil() as i64).max(2) * self.interval).max(self.clock())
    }

    /// How far two clocks may be apart, in milliseconds, and so two readings that are compared.
    pub fn clock(&self) -> i64 {
        2 * self.wrong() + self.interval
    }

    /// How far a clock may be wrong, in milliseconds.
    fn wrong(&self) -> i64 {
        if self.skewed > 0.0 { self.skew_by } else { 0 }
    }

    /// When the last reading is over, in milliseconds.
    pub fn end(&self) -> i64 {
        self.readings * self.interval
    }

    /// What must be beyond the tolerance in all before it counts: more than noise adds up to in one of
    /// ten such sewers. A cumulative sum of what comes to no more than −k a step on average, with variance
    /// v, reaches h once in exp(2kh/v) steps (D. Siegmund, Sequential Analysis, 1985). Noise within ±n has
    /// variance n²/3, and each reading is compared twice.
    pub fn sum(&self) -> f64 {
        let steps = 2.0 * self.sensors as f64 * self.readings as f64;
        let variance = 4.0 * self.noise * self.noise / 3.0;
        variance * (10.0 * steps).ln() / (2.0 * self.tolerance())
    }

    /// What comes back within so many milliseconds is the same.
    pub fn flap(&self) -> i64 {
        10 * self.interval
    }

    /// Adds what a sensor says; gives the time of its last word before it died, by its own clock.
    fn speak(
        &self,
        voice: &Voice,
        rain: &[(i64, f64)],
        dice: &mut Dice,
        frames: &mut Vec<Frame>,
    ) -> i64 {
        let Voice { sensor, lag, dead, effects } = *voice;
        let skewed = dice.part() < self.skewed;
        let skew = if skewed { dice.around_zero(self.skew_by as f64) as i64 } else { 0 };
        let phase = dice.below(self.interval as usize) as i64;
        let mut last_word = 0;
        for number in 0..self.readings {
            let now = number * self.interval + phase;
            let noise = dice.around_zero(self.noise);
            let filling = level(now - lag, rain, self.interval) + noise + changed(effects, now);
            if dice.part() < self.lost || (dead.0..dead.1).contains(&now) {
                continue;
            }
            // A clock that is behind begins behind zero.
            let (at, seq) = ((now + skew).max(0), number as u64);
            if now < dead.0 {
                last_word = at;
            }
            let times = 1 + usize::from(dice.part() < self.twice);
            for _ in 0..times {
                let late = dice.part() < self.late;
                let delay = if late { dice.below(self.late_by as usize) } else { dice.below(2000) };
                frames.push(Frame { arrives: now + delay as i64, sensor, at, filling, seq });
            }
        }
        last_word
    }
}

/// What a sensor's words depend on.
struct Voice<'s> {
    sensor: usize,
    /// How much later than at the farthest leaf a wave is here, in milliseconds.
    lag: i64,
    /// From when until when it is dead, in milliseconds.
    dead: (i64, i64),
    effects: &'s [Effect],
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
