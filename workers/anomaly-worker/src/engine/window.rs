//! The readings of a device that may still matter, 16 bytes each.

use std::collections::HashSet;

use crate::reading::Reading;

/// A number that is not there.
const NO_NUMBER: u32 = u32::MAX;
/// How far below the first number others may be.
const BELOW: u64 = 1 << 30;

/// A reading by its distance from where the window's times and numbers begin.
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
    first: u64,
    packed: Vec<Packed>,
    /// What is too far from the others to fit in 16 bytes.
    wide: Box<[Reading]>,
    /// No number is higher.
    seq: Option<u64>,
}

/// Readings of a device, each later than the one before, and none twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'w> {
    begin: i64,
    packed: &'w [Packed],
}

/// How a reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is newer than all of its device, and its number is new.
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
    pub fn newest(&self) -> Option<Reading> {
        let last = self.packed.last().map(|it| it.after);
        let newest = self.packed.iter().rev().take_while(|it| Some(it.after) == last);
        let all = newest.map(|it| self.unpack(it)).chain(self.wide.iter().copied());
        all.max_by(Reading::order)
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
        size_of_val(&*self.packed) + size_of_val(&*self.wide)
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

    /// Takes a reading. The same number within `lateness` (milliseconds) may be a duplicate.
    pub fn insert(&mut self, reading: Reading, lateness: i64) -> Arrival {
        let in_time = self.newest_time().is_none_or(|newest| reading.at > newest);
        let since = reading.at.saturating_sub(lateness);
        let is_new = |seq| Some(seq) > self.seq || !self.counts_to(seq, since);
        let in_order = in_time && reading.seq.is_none_or(is_new);
        if !in_time && self.holds(&reading) {
            return Arrival::Duplicate;
        }
        let packed = self.keep(reading);
        if in_order && packed { Arrival::InOrder } else { Arrival::OutOfOrder }
    }

    /// Whether there is a reading of this number from this time on (Unix milliseconds).
    fn counts_to(&self, seq: u64, since: i64) -> bool {
        let packed = self.packed().between(since.saturating_sub(1), i64::MAX).packed;
        let known = seq.checked_sub(self.first).and_then(|it| u32::try_from(it).ok());
        known.is_some_and(|seq| packed.iter().any(|it| it.seq == seq && seq != NO_NUMBER))
            || self.wide.iter().any(|it| it.at >= since && it.seq == Some(seq))
    }

    /// The time of the newest reading, in Unix milliseconds.
    pub(super) fn newest_time(&self) -> Option<i64> {
        let packed = self.packed.last().map(|it| self.begin + i64::from(it.after));
        packed.max(self.wide.iter().map(|it| it.at).max())
    }

    /// Whether it was kept among those in order.
    fn keep(&mut self, reading: Reading) -> bool {
        if self.is_empty() {
            self.begin = reading.at;
        }
        if let (None, Some(seq)) = (self.seq, reading.seq) {
            self.first = seq.saturating_sub(BELOW);
        }
        if self.pack(&reading).is_none() {
            self.begin_anew();
        }
        self.seq = self.seq.max(reading.seq);
        let Some(packed) = self.pack(&reading) else {
            self.wide = self.wide.iter().copied().chain([reading]).collect();
            return false;
        };
        if self.packed.len() == self.packed.capacity() {
            self.packed.reserve_exact(8 + self.packed.len() / 8);
        }
        match self.packed.last().is_none_or(|last| last.after <= packed.after) {
            true => self.packed.push(packed),
            false => {
                let at = self.packed.partition_point(|it| it.after <= packed.after);
                self.packed.insert(at, packed);
            }
        }
        true
    }

    /// Has times and numbers begin where the oldest that are left do.
    fn begin_anew(&mut self) {
        let oldest = self.packed.first().map(|it| self.unpack(it));
        let moved = oldest.is_some_and(|it| {
            let far = |seq: u64| seq.saturating_sub(self.first) > 2 * BELOW;
            it.at > self.begin || it.seq.is_some_and(far)
        });
        if moved {
            self.fill(self.after(i64::MIN));
        }
    }

    fn pack(&self, reading: &Reading) -> Option<Packed> {
        let seq = match reading.seq {
            None => NO_NUMBER,
            Some(seq) => {
                let seq = u32::try_from(seq.checked_sub(self.first)?).ok();
                seq.filter(|seq| *seq != NO_NUMBER)?
            }
        };
        let after = u32::try_from(reading.at.checked_sub(self.begin)?).ok()?;
        Some(Packed { after, seq, filling: reading.filling })
    }

    fn unpack(&self, packed: &Packed) -> Reading {
        let seq = (packed.seq != NO_NUMBER).then(|| self.first + u64::from(packed.seq));
        Reading { at: self.begin + i64::from(packed.after), filling: packed.filling, seq }
    }

    /// The readings after this time (Unix milliseconds), in no order.
    pub fn after(&self, at: i64) -> Vec<Reading> {
        let from = self.packed.partition_point(|it| self.begin + i64::from(it.after) <= at);
        let packed = self.packed[from..].iter().map(|it| self.unpack(it));
        packed.chain(self.wide.iter().filter(|it| it.at > at).copied()).collect()
    }

    /// The readings after this time (Unix milliseconds), if each is later than the one before, and
    /// none can be another's duplicate.
    pub(super) fn run(&self, after: i64) -> Option<Run<'_>> {
        let run = self.packed_after(after)?;
        let mut number = None;
        let numbers_rise = run.packed.iter().all(|it| {
            let counts = it.seq != NO_NUMBER;
            let rises = !counts || number.is_none_or(|before| before < it.seq);
            number = if counts { Some(it.seq) } else { number };
            rises
        });
        let times_rise = run.packed.windows(2).all(|pair| pair[0].after < pair[1].after);
        (numbers_rise && times_rise).then_some(run)
    }

    /// The readings after this time (Unix milliseconds), if all of them are packed.
    pub(super) fn packed_after(&self, at: i64) -> Option<Run<'_>> {
        let all = self.wide.iter().all(|it| it.at <= at);
        all.then(|| self.packed().between(at, i64::MAX))
    }

    fn packed(&self) -> Run<'_> {
        Run { begin: self.begin, packed: &self.packed }
    }

    /// Forgets the readings until then (Unix milliseconds), all but the newest.
    pub fn forget(&mut self, until: i64) {
        let newest = self.newest();
        let gone = self.packed.partition_point(|it| self.begin + i64::from(it.after) <= until);
        self.packed.drain(..gone);
        if self.wide.iter().any(|it| it.at <= until) {
            self.wide = self.wide.iter().filter(|it| it.at > until).copied().collect();
        }
        if self.packed.capacity() > 2 * self.packed.len() + 64 {
            self.packed.shrink_to(self.packed.len() + self.packed.len() / 8 + 8);
        }
        if let Some(newest) = newest.filter(|_| self.is_empty()) {
            self.keep(newest);
        }
    }

    fn fill(&mut self, mut readings: Vec<Reading>) {
        readings.sort_unstable_by(Reading::order);
        let mut seen = HashSet::new();
        readings.retain(|it| seen.insert((it.at, it.seq, it.filling.to_bits())));
        let begin = readings.first().map_or(0, |it| it.at);
        let first = readings.iter().find_map(|it| it.seq).unwrap_or(0).saturating_sub(BELOW);
        let seq = self.seq.max(readings.iter().filter_map(|it| it.seq).max());
        *self = Self { begin, first, seq, ..Self::default() };
        self.packed = Vec::with_capacity(readings.len());
        let packed = readings.iter().filter_map(|it| self.pack(it)).collect();
        self.wide = readings.into_iter().filter(|it| self.pack(it).is_none()).collect();
        self.packed = packed;
    }
}

impl<'w> Run<'w> {
    /// No readings.
    pub(super) const NONE: Run<'static> = Run { begin: 0, packed: &[] };

    /// How many there are.
    pub(super) fn len(self) -> usize {
        self.packed.len()
    }

    /// Those after `from`, until `to` (Unix milliseconds). They are looked for from the newest on.
    pub(super) fn between(self, from: i64, to: i64) -> Self {
        let (from, to) = (self.place_of(from), self.place_of(to));
        Self { packed: self.packed.get(from..to).unwrap_or_default(), ..self }
    }

    /// How many are not after this time.
    fn place_of(self, at: i64) -> usize {
        let later = |it: &Packed| self.begin + i64::from(it.after) > at;
        let (mut step, mut low) = (1, self.packed.len());
        while low > 0 && later(&self.packed[low - 1]) {
            low = low.saturating_sub(step);
            step *= 2;
        }
        let high = (low + step).min(self.packed.len());
        low + self.packed[low..high].partition_point(|it| !later(it))
    }

    /// Times (Unix milliseconds) and levels.
    pub(super) fn iter(self) -> impl Iterator<Item = (i64, f64)> + 'w {
        self.packed.iter().map(move |it| (self.begin + i64::from(it.after), it.filling))
    }
}
