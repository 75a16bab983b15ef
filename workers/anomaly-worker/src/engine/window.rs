//! The readings of a device that may still matter, 16 bytes each.

use crate::reading::Reading;

/// A number that is not there.
const NO_NUMBER: u32 = u32::MAX;

/// A reading by its distance from the window's begin, with a number below 2³².
#[derive(Debug, Clone, Copy, PartialEq)]
struct Packed {
    after: u32,
    seq: u32,
    filling: f64,
}

/// The readings of a device since a time, in order.
#[derive(Debug, Clone, Default)]
pub struct Window {
    begin: i64,
    packed: Vec<Packed>,
    /// What does not fit in 16 bytes: large numbers, and times far from the window's begin.
    wide: Vec<Reading>,
    newest: Option<Reading>,
    /// The highest number.
    seq: Option<u64>,
}

/// How a reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is newer than all of its device, in time and in number.
    InOrder,
    /// It is older than another, or may be a duplicate under another time.
    OutOfOrder,
    /// It was there.
    Duplicate,
}

impl Window {
    /// A window of these readings.
    pub fn of(readings: Vec<Reading>) -> Self {
        let mut window = Self::default();
        window.fill(readings);
        window
    }

    /// The newest reading.
    pub fn newest(&self) -> Option<&Reading> {
        self.newest.as_ref()
    }

    /// How many readings it holds.
    pub fn len(&self) -> usize {
        self.packed.len() + self.wide.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the readings take, without room to grow.
    pub fn bytes(&self) -> usize {
        self.packed.len() * size_of::<Packed>() + self.wide.len() * size_of::<Reading>()
    }

    /// Whether this very reading is there.
    pub fn holds(&self, reading: &Reading) -> bool {
        match self.pack(reading) {
            Some(packed) => {
                let from = self.packed.partition_point(|it| it.after < packed.after);
                let same = self.packed[from..].iter().take_while(|it| it.after == packed.after);
                same.into_iter().any(|it| *it == packed)
            }
            None => self.wide.contains(reading),
        }
    }

    /// Takes a reading.
    pub fn insert(&mut self, reading: Reading) -> Arrival {
        let in_time = self.newest.is_none_or(|newest| reading.at > newest.at);
        let in_order = in_time && reading.seq.is_none_or(|seq| Some(seq) > self.seq);
        if !in_time && self.holds(&reading) {
            return Arrival::Duplicate;
        }
        self.keep(reading);
        if in_order { Arrival::InOrder } else { Arrival::OutOfOrder }
    }

    fn keep(&mut self, reading: Reading) {
        if self.is_empty() {
            self.begin = reading.at;
        }
        match self.pack(&reading) {
            Some(packed) => {
                let at = self.packed.partition_point(|it| it.after <= packed.after);
                self.packed.insert(at, packed);
            }
            None => self.wide.push(reading),
        }
        self.seq = self.seq.max(reading.seq);
        if self.newest.is_none_or(|newest| newest.order(&reading).is_lt()) {
            self.newest = Some(reading);
        }
    }

    fn pack(&self, reading: &Reading) -> Option<Packed> {
        let seq = match reading.seq {
            None => NO_NUMBER,
            Some(seq) => u32::try_from(seq).ok().filter(|seq| *seq != NO_NUMBER)?,
        };
        let after = u32::try_from(reading.at.checked_sub(self.begin)?).ok()?;
        Some(Packed { after, seq, filling: reading.filling })
    }

    fn unpack(&self, packed: &Packed) -> Reading {
        let seq = (packed.seq != NO_NUMBER).then_some(packed.seq.into());
        Reading { at: self.begin + i64::from(packed.after), filling: packed.filling, seq }
    }

    /// The readings after this time (Unix milliseconds), in no order.
    pub fn after(&self, at: i64) -> Vec<Reading> {
        let from = self.packed.partition_point(|it| self.begin + i64::from(it.after) <= at);
        let packed = self.packed[from..].iter().map(|it| self.unpack(it));
        packed.chain(self.wide.iter().filter(|it| it.at > at).copied()).collect()
    }

    /// Forgets the readings until then (Unix milliseconds), all but the newest.
    pub fn forget(&mut self, until: i64) {
        let newest = self.newest;
        let mut kept = self.after(until);
        if kept.is_empty() {
            kept.extend(newest);
        }
        if kept.len() < self.len() {
            self.fill(kept);
        }
    }

    fn fill(&mut self, mut readings: Vec<Reading>) {
        readings.sort_unstable_by(Reading::order);
        *self = Self { packed: Vec::with_capacity(readings.len()), ..Self::default() };
        for reading in readings {
            if !self.holds(&reading) {
                self.keep(reading);
            }
        }
    }
}
